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
    deadlines.run(timeoutMs, "API_TIMEOUT", () => "fetching crm.contact/1", (given) => {
      signal = given;
      return work();
    });
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

describe("aborting", () => {
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
