/** `npm run bench [-- ingest drain reconcile storm sources queues-postgres queues-redis scaling] [-- --rounds 5]` */
import { parseArgs } from "node:util";
import { claimLanes } from "./claim-lanes.ts";
import { drain } from "./drain.ts";
import { ingest } from "./ingest.ts";
import { queuesPostgres } from "./queues-postgres.ts";
import { reconcile } from "./reconcile.ts";
import { queuesRedis } from "./queues-redis.ts";
import { printRows, type Row } from "./report.ts";
import { scaling } from "./scaling.ts";
import { sources } from "./sources.ts";
import { storm } from "./storm.ts";

const scenarios: Readonly<Record<string, (rounds: number) => Promise<Row[]>>> = {
  ingest,
  drain,
  storm,
  reconcile,
  "claim-lanes": claimLanes,
  "queues-postgres": queuesPostgres,
  sources,
  "queues-redis": queuesRedis,
  scaling,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "5" } },
});
const chosen = positionals.length === 0 ? Object.keys(scenarios) : positionals;
const unknown = chosen.filter((name) => scenarios[name] === undefined);
if (unknown.length > 0)
  throw new Error(
    `no benchmark is named ${unknown.join(", ")}; there are ${Object.keys(scenarios).join(", ")}`,
  );

console.log(
  `Medians of ${values.rounds} rounds; "×" is the median ratio of paired rounds, trueup to what it stands beside.`,
);
for (const name of chosen) {
  console.log(`\n${name}`);
  printRows(await scenarios[name]!(Number(values.rounds)));
}
