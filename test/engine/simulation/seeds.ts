import { describe, expect, test } from "vitest";
import { simulate } from "./simulate.ts";

/** Seeds of one test: short enough for its time limit, long enough to cost nothing by itself. */
const SHARE = 100;

/** Runs seeds as tests; each that breaks an invariant is named, and `npm run simulate -- --seed N` shows it again. */
export function testSeeds(from: number, count: number): void {
  describe(`the simulation, ${count} seeds`, () => {
    for (let first = from; first < from + count; first += SHARE) {
      const last = Math.min(first + SHARE, from + count) - 1;
      test(`should keep all invariants in seeds ${first} to ${last}`, { timeout: 300_000 }, async () => {
        const broken: string[] = [];
        for (let seed = first; seed <= last; seed += 1) {
          const { violations } = await simulate(seed);
          for (const { invariant, what } of violations) broken.push(`seed ${seed}: ${invariant}: ${what}`);
        }
        expect(broken, "npm run simulate -- --seed N replays one").toEqual([]);
      });
    }
  });
}
