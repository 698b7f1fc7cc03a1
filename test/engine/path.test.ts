import { describe, expect, it } from "vitest";
import { next, notesEngine, counting } from "./notes.ts";
import { gate, signedRequest } from "./world.ts";

describe("the path from a webhook to a handler", () => {
  it("hands the fetched object over, not what the event said", async () => {
    const { copy, deliver, engine, seen, world } = notesEngine();
    world.put("n1", "from the API");
    await engine.start();
    const response = await deliver({
      id: "e1",
      type: "note.updated",
      resource: "note",
      objectId: "n1",
      data: { text: "from the event" },
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "accepted", accepted: 1, duplicates: 0, ignored: 0 });
    expect((await engine.drain()).idle).toBe(true);
    expect(copy.get("n1")?.text).toBe("from the API");
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      kind: "upsert",
      origin: "webhook",
      version: 1,
      regressed: false,
      eventCount: 1,
      attempt: 1,
      ref: { provider: "notes", connection: "default", resource: "note", id: "n1" },
    });
    expect(seen[0]?.events[0]).toMatchObject({
      id: "e1",
      type: "note.updated",
      data: { text: "from the event" },
    });
  });

  it("takes an event in before start, and handles it after", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "early");
    expect((await deliver({ resource: "note", objectId: "n1" })).status).toBe(200);
    await engine.start();
    await engine.drain();
    expect(copy.get("n1")?.text).toBe("early");
  });

  it("drops a second event of the same id (I9)", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    world.put("n1", "once");
    await engine.start();
    await deliver({ id: "e1", resource: "note", objectId: "n1" });
    await engine.drain();
    const second = await deliver({ id: "e1", resource: "note", objectId: "n1" });
    expect(await second.json()).toMatchObject({ status: "duplicate", accepted: 0, duplicates: 1 });
    await engine.drain();
    expect(world.fetches()).toBe(1);
    expect(seen).toHaveLength(1);
  });

  it("fetches for an event without an id each time, and handles what changed only", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    const unchanged = counting(engine, "change.unchanged");
    world.put("n1", "same");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(world.fetches()).toBe(2);
    expect(seen).toHaveLength(1);
    expect(unchanged()).toBe(1);
  });

  it("spends one more fetch on all events that arrive during one, and hands them all over", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    world.put("n1", "first");
    const answer = gate();
    const asked = gate();
    world.before = async () => {
      asked.open();
      await answer.opened;
    };
    await engine.start();
    await deliver({ id: "e0", resource: "note", objectId: "n1" });
    await asked.opened;
    for (let i = 1; i <= 20; i += 1) await deliver({ id: `e${i}`, resource: "note", objectId: "n1" });
    // The first fetch answers with what it read before the change.
    world.before = () => {};
    answer.open();
    await engine.drain();
    world.put("n1", "second");
    await deliver({ id: "e21", resource: "note", objectId: "n1" });
    await engine.drain();
    expect(world.fetches()).toBe(3);
    expect(seen.map((change) => change.object?.text)).toEqual(["first", "second"]);
  });

  it("ignores, and counts, an event of a resource that is not declared", async () => {
    const { deliver } = notesEngine();
    const response = await deliver({ resource: "task", objectId: "t1" });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "ignored", accepted: 0, duplicates: 0, ignored: 1 });
  });

  it("changes nothing for a delivery that is not genuine (I11)", async () => {
    const { engine, world } = notesEngine();
    world.put("n1", "secret");
    await engine.start();
    const response = await engine
      .webhook("notes")
      .fetch(signedRequest([{ resource: "note", objectId: "n1" }], "another secret"));
    expect(response.status).toBe(401);
    expect((await engine.drain()).counts).toEqual({ dirty: 0, due: 0, later: 0, leased: 0, dead: 0 });
    expect(world.fetches()).toBe(0);
  });

  it("hands a deletion over when the API says that the object is gone", async () => {
    const { copy, deliver, engine, seen, world } = notesEngine();
    world.put("n1", "short-lived");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    world.remove("n1");
    await deliver({ resource: "note", objectId: "n1", hint: "delete" });
    await engine.drain();
    expect(seen.map((change) => change.kind)).toEqual(["upsert", "delete"]);
    expect(copy.size).toBe(0);
  });

  it("hands no deletion over of an object that no handler ever saw", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    await engine.start();
    await deliver({ resource: "note", objectId: "ghost", hint: "delete" });
    expect((await engine.drain()).idle).toBe(true);
    expect(world.fetches()).toBe(1);
    expect(seen).toHaveLength(0);
  });

  it("handles a triggered object whatever its content", async () => {
    const { engine, seen, world } = notesEngine();
    world.put("n1", "same");
    await engine.start();
    await engine.trigger("notes.note", ["n1"]);
    await engine.drain();
    await engine.trigger("notes.note", ["n1"]);
    await engine.drain();
    expect(seen.map((change) => change.origin)).toEqual(["trigger", "trigger"]);
  });

  it("lists the resource for an event that names no object", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "one");
    world.put("n2", "two");
    await engine.start();
    const finished = next(engine, "pass.finished");
    expect((await deliver({ resource: "note" })).status).toBe(200);
    await finished;
    await engine.drain();
    expect([...copy.keys()].toSorted()).toEqual(["n1", "n2"]);
  });

  it("costs a storm of events one fetch an object, and one more for those that were being fetched", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    const ids = Array.from({ length: 200 }, (_, i) => `n${i}`);
    for (const id of ids) world.put(id, "still");
    const answer = gate();
    world.before = () => answer.opened;
    await engine.start();
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(ids.map((id) => deliver({ id: `${id}-${round}`, resource: "note", objectId: id })));
    }
    answer.open();
    expect((await engine.drain()).idle).toBe(true);
    expect(seen).toHaveLength(ids.length);
    expect(world.fetches()).toBeLessThanOrEqual(ids.length + 32);
  });

  it("gathers a storm into full batches where the API reads many at once", async () => {
    const { deliver, engine, seen, world } = notesEngine({ resource: { batchSize: 50 } });
    const withMany = notesEngine({ world, resource: { batchSize: 50, fetchMany: world.fetchMany } });
    const ids = Array.from({ length: 500 }, (_, i) => `n${i}`);
    for (const id of ids) world.put(id, "still");
    const answer = gate();
    world.before = () => answer.opened;
    await withMany.engine.start();
    await Promise.all(ids.map((id) => withMany.deliver({ id, resource: "note", objectId: id })));
    answer.open();
    expect((await withMany.engine.drain()).idle).toBe(true);
    expect(withMany.seen).toHaveLength(ids.length);
    expect(world.fetches()).toBeLessThanOrEqual(15);
    // The control: an engine without fetchMany asks for each.
    await engine.start();
    await Promise.all(ids.map((id) => deliver({ id, resource: "note", objectId: id })));
    await engine.drain();
    expect(seen).toHaveLength(ids.length);
    expect(world.fetches()).toBeGreaterThanOrEqual(ids.length);
  });
});
