import * as fc from "fast-check";
import { it } from "vitest";
import { Driver, type ModelOptions } from "./driver.ts";
import { rounds, type Operation } from "./operations.ts";

/** More runs, or a run again: `TRUEUP_MODEL_RUNS=20000 TRUEUP_MODEL_SEED=7 npm test -- test/stores/sqlite-model`. */
const RUNS = Number(process.env["TRUEUP_MODEL_RUNS"]);
const SEED = Number(process.env["TRUEUP_MODEL_SEED"] ?? 1);

/** For one run, which takes well under a second. */
const PATIENCE_MS = 10_000;

/** Draws runs of operations, and compares all that the store answers with the model of its contract. */
export function testAgainstModel<Tx>(name: string, options: ModelOptions<Tx>): void {
  const numRuns = RUNS || (options.runs ?? 200);
  it(
    `${name} answers as the model of its contract allows`,
    async () => {
      const property = fc.asyncProperty(rounds, (drawn) => runOnce(options, drawn));
      await fc.assert(property, {
        numRuns,
        seed: SEED,
        endOnFailure: process.env["TRUEUP_MODEL_RAW"] !== undefined,
      });
    },
    60_000 + numRuns * 1_000,
  );
}

async function runOnce<Tx>(options: ModelOptions<Tx>, drawn: readonly Operation[][]): Promise<void> {
  const driver = new Driver(options);
  try {
    await inTime(async () => {
      await driver.start();
      for (const round of drawn) await driver.round(round);
      await driver.finish();
    });
  } catch (error) {
    if (error instanceof Error) error.message += `\nafter\n  ${driver.trace.join("\n  ")}`;
    throw error;
  } finally {
    await driver.end();
  }
}

/** Fails, rather than hang, where a call never answers: then it can be shrunk. */
async function inTime(run: () => Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("a call does not answer")), PATIENCE_MS);
  });
  await Promise.race([run(), tooLate]).finally(() => clearTimeout(timer));
}
