/** `npm run test:crash -- --cluster [--store redis] [--seed 7] [--random 100]`: so many troubles for eight processes. */
import { seededRandom } from "../crash/random.ts";
import { CLUSTER_STORES, type ClusterStoreName, startServer } from "./stores.ts";
import { Storm, TROUBLES } from "./storm.ts";

const PROCESSES = 8;
const LEASE_MS = 2_000;
const PATIENCE_MS = 60_000;
/** Of one storm; a violation costs no more than its rest. */
const TROUBLES_AT_ONCE = 25;

export interface ClusterRun {
  readonly store: string | undefined;
  readonly seed: number;
  /** Troubles on each store. */
  readonly random: number;
}

/** @returns how many violations it saw */
export async function runClusters({ random, seed: first, store }: ClusterRun): Promise<number> {
  const names = CLUSTER_STORES.filter((name) => (store ?? name) === name);
  if (names.length === 0) throw new Error(`no store for several processes is named ${store}`);
  const totals = Object.fromEntries(TROUBLES.map((trouble) => [trouble, 0]));
  let violations = 0;
  let seed = first;
  for (const name of names) {
    for (let left = random; left > 0; left -= TROUBLES_AT_ONCE) {
      const { counts, error } = await storm(name, seed, Math.min(left, TROUBLES_AT_ONCE));
      for (const trouble of TROUBLES) totals[trouble] = (totals[trouble] ?? 0) + counts[trouble];
      if (error !== undefined) {
        violations += 1;
        console.log(`VIOLATION (seed ${seed}): ${String(error.stack)}`);
      }
      seed += 1;
    }
  }
  console.log(
    `${TROUBLES.map((trouble) => `${totals[trouble]} ${trouble}`).join(", ")}: ${violations} violations`,
  );
  return violations;
}

async function storm(store: ClusterStoreName, seed: number, many: number) {
  const began = performance.now();
  const random = seededRandom(seed);
  const troubles = Array.from({ length: many }, () => TROUBLES[Math.floor(random() * TROUBLES.length)]!);
  await using server = await startServer[store]();
  await using own = new Storm({ store, server, space: "cluster", leaseMs: LEASE_MS }, random, PATIENCE_MS);
  const error = await own.run(PROCESSES, troubles).then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  const seconds = ((performance.now() - began) / 1_000).toFixed(0);
  const runs = [...own.cluster.witness.ended.values()].reduce((sum, ended) => sum + ended, 0);
  console.log(
    `${store}: ${many} troubles in ${seconds} s, ${runs} runs, ${own.cluster.witness.overtaken} overtaken (seed ${seed})`,
  );
  return { counts: own.counts, error };
}
