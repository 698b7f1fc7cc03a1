import { describe, expect, test } from "vitest";
import { AHEAD_MS, Throughput } from "../../src/core/throughput.ts";

/** What is worth leasing after each of some spans of time, in which so much was done. */
function after(...spans: readonly (readonly [ms: number, done: number])[]): number[] {
  const throughput = new Throughput(1_000);
  let now = 1_000;
  return spans.map(([ms, done]) => {
    now += ms;
    throughput.add(done);
    return throughput.ahead(now);
  });
}

describe("what is worth leasing at once", () => {
  test("should be nothing before anything is known", () => {
    expect(after([0, 0], [5, 64], [AHEAD_MS - 6, 64])).toEqual([0, 0, 0]);
  });

  test("should be what gets done in the time for which work is leased ahead", () => {
    expect(after([AHEAD_MS, 100])).toEqual([100]);
    expect(after([4 * AHEAD_MS, 100])).toEqual([25]);
    expect(after([1_000, 30])).toEqual([0]); // an API that takes a second for each slot
  });

  test("should not grow beyond what a turn of the event loop can take", () => {
    expect(after([AHEAD_MS, 100_000])).toEqual([1024]);
  });

  test("should follow what was done last", () => {
    expect(after([AHEAD_MS, 200], [AHEAD_MS, 40], [AHEAD_MS - 1, 200], [1, 0])).toEqual([200, 40, 40, 200]);
  });

  test("should not be judged while a claim's objects are all still under way, unless that takes long", () => {
    expect(after([AHEAD_MS, 200], [3 * AHEAD_MS, 0], [AHEAD_MS, 100])).toEqual([200, 200, 25]);
    expect(after([AHEAD_MS, 200], [10 * AHEAD_MS, 0])).toEqual([200, 0]);
  });

  test("should be forgotten when something goes wrong", () => {
    const throughput = new Throughput(0);
    throughput.add(200);
    expect(throughput.ahead(AHEAD_MS)).toBe(200);
    throughput.add(50);
    throughput.reset(AHEAD_MS);
    expect(throughput.ahead(2 * AHEAD_MS)).toBe(0);
  });
});
