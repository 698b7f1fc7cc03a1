import { describe, expect, test } from "vitest";
import { nextInterval, paceOf, pollIntervalMs, waitMs } from "../../src/core/pace.ts";
import { seeded, thrownCode } from "./fakes.ts";

const pace = paceOf({ everyMs: 60_000 });

describe("the bounds of a pace", () => {
  test("should be a quarter and twice of `every`, and not under a second", () => {
    expect(pace).toEqual({ everyMs: 60_000, minMs: 15_000, maxMs: 120_000 });
    expect(paceOf({ everyMs: 2_000 })).toMatchObject({ minMs: 1_000, maxMs: 4_000 });
    expect(paceOf({ everyMs: 300 })).toMatchObject({ minMs: 300, maxMs: 600 });
  });

  test("should be refused where `every` is not between them", () => {
    expect(thrownCode(() => paceOf({ everyMs: 100, minMs: 101 }))).toBe("OPTION_INVALID");
    expect(thrownCode(() => paceOf({ everyMs: 100, maxMs: 99 }))).toBe("OPTION_INVALID");
    expect(paceOf({ everyMs: 100, minMs: 100, maxMs: 100 })).toEqual({
      everyMs: 100,
      minMs: 100,
      maxMs: 100,
    });
  });
});

describe("the interval", () => {
  test("should shrink with each find, down to the shortest", () => {
    const intervals = [60_000];
    for (let i = 0; i < 4; i += 1) intervals.push(nextInterval(intervals.at(-1) as number, true, pace));
    expect(intervals).toEqual([60_000, 30_000, 15_000, 15_000, 15_000]);
  });

  test("should grow while there is nothing, up to the longest", () => {
    let interval = pace.minMs;
    const intervals: number[] = [];
    for (let i = 0; i < 12; i += 1) intervals.push((interval = nextInterval(interval, false, pace)));
    expect(intervals).toEqual(intervals.toSorted((a, b) => a - b));
    expect(intervals[0]).toBe(18_750);
    expect(intervals.at(-1)).toBe(120_000);
  });

  test("should fall below `every` with the first find after a long silence", () => {
    expect(nextInterval(120_000, true, pace)).toBe(30_000);
  });

  test("should be spread, within its bounds", () => {
    const random = seeded();
    const waits = Array.from({ length: 1_000 }, () => waitMs(60_000, undefined, pace, random));
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(54_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(66_000);
    expect(new Set(waits).size).toBeGreaterThan(500);
    expect(waitMs(120_000, undefined, pace, () => 0.999)).toBe(120_000);
    expect(waitMs(15_000, undefined, pace, () => 0)).toBe(15_000);
  });

  test("should never be shorter than what the provider asked for, which is bounded in turn", () => {
    expect(waitMs(15_000, 300_000, pace, () => 0.5)).toBe(300_000);
    expect(waitMs(60_000, 1_000, pace, () => 0.5)).toBe(60_000);
    expect(waitMs(15_000, 1e15, pace, () => 0.5)).toBe(86_400_000);
  });
});

test("X-Poll-Interval should be read in seconds, and as nothing where it is none", () => {
  expect(pollIntervalMs({ "x-poll-interval": "60" })).toBe(60_000);
  for (const value of ["", "-1", "1.5", "1e9", "60s", "99999999999", "Infinity"])
    expect(pollIntervalMs({ "x-poll-interval": value })).toBeUndefined();
  expect(pollIntervalMs({})).toBeUndefined();
});
