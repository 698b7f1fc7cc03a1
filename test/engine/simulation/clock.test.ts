import { expect, test } from "vitest";
import { simulate } from "./simulate.ts";

test(
  "what waits for a moment that a clock set back by hours has put off should come late, and come",
  { timeout: 120_000 },
  async () => {
    const options = {
      scenario: {
        store: "keyv",
        commits: false,
        receiver: false,
        schedules: false,
        queue: false,
        workers: 1,
        ticks: false,
        steps: 30,
        stalls: 0,
        clockTurns: { chance: 0.16, byMs: [-3_600_000] },
        faults: { rateLimit: 0.2, rateLimitMs: 2_000 },
        budget: "liveness",
      },
      traceLines: 100_000,
    } as const;
    let longest = 0;
    for (let seed = 1; seed <= 4; seed += 1) {
      const { trace, violations } = await simulate(seed, options);
      expect(violations, `seed ${seed}`).toEqual([]);
      longest = Math.max(longest, Number.parseFloat(trace.at(-1) ?? ""));
    }
    // The control: a pause of two seconds lasted longer than any that a clock left alone has.
    expect(longest).toBeGreaterThan(3 * 3_600_000);
  },
);
