/**
 * Runs the simulation over many seeds: `npm run simulate -- --seeds 100000`, from `--from`; or one seed again, with its
 * trace: `npm run simulate -- --seed 4711`.
 *
 * @module
 */

import { fork } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { simulate, type SimulationResult } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string", default: "10000" },
    from: { type: "string", default: "1" },
    lines: { type: "string", default: "400" },
    processes: { type: "string", default: String(availableParallelism()) },
    /** Runs a batch for the process that started this one. */
    batch: { type: "boolean", default: false },
  },
});

/** What a batch tells of each of its seeds. */
type Told = Pick<SimulationResult, "seed" | "violations" | "crashes" | "hash">;

/** Seeds of one process: small enough that all processes have work until the end. */
const BATCH = 250;

const [from, count] = [whole("from", values.from), whole("seeds", values.seeds)];

function whole(name: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new Error(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

async function one(seed: number, traceLines: number): Promise<void> {
  const result = await simulate(seed, { traceLines });
  console.log(JSON.stringify(result.scenario, undefined, 2));
  for (const line of result.trace) console.log(line);
  console.log(`seed ${seed}, trace ${result.hash}`);
  tell(result);
  finish(1, result.violations.length === 0 ? 0 : 1);
}

async function batch(): Promise<void> {
  for (let seed = from; seed < from + count; seed += 1) {
    const { crashes, hash, violations } = await simulate(seed);
    const told: Told = { seed, crashes, hash, violations };
    process.send?.(told);
  }
  process.disconnect();
}

async function many(): Promise<void> {
  const progress = new Progress();
  let next = from;
  const line = async (): Promise<void> => {
    while (next < from + count) {
      const first = next;
      next = Math.min(first + BATCH, from + count);
      await runBatch(first, next - first, (told) => progress.add(told));
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, whole("processes", values.processes)) }, line));
  progress.end();
}

async function runBatch(first: number, seeds: number, hear: (told: Told) => void): Promise<void> {
  let heard = 0;
  const args = ["--batch", "--from", String(first), "--seeds", String(seeds)];
  const child = fork(fileURLToPath(import.meta.url), args);
  child.on("message", (told) => {
    heard += 1;
    hear(told as Told);
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (heard < seeds) throw new Error(`a process ended (${code}) at seed ${first + heard}`);
}

/** Milliseconds between two looks of the bar, and between two lines where nobody looks. */
const SHOW_MS = 200;
const LINE_MS = 30_000;
const BAR = 30;

class Progress {
  readonly #began = performance.now();
  #shownAt = performance.now();
  #done = 0;
  #broken = 0;
  #crashes = 0;

  add(told: Told): void {
    this.#done += 1;
    this.#crashes += told.crashes;
    if (told.violations.length > 0) {
      this.#broken += 1;
      this.#clear();
      tell(told);
    }
    const now = performance.now();
    if (now - this.#shownAt < (process.stderr.isTTY ? SHOW_MS : LINE_MS)) return;
    this.#shownAt = now;
    this.#show();
  }

  end(): void {
    this.#clear();
    const seconds = (performance.now() - this.#began) / 1_000;
    const perSecond = (this.#done / seconds).toFixed(1);
    console.log(`${seconds.toFixed(0)} s, ${perSecond} runs/s, ${this.#crashes} crashes`);
    finish(this.#done, this.#broken);
  }

  #show(): void {
    const perSecond = (this.#done * 1_000) / (performance.now() - this.#began);
    const text = `${this.#done}/${count} seeds, ${perSecond.toFixed(0)} runs/s, ${this.#broken} broken`;
    if (!process.stderr.isTTY) return console.error(text);
    const filled = Math.floor((BAR * this.#done) / count);
    process.stderr.write(`\r${"█".repeat(filled)}${"·".repeat(BAR - filled)} ${text} `);
  }

  #clear(): void {
    if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
  }
}

function tell({ hash, seed, violations }: Told): void {
  for (const { invariant, what } of violations.slice(0, 3))
    console.log(`seed ${seed}: ${invariant}: ${what} (trace ${hash})`);
}

function finish(ran: number, broken: number): void {
  console.log(`${ran} seeds ran, ${broken} broke an invariant`);
  if (broken > 0) process.exitCode = 1;
}

if (values.batch) await batch();
else if (values.seed === undefined) await many();
else await one(whole("seed", values.seed), whole("lines", values.lines));
