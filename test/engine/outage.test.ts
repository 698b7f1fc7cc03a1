import { describe, expect, it } from "vitest";
import { HttpError, RetryLaterError } from "trueup";
import { counting, next, notesEngine } from "./notes.ts";

const down = () => {
  throw new HttpError(503, "down");
};

describe("an outage of the provider", () => {
  it("makes no dead letters, and pauses the connection until a probe is answered (I5)", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    const dead = counting(engine, "change.dead");
    const ids = Array.from({ length: 20 }, (_, i) => `n${i}`);
    for (const id of ids) world.put(id, "text");
    world.before = down;
    await engine.start();
    const paused = next(engine, "connection.paused");
    await Promise.all(ids.map((id) => deliver({ resource: "note", objectId: id })));
    expect(await paused).toMatchObject({ connection: "default", reason: "HTTP_503" });
    expect((await engine.status()).pauses).toHaveLength(1);
    world.before = () => {};
    expect((await engine.drain()).idle).toBe(true);
    expect(dead()).toBe(0);
    expect(copy).toEqual(world.notes);
  });

  it("is told from one object that the API chokes on, which becomes a dead letter", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    for (const id of ["good", "bad"]) world.put(id, "text");
    world.before = (call) => {
      if (call.ids.includes("bad")) down();
    };
    await engine.start();
    const dead = next(engine, "change.dead");
    await deliver({ resource: "note", objectId: "bad" }, { resource: "note", objectId: "good" });
    expect((await dead).ref.id).toBe("bad");
    await engine.drain();
    expect([...copy.keys()]).toEqual(["good"]);
    expect((await engine.status()).pauses).toEqual([]);
  });
});

describe("a delay that somebody else chose", () => {
  it("is bounded: an absurd one neither breaks the store nor parks the object for ever (I10)", async () => {
    const { engine, seen, world } = notesEngine({
      handler: () => {
        if (seen.length === 1) throw new RetryLaterError(1e18);
      },
    });
    world.put("n1", "text");
    await engine.start();
    const failed = next(engine, "change.failed");
    await engine.trigger("notes.note", ["n1"]);
    expect((await failed).retryInMs).toBe(30 * 86_400_000);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      listed: 1,
    });
  });
});
