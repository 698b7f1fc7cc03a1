/**
 * `npm run demo`: real recorded deliveries of GitHub, badly delivered over loopback HTTP to a process that is killed
 * halfway; in the end its copy equals GitHub. Progress goes to stderr, the result to stdout.
 *
 *   --seed <n>   decides what happens (default 1)
 *   --json       the result as one line of JSON
 */
import { parseArgs } from "node:util";
import { runDemo } from "./demo.ts";
import { Progress } from "./progress.ts";
import { describeDifferences, table } from "./report.ts";

const { values } = parseArgs({
  options: { seed: { type: "string", default: "1" }, json: { type: "boolean", default: false } },
});
const seed = Number(values.seed);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed takes a whole number, not ${values.seed}`);

// So that "exit" is told, and files are removed.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

const started = performance.now();
const details = await runDemo(seed, new Progress(process.stderr));
const { result } = details;
process.stderr.write(`took ${((performance.now() - started) / 1_000).toFixed(1)} s with seed ${seed}\n`);

const lines = [...describeDifferences(details), `drift ${result.drift}`];
process.stdout.write(
  values.json ? `${JSON.stringify(result)}\n` : `\n${table(details)}\n\n${lines.join("\n")}\n`,
);
if (values.json && result.drift > 0) process.stderr.write(`${lines.join("\n")}\n`);
process.exitCode = result.drift === 0 ? 0 : 1;
