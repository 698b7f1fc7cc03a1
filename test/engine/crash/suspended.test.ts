import { describe, it } from "vitest";
import { seededRandom } from "./random.ts";
import { Scenario, SLEEP_POINTS } from "./scenario.ts";

describe("a worker that is suspended for longer than its lease", () => {
  // The others are left to `npm run test:crash`.
  it.each(SLEEP_POINTS.slice(0, 3))(
    "writes nothing when it wakes at %s (I3, I6)",
    { timeout: 60_000 },
    async (point) => {
      await using scenario = new Scenario("sqlite", seededRandom(7));
      await scenario.start();
      await scenario.overtake(point, 500);
      await scenario.converge();
    },
  );
});
