import { describe, expect, it } from "vitest";
import type { Failpoint } from "./failpoints.ts";
import { seededRandom } from "./random.ts";
import { Scenario } from "./scenario.ts";

const LEASE_MS = 500;

/** Where a worker falls asleep with something left to write. Not within a transaction: nobody else could write then. */
const points: readonly Failpoint[] = [
  "handler: before",
  "commit: before",
  "settle: before",
  "claim: before",
  "recordPage: before",
  "endPass: before",
];

describe("a worker that is suspended for longer than its lease", () => {
  it.each(points)("writes nothing when it wakes at %s (I3, I6)", { timeout: 60_000 }, async (point) => {
    await using scenario = new Scenario("sqlite", seededRandom(7));
    await scenario.start();
    const { late, successor, written } = await scenario.overtake(point, LEASE_MS);
    expect(late.refused.every((code) => code === "LEASE_LOST")).toBe(true);
    if (point === "handler: before" || point === "commit: before") expect(late.refused).not.toEqual([]);
    // Control: the one that took over did write, and goes on.
    expect(written).not.toEqual([]);
    expect(successor.alive).toBe(true);
    await late.kill();
    await successor.kill();
    await scenario.converge();
  });
});
