import { expect, test } from "vitest";
import { simulate } from "./simulate.ts";

test("a pause of two seconds should hold until the clock has caught up that was set back by hours, and end then", async () => {
  // Four hours in all: no fixed bound of how long an account waits is long enough.
  const { trace, violations } = await simulate(5_392, { traceLines: 100_000 });
  expect(trace.filter((line) => line.endsWith("the clock is set by -3600000 ms"))).toHaveLength(4);
  expect(violations).toEqual([]);
});
