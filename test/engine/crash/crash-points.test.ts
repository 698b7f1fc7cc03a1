import { describe, expect, it } from "vitest";
import { describeWith } from "../../services.ts";
import type { Failpoint } from "./failpoints.ts";
import { seededRandom } from "./random.ts";
import { Scenario } from "./scenario.ts";
import { crashStores, type CrashStore, type CrashStoreName } from "./stores.ts";

/** Every one of the store that people trust; of the others those at which they differ. `npm run test:crash` has all. */
const chosen: Readonly<Record<CrashStoreName, readonly Failpoint[]>> = {
  sqlite: crashStores.sqlite.points,
  postgres: [
    "append: after",
    "claim: after",
    "handler: inside commit",
    "commit: after",
    "settle: after",
    "recordPage: after",
    "statement: sent",
  ],
  "sqlite, without commit": ["handler: before", "handler: after", "settle: before", "settle: after"],
  keyv: [
    "webhook: answered",
    "append: after",
    "handler: after",
    "settle: after",
    "key: before",
    "key: after",
  ],
  redis: ["append: after", "claim: after", "handler: after", "settle: after", "recordPage: after"],
};
const RANDOM_KILLS = 4;

for (const [store, points] of Object.entries(chosen) as [CrashStoreName, readonly Failpoint[]][]) {
  const { service }: CrashStore = crashStores[store];
  const describeStore = service === undefined ? describe : describeWith(service);
  describeStore(`kill -9, over ${store}`, () => {
    it("loses nothing at any failpoint (I1, I2, I3, I4, I5, I6)", { timeout: 240_000 }, async () => {
      await using scenario = new Scenario(store, seededRandom(1));
      await scenario.start();
      const missed: string[] = [];
      for (const point of points) if (!(await scenario.dieAt(point, 1))) missed.push(point);
      expect(missed).toEqual([]);
      await scenario.converge();
    });

    it("loses nothing at any moment", { timeout: 60_000 }, async () => {
      const seed = Math.floor(Math.random() * 1_000_000);
      await using scenario = new Scenario(store, seededRandom(seed));
      await scenario.start();
      for (let kill = 0; kill < RANDOM_KILLS; kill += 1) await scenario.dieAtRandom();
      await scenario.converge();
      expect(scenario.kills, `seed ${seed}`).toBe(RANDOM_KILLS);
    });
  });
}
