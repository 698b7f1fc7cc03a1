import { describe, expect, onTestFinished, test } from "vitest";
import { testEngine } from "trueup/testing";
import { notesProvider, World } from "./world.ts";

const TIMEOUT_MS = 5_000;

/** An engine whose user's list of connections hangs, until it is mended. */
function setup() {
  const world = new World();
  world.put("n1", "text");
  let hangs = true;
  const bench = testEngine({
    providers: [notesProvider(world)],
    connections: {
      get: (_provider, id) => ({ id, credentials: {} }),
      list: () => (hangs ? new Promise<never>(() => {}) : ["default"]),
    },
    fetchTimeoutMs: TIMEOUT_MS,
  });
  onTestFinished(() => bench.engine.stop());
  bench.engine.handle("notes.note", () => {});
  return { ...bench, mend: () => (hangs = false), world };
}

describe("a `connections.list` that hangs", () => {
  test.each(["*", undefined])("should be an error of a pass over %j after a time", async (connection) => {
    const { clock, engine, mend } = setup();
    const calls = Promise.allSettled([
      engine.reconcile("notes.note", { mode: "full", connection }),
      engine.verify("notes.note", { connection }),
    ]);
    await clock.settle();
    await clock.advance(TIMEOUT_MS);
    const reason = {
      code: "API_TIMEOUT",
      message: '`connections.list` of "notes" did not end within 5000 ms',
    };
    expect(await calls).toMatchObject([{ reason }, { reason }]);
    mend();
    expect(await engine.reconcile("notes.note", { mode: "full", connection })).toMatchObject({ listed: 1 });
  });

  test("should be no longer waited for than the caller of a pass does", async () => {
    const { clock, engine } = setup();
    const given = new AbortController();
    const pass = engine.reconcile("notes.note", { mode: "full", signal: given.signal });
    const timed = engine.reconcile("notes.note", { mode: "full", connection: "*", timeoutMs: 100 });
    const verified = engine.verify("notes.note", { timeoutMs: 100 });
    const refused = verified.catch((error: unknown) => error);
    await clock.settle();
    given.abort();
    expect(await pass).toMatchObject({ complete: false, pages: 0 });
    await clock.advance(100);
    expect(await timed).toMatchObject({ complete: false, connection: "*" });
    expect(await refused).toMatchObject({ code: "API_TIMEOUT" });
  });

  test("should not keep the schedules from the passes that come after it", async () => {
    const { clock, engine, mend, told, world } = setup();
    engine.schedule("notes.note", { every: "1m", mode: "full" });
    await engine.start();
    await clock.settle();
    await clock.advance(TIMEOUT_MS);
    expect(told.filter(({ name }) => name === "error")).toMatchObject([
      { event: { during: "listing the connections of notes", error: { code: "API_TIMEOUT" } } },
    ]);
    mend();
    await clock.advance(60_000);
    expect(world.calls.length).toBeGreaterThan(0);
  });

  test("should keep no engine from stopping, nor a timer alive in it", async () => {
    const { clock, engine, told } = setup();
    engine.schedule("notes.note", { every: "1m", mode: "full" });
    await engine.start();
    await clock.settle();
    const triggered = engine.trigger("notes.note", ["n1"]).catch((error: unknown) => error);
    await clock.settle();
    await engine.stop();
    expect(await triggered).toMatchObject({ code: "STOPPED" });
    await clock.settle();
    expect(clock.pendingTimers).toBe(0);
    expect(told.filter(({ name }) => name === "error")).toEqual([]);
  });
});
