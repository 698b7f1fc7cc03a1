import { describe, expect, test } from "vitest";
import { TrueupError } from "../../src/core/errors.ts";
import { createSettle } from "../../src/core/settler.ts";
import type { Settlement, SettleOutcome, WorkSession } from "../../src/core/store.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { claimOf, recording } from "./fakes.ts";

const done = (key: number): Settlement => ({ claim: claimOf({ key }), kind: "done", index: null });

/** A session that fails as often as it is told to. */
function setup(failures: Error[] = []) {
  const clock = new TestClock();
  const { hooks, told } = recording();
  const calls: number[][] = [];
  const session = {
    settle: async (settlements: readonly Settlement[]): Promise<SettleOutcome[]> => {
      calls.push(settlements.map(({ claim }) => claim.key));
      const error = failures.shift();
      if (error !== undefined) throw error;
      return settlements.map(({ claim }) => (claim.key === 2 ? "dirty" : "settled"));
    },
  } as Partial<WorkSession<unknown>> as WorkSession<unknown>;
  const ended = new AbortController();
  return { calls, clock, ended, settle: createSettle(session, clock, hooks, ended.signal), told };
}

const broken = () => new TrueupError("STORE_FAILED", "the database is busy");

describe("settling", () => {
  test("should be one write for all claims of a turn, each with its own outcome", async () => {
    const { calls, settle, told } = setup();
    expect(await Promise.all([settle(done(1)), settle(done(2))])).toEqual(["settled", "dirty"]);
    expect(calls).toEqual([[1, 2]]);
    expect(told.error).toEqual([]);
  });

  test("should be tried again for a while when the store fails, and tell each time", async () => {
    const { calls, clock, settle, told } = setup([broken(), broken(), broken()]);
    const settled = settle(done(1));
    await clock.advance(50 + 200 + 999);
    expect(calls).toHaveLength(3);
    await clock.advance(1);
    expect(await settled).toBe("settled");
    expect(told.error).toHaveLength(3);
    expect(told.error[0]).toMatchObject({ during: "settling", error: { code: "STORE_FAILED" } });
  });

  test("should be tried for as long as the shift lasts, since the lease does too (I2)", async () => {
    const { calls, clock, settle } = setup(Array.from({ length: 9 }, broken));
    const settled = settle(done(1));
    await clock.advance(60_000);
    expect(await settled).toBe("settled");
    expect(calls).toHaveLength(10);
  });

  test("should be given up when the shift ends, after one more try", async () => {
    const { calls, clock, ended, settle } = setup(Array.from({ length: 9 }, broken));
    const settled = Promise.all([settle(done(1)), settle(done(2))]);
    await clock.advance(10);
    ended.abort(new Error("over"));
    expect(await settled).toEqual(["lost", "lost"]);
    expect(calls).toHaveLength(2);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should be given up at once when another process took the store over (I3)", async () => {
    const { calls, clock, settle } = setup([new TrueupError("STORE_LOST", "taken over")]);
    expect(await settle(done(1))).toBe("lost");
    expect([calls.length, clock.pendingTimers]).toEqual([1, 0]);
  });
});
