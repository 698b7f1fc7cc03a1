import { describe, it } from "vitest";
import { describeWith } from "../../services.ts";
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

describeWith("postgres")("a worker that is suspended amid transactions that its server holds", () => {
  it("writes nothing, and is told why whatever became of them (I3)", { timeout: 60_000 }, async () => {
    await using scenario = new Scenario("postgres", seededRandom(7));
    await scenario.start();
    await scenario.overtake("settle: before", 500);
    await scenario.converge();
  });
});
