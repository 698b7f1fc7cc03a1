import { describe, expect, test } from "vitest";
import { Deadlines } from "../../src/core/deadline.ts";
import { TrueupError } from "../../src/core/errors.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { gate, rejection } from "./fakes.ts";

function setup() {
  const clock = new TestClock();
  const deadlines = new Deadlines(clock);
  let signal: AbortSignal | undefined;
  const run = async <T>(work: () => T | Promise<T>, timeoutMs = 1_000) =>
    deadlines.run(
      timeoutMs,
      "API_TIMEOUT",
      () => "fetching crm.contact/1",
      (given) => {
        signal = given;
        return work();
      },
    );
  return { clock, deadlines, run, signal: () => signal as AbortSignal };
}

describe("a call in time", () => {
  test("should give its result, and leave no timer behind", async () => {
    const { clock, run, signal } = setup();
    expect(await run(async () => "fetched")).toBe("fetched");
    expect(await run(() => "at once")).toBe("at once");
    expect(clock.pendingTimers).toBe(0);
    expect(signal().aborted).toBe(false);
  });

  test("should give its error, whether thrown now or later", async () => {
    const { clock, run } = setup();
    const boom = new Error("boom");
    const now = run(() => {
      throw boom;
    });
    const later = run(async () => {
      throw boom;
    });
    expect([await rejection(now), await rejection(later)]).toEqual([boom, boom]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should make an error of what is none", async () => {
    const { run } = setup();
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- what users do
    expect(await rejection(run(() => Promise.reject("text")))).toMatchObject({ code: "HANDLER_FAILED" });
  });
});

describe("a call that takes too long", () => {
  test("should be rejected at its deadline, and not before, with its signal aborted", async () => {
    const { clock, run, signal } = setup();
    const ended = rejection(run(() => new Promise<never>(() => {})));
    await clock.advance(999);
    expect(signal().aborted).toBe(false);
    await clock.advance(1);
    const error = await ended;
    expect(error).toMatchObject({
      code: "API_TIMEOUT",
      message: "fetching crm.contact/1 did not end within 1000 ms",
    });
    expect(signal().reason).toBe(error);
    expect(clock.pendingTimers).toBe(0);
  });

  test.each(["a result", "an error"])("should have %s ignored that comes late", async (what) => {
    const { clock, run } = setup();
    const late = gate<string>();
    const ended = rejection(run(() => late.promise));
    await clock.advance(1_000);
    if (what === "a result") late.open("late");
    else late.fail(new Error("late"));
    await clock.settle();
    expect(await ended).toMatchObject({ code: "API_TIMEOUT" });
  });
});

describe("many calls", () => {
  test("should share one timer, and have none while they end within the turn in which they began", async () => {
    const { clock, run } = setup();
    const timers: number[] = [];
    const set = clock.setTimer;
    Object.assign(clock, {
      setTimer: (callback: () => void, delayMs: number) => {
        timers.push(delayMs);
        return set(callback, delayMs);
      },
    });
    await Promise.all(Array.from({ length: 50 }, () => run(async () => "quick")));
    await clock.settle();
    expect(timers).toEqual([]);
    const slow = gate();
    const calls = Array.from({ length: 50 }, () => run(() => slow.promise));
    await clock.settle();
    expect([timers, clock.pendingTimers]).toEqual([[1_000], 1]);
    slow.open();
    await Promise.all(calls);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should each end at their own deadline, whichever began first", async () => {
    const { clock, run } = setup();
    const ended: string[] = [];
    const late = (name: string, timeoutMs: number) =>
      run(() => new Promise<never>(() => {}), timeoutMs).catch(
        () => void ended.push(`${name} at ${clock.monotonic()}`),
      );
    void late("long", 1_000);
    await clock.settle();
    await clock.advance(50);
    void late("short", 300);
    void late("long too", 1_000);
    await clock.advance(299);
    expect(ended).toEqual([]);
    await clock.advance(1_000);
    expect(ended).toEqual(["short at 350", "long at 1000", "long too at 1050"]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should not miss theirs where that of a call which has ended was the next", async () => {
    const { clock, run } = setup();
    const quick = gate();
    const passing = run(() => quick.promise, 100);
    const ended = rejection(run(() => new Promise<never>(() => {}), 1_000));
    await clock.settle();
    quick.open();
    await passing;
    await clock.advance(999);
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(1);
    expect(await ended).toMatchObject({ code: "API_TIMEOUT" });
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("aborting", () => {
  test("should end what was beginning meanwhile", async () => {
    const { clock, deadlines, run, signal } = setup();
    const reason = new Error("stop");
    const ended = run(() => {
      deadlines.abort(reason);
      return gate().promise;
    });
    expect([await rejection(ended), signal().reason]).toEqual([reason, reason]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should end all that runs with its reason, and refuse what comes", async () => {
    const { clock, deadlines, run, signal } = setup();
    const reason = new TrueupError("STOPPED", "the engine is stopping");
    const ended = [rejection(run(() => gate().promise)), rejection(run(() => gate().promise))];
    deadlines.abort(reason);
    expect(await Promise.all(ended)).toEqual([reason, reason]);
    expect(signal().reason).toBe(reason);
    let called = false;
    const refused = run(() => {
      called = true;
    });
    expect([await rejection(refused), called]).toEqual([reason, false]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should not touch what has ended", async () => {
    const { deadlines, run, signal } = setup();
    await run(() => "done");
    deadlines.abort(new Error("stop"));
    expect(signal().aborted).toBe(false);
  });
});
