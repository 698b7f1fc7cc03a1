import { describe, expect, test } from "vitest";
import { HttpError, RateLimitError, TrueupError } from "trueup";
import { counting, timedEngine } from "./notes.ts";

/** Attempts of the engine of these tests. */
const ATTEMPTS = 3;

describe("what is no attempt (I13)", () => {
  test.each([
    ["rate limits", () => new RateLimitError(1_000, "slow down"), 1_000],
    ["refused credentials", () => new TrueupError("UNAUTHORIZED", "no"), 3_600_000],
  ])("should be, of %s, any number", async (_, failure, pauseMs) => {
    const { deliver, engine, pass, seen, world } = timedEngine();
    const dead = counting(engine, "change.dead");
    world.put("n1", "text");
    let failures = 4 * ATTEMPTS;
    world.before = () => {
      failures -= 1;
      if (failures >= 0) throw failure();
    };
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    for (let i = 0; i < 5 * ATTEMPTS && seen.length === 0; i += 1) await pass(pauseMs + 60_000);
    expect(failures).toBe(-1);
    expect(dead()).toBe(0);
    expect(seen.map(({ attempt }) => attempt)).toEqual([1]);
  });
});

describe("what is no outage (I10)", () => {
  test("should be failures with answers between them, however many", async () => {
    const { copy, deliver, engine, pass, world } = timedEngine();
    const paused = counting(engine, "connection.paused");
    await engine.start();
    for (let i = 0; i < 3 * ATTEMPTS; i += 1) {
      let fails = true;
      world.before = () => {
        if (!fails) return;
        fails = false;
        throw new HttpError(503, "down");
      };
      world.put(`n${i}`, "text");
      await deliver({ resource: "note", objectId: `n${i}` });
      await pass(10);
    }
    expect(copy).toEqual(world.notes);
    expect(paused()).toBe(0);
  });

  test("should be what handlers throw, though it looks like one", async () => {
    const { engine, pass, world } = timedEngine({
      handler: () => {
        throw new TrueupError("NETWORK", "of the user's own database");
      },
    });
    const [dead, paused] = [counting(engine, "change.dead"), counting(engine, "connection.paused")];
    for (let i = 0; i < 2 * ATTEMPTS; i += 1) world.put(`n${i}`, "text");
    // Rows of a list: no fetch of theirs is answered between the failures.
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.start();
    await pass(1_000);
    expect([dead(), paused()]).toEqual([2 * ATTEMPTS, 0]);
  });
});
