import { describe, expect, test } from "vitest";
import { brokenVariants } from "./broken.ts";
import { simulate } from "./simulate.ts";

/** In so many seeds each variant has to be caught. */
const SEEDS = 100;

describe("the simulation", () => {
  for (const { breaks, name, options, says = /./ } of brokenVariants) {
    test(`should catch ${name}`, { timeout: 180_000 }, async () => {
      for (let seed = 1; seed <= SEEDS; seed += 1) {
        const { violations } = await simulate(seed, options());
        if (violations.length === 0) continue;
        const broken = violations.filter(
          ({ invariant, what }) => breaks.includes(invariant) && says.test(what),
        );
        if (broken.length > 0) return;
      }
      expect.unreachable(`not caught within ${SEEDS} seeds`);
    });
  }
});
