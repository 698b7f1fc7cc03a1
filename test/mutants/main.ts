/**
 * `npm run test:mutants [-- --only words] [-- --jobs 2]`: takes one guard after the other out of a copy of the sources,
 * and looks whether the tests notice. Ends with status 1 when one survives that should not.
 */
import { parseArgs } from "node:util";
import { allMutants, mutated, type Mutant } from "./mutant.ts";
import { TreeCopy, type TestRun } from "./tree-copy.ts";

const { values } = parseArgs({
  options: { only: { type: "string", default: "" }, jobs: { type: "string", default: "2" } },
});
/** All tests together, on a machine that has other things to do. */
const ALL_HUNG_AFTER_MS = 1_800_000;

const mutants = (await allMutants()).filter(({ name, file, guards }) =>
  `${file} ${name} ${guards}`.includes(values.only),
);
if (mutants.length === 0) throw new Error(`no mutant has ${JSON.stringify(values.only)} in it`);

const copies = Array.from({ length: Math.max(1, Number(values.jobs)) }, () => new TreeCopy());
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
process.on("exit", () => {
  for (const copy of copies) copy[Symbol.dispose]();
});

await expectTestsPass();
const survivors: Mutant[] = [];
let killed = 0;
const queue = [...mutants];
await Promise.all(copies.map(work));

const expected = survivors.filter(({ equivalent }) => equivalent !== undefined);
for (const { name, file, guards, equivalent } of survivors) {
  console.log(
    `survived: ${name} (${file}, guards ${guards})${equivalent === undefined ? "" : `: ${equivalent}`}`,
  );
}
const score = ((100 * killed) / Math.max(1, mutants.length - expected.length)).toFixed(1);
console.log(
  `${mutants.length} mutants: ${killed} killed, ${survivors.length} survived, ${expected.length} of them equivalent; score ${score} %`,
);
process.exitCode = survivors.length === expected.length ? 0 : 1;

/** The control: a test that fails by itself would kill everything. */
async function expectTestsPass(): Promise<void> {
  const files = [...new Set(mutants.flatMap(({ killedBy }) => killedBy))];
  const { outcome, report } = await copies[0]!.test(files, ALL_HUNG_AFTER_MS);
  if (outcome === "passed") return;
  throw new Error(`the tests do not pass without any mutant (${outcome}):\n${report}`);
}

async function work(copy: TreeCopy): Promise<void> {
  for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
    copy.write(mutant.file, mutated(mutant));
    const run = await copy.test(mutant.killedBy);
    copy.restore(mutant.file);
    judge(mutant, run);
  }
}

function judge(mutant: Mutant, { outcome, report, seconds }: TestRun): void {
  // Not to be told from a mutant that does not even load: then nothing was tested.
  if (outcome === "broken") throw new Error(`the mutant "${mutant.name}" does not run:\n${report}`);
  if (outcome === "passed") survivors.push(mutant);
  else killed += 1;
  const how = { passed: "SURVIVED", failed: "killed", hung: "killed (hung)" }[outcome];
  console.log(`${how.padEnd(13)} ${seconds.toFixed(0).padStart(3)} s  ${mutant.guards}: ${mutant.name}`);
}
