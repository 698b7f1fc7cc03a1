import { describe, expect, it, onTestFinished } from "vitest";
import { queueSource } from "trueup";
import { createChange, TestClock, testEngine } from "trueup/testing";
import { notesProvider, World } from "../engine/world.ts";
import { MemoryQueue } from "../sources/queue/memory-queue.ts";

describe("testEngine", () => {
  it("lets virtual time pass until the work is done, however long its delays are", async () => {
    const world = new World();
    const { clock, deliver, engine, settled, told } = testEngine({
      providers: [notesProvider(world, { freshness: { firstRetryMs: 60_000, believeAfterMs: 600_000 } })],
    });
    onTestFinished(() => engine.stop());
    const seen: string[] = [];
    engine.handle("notes.note", (change) => void seen.push(change.kind));
    await engine.start();
    const startedAt = clock.monotonic();
    const answered = deliver("notes", [{ resource: "note", objectId: "n1", hint: "upsert" }]);
    await clock.advance(90_000);
    expect((await answered).status).toBe("retry"); // the store survives nothing, and nothing was handled in time
    world.put("n1", "late");
    await settled();
    expect(seen).toEqual(["upsert"]);
    expect(clock.monotonic() - startedAt).toBeGreaterThanOrEqual(120_000);
    expect(told.filter(({ name }) => name === "change.lagging").length).toBeGreaterThan(0);
  });

  it("lends its clock to sources, so that leases and pauses pass in virtual time", async () => {
    const world = new World();
    world.put("n1", "queued");
    const queue = new MemoryQueue(new TestClock(), { waits: false });
    const { clock, engine, told } = testEngine({
      providers: [notesProvider(world)],
      sources: [
        queueSource("memory", queue, { provider: "notes" }, { idle: { minMs: 60_000, maxMs: 60_000 } }),
      ],
    });
    onTestFinished(() => engine.stop());
    engine.handle("notes.note", () => {});
    await engine.start();
    await clock.settle();
    queue.send("m_1", JSON.stringify([{ resource: "note", objectId: "n1" }]));
    await clock.advance(40_000);
    expect(queue.stored.size).toBe(1);
    await clock.advance(20_000);
    expect(queue.stored.size).toBe(0);
    expect(told).toContainEqual(
      expect.objectContaining({
        name: "delivery",
        event: expect.objectContaining({ origin: "queue", status: "accepted" }),
      }),
    );
  });

  it("says what is left when the work does not end", async () => {
    const world = new World();
    const { deliver, engine, settled } = testEngine({
      providers: [notesProvider(world)],
      retry: { attempts: 1_000 },
    });
    onTestFinished(() => engine.stop());
    engine.handle("notes.note", () => {
      throw new Error("never");
    });
    world.put("n1", "hopeless");
    await engine.start();
    void deliver("notes", [{ resource: "note", objectId: "n1" }]);
    await expect(settled(600_000)).rejects.toMatchObject({ code: "API_TIMEOUT" });
  });
});

describe("createChange", () => {
  it("makes an upsert of an object, and a deletion without one", () => {
    expect(createChange({ object: { id: "c_1" } })).toMatchObject({
      kind: "upsert",
      object: { id: "c_1" },
      attempt: 1,
    });
    expect(createChange({ ref: { id: "c_1" } })).toMatchObject({ kind: "delete", ref: { id: "c_1" } });
  });

  it("commits with the given transaction, once", async () => {
    const change = createChange({ object: { id: "c_1" }, tx: { log: [] as string[] } });
    expect(await change.commit((tx) => tx.log.push("written"))).toBe(1);
    await expect(change.commit(() => {})).rejects.toMatchObject({ code: "COMMIT_TWICE" });
  });
});
