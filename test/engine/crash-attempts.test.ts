import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { sqliteStore } from "trueup/sqlite";
import { next, notesEngine, silent, temporaryDirectory } from "./notes.ts";
import { World } from "./world.ts";

const clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback: () => void, delayMs: number) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** A process that claims what is there and then ends, as a crash ends it: without giving anything back. */
async function crashWith(path: string, id: string): Promise<void> {
  const store = sqliteStore({ path });
  await store.open({ clock, random: () => 0, logger: silent, eventTtlMs: 60_000, maxEventsPerChange: 10 });
  const ref = { provider: "notes", connection: "default", resource: "note", id };
  await store.append([{ ref, origin: "webhook", lane: "live" }]);
  const session = await store.work({ leaseMs: 30_000 });
  expect(await session.claim({ provider: "notes", resource: "note", limit: 1 })).toMatchObject([
    { attempt: 1 },
  ]);
  await store.close();
}

describe("work in which the process ended each time", () => {
  it.each([
    ["an object", "n1"],
    ["a whole resource", ""],
  ])("is a dead letter once its attempts are used up, and runs no more (I10): %s", async (_, id) => {
    const path = join(temporaryDirectory(), "sync.db");
    await crashWith(path, id);
    const { engine, seen, world } = notesEngine({
      path,
      world: new World(),
      engine: { retry: { attempts: 1 } },
    });
    world.put("n1", "text");
    const dead = next(engine, "change.dead");
    await engine.start();
    expect((await dead).error).toMatchObject({ code: "ATTEMPTS_EXHAUSTED" });
    expect(seen).toEqual([]);
    expect(world.calls).toEqual([]);
  });

  it("goes on while attempts are left (the control)", async () => {
    const path = join(temporaryDirectory(), "sync.db");
    await crashWith(path, "n1");
    const { engine, seen, world } = notesEngine({ path, engine: { retry: { attempts: 2 } } });
    world.put("n1", "text");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(seen.map((change) => change.attempt)).toEqual([2]);
  });
});
