/**
 * `npm run test:crash [-- --store sqlite] [-- --seed 7] [-- --random 100]`: every failpoint of every store, the first
 * time it is passed and some time later, and then so many moments at random for each store. A violation prints the seed
 * of its scenario; the last line counts. With `--cluster`: eight processes on each store that several share (see ../cluster/).
 */
import { parseArgs } from "node:util";
import { runClusters } from "../cluster/main.ts";
import { seededRandom } from "./random.ts";
import { Scenario, SLEEP_POINTS } from "./scenario.ts";
import { crashStores, type CrashStoreName } from "./stores.ts";

const { values } = parseArgs({
  options: {
    store: { type: "string" },
    seed: { type: "string", default: "1" },
    random: { type: "string", default: "100" },
    cluster: { type: "boolean", default: false },
  },
});
if (values.cluster) {
  const violations = await runClusters({
    store: values.store,
    seed: Number(values.seed),
    random: Number(values.random),
  });
  process.exit(violations === 0 ? 0 : 1);
}
const names = (Object.keys(crashStores) as CrashStoreName[]).filter(
  (name) => (values.store ?? name) === name,
);
if (names.length === 0) throw new Error(`no store is named ${values.store}`);

/** Lives of one scenario; a violation costs no more than its rest. */
const LIVES = 25;
/** The latest time at which a failpoint is aimed at. */
const LATEST_HIT = 6;

let seed = Number(values.seed);
let kills = 0;
let violations = 0;

for (const store of names) {
  const { points } = crashStores[store];
  for (let at = 0; at < points.length; at += LIVES) {
    await lives(store, "the first time", async (scenario) => {
      for (const point of points.slice(at, at + LIVES)) {
        if (!(await scenario.dieAt(point, 1))) throw new Error(`nothing came by "${point}"`);
      }
    });
    await lives(store, "later", async (scenario, random) => {
      for (const point of points.slice(at, at + LIVES)) {
        await scenario.dieAt(point, 2 + Math.floor(random() * (LATEST_HIT - 1)));
      }
    });
  }
  if (store === "sqlite" || store === "postgres") {
    for (const point of SLEEP_POINTS)
      await lives(store, `asleep at ${point}`, (scenario) => scenario.overtake(point, 500));
  }
  for (let left = Number(values.random); left > 0; left -= LIVES) {
    await lives(store, "at random moments", async (scenario) => {
      for (let life = 0; life < Math.min(left, LIVES); life += 1) await scenario.dieAtRandom();
    });
  }
}
console.log(`${kills} kills, ${violations} violations`);
process.exitCode = violations === 0 ? 0 : 1;

async function lives(
  store: CrashStoreName,
  when: string,
  live: (scenario: Scenario, random: () => number) => Promise<void>,
): Promise<void> {
  const began = performance.now();
  const random = seededRandom(seed);
  await using scenario = new Scenario(store, random);
  try {
    await scenario.start();
    await live(scenario, random);
    await scenario.converge();
  } catch (error) {
    violations += 1;
    console.log(
      `VIOLATION (seed ${seed}, after ${scenario.trace.join(", ")}): ${String((error as Error).stack)}`,
    );
  }
  kills += scenario.kills;
  const seconds = ((performance.now() - began) / 1_000).toFixed(0);
  console.log(`${store}, ${when}: ${scenario.kills} kills in ${seconds} s (seed ${seed})`);
  seed += 1;
}
