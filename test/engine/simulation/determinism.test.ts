import { describe, expect, test } from "vitest";
import { simulate } from "./simulate.ts";

describe("a seed", () => {
  test(
    "should decide everything: two runs of it have the same trace, whatever ran between them",
    { timeout: 60_000 },
    async () => {
      const seeds = Array.from({ length: 15 }, (_, i) => 5_000 + i);
      const first: string[] = [];
      for (const seed of seeds) first.push((await simulate(seed)).hash);
      const again = new Map<number, string>();
      for (const seed of seeds.toReversed()) again.set(seed, (await simulate(seed, { traceLines: 10 })).hash);
      expect(seeds.map((seed) => again.get(seed))).toEqual(first);
      expect(new Set(first).size).toBe(seeds.length); // the control: another seed has another
    },
  );

  test("should bring crashes, and work that is done all the same", { timeout: 60_000 }, async () => {
    let crashes = 0;
    let handed = 0;
    for (let seed = 6_000; seed < 6_020; seed += 1) {
      const result = await simulate(seed);
      crashes += result.crashes;
      handed += result.handed;
    }
    expect(crashes).toBeGreaterThan(20);
    expect(handed).toBeGreaterThan(100);
  });
});
