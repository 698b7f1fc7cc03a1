/**
 * The same backlog through the store on Redis, through the one on SQLite, and through BullMQ 6 on the same Redis, as its
 * documentation recommends it for throughput: `addBulk`, `removeOnComplete`, concurrency.
 */
import { fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { Redis } from "ioredis";
import { median, ratio, temporaryDirectory, type Row } from "./report.ts";

const JOBS = 50_000;
const KINDS = ["bullmq", "redis", "sqlite"] as const;
type Kind = (typeof KINDS)[number];

interface Run {
  readonly fillMs: number;
  readonly drainMs: number;
  readonly cpuUsPerJob: number;
}

async function run(kind: Kind): Promise<Run> {
  using directory = temporaryDirectory();
  const prefix = `trueup-bench-${randomBytes(6).toString("hex")}`;
  const place = kind === "sqlite" ? join(directory.path, "queue.db") : prefix;
  const child = fork(join(import.meta.dirname, "queue-process.ts"), [kind, place, String(JOBS)]);
  const exit = once(child, "exit");
  const [result] = (await Promise.race([
    once(child, "message"),
    exit.then(([code]) => Promise.reject(new Error(`${kind} ended with ${String(code)}`))),
  ])) as [Run];
  await exit;
  if (kind !== "sqlite") await removeKeys(prefix);
  return result;
}

async function removeKeys(prefix: string): Promise<void> {
  const client = new Redis();
  for await (const keys of client.scanStream({ match: `*${prefix}*`, count: 1_000 })) {
    if ((keys as string[]).length > 0) await client.unlink(...(keys as string[]));
  }
  await client.quit();
}

export async function queuesRedis(rounds: number): Promise<Row[]> {
  const runs: Record<Kind, Run[]> = { bullmq: [], redis: [], sqlite: [] };
  for (let i = 0; i < rounds; i += 1) {
    for (const kind of [...KINDS.slice(i % KINDS.length), ...KINDS.slice(0, i % KINDS.length)]) {
      runs[kind].push(await run(kind));
    }
  }
  const drained = (kind: Kind) => runs[kind].map((one) => JOBS / (one.drainMs / 1_000));
  const filled = (kind: Kind) => runs[kind].map((one) => JOBS / (one.fillMs / 1_000));
  const cpu = (kind: Kind) => runs[kind].map((one) => one.cpuUsPerJob);
  const row = (kind: Kind, what: string, rates: (kind: Kind) => number[], goal?: string): Row => ({
    what,
    value: median(rates(kind)),
    ...(kind === "bullmq" ? undefined : { ratio: ratio(rates(kind), rates("bullmq")) }),
    ...(goal === undefined ? undefined : { goal }),
  });
  return [
    row("bullmq", "50,000 jobs of 1.5 kB, drained/s: BullMQ", drained),
    row("redis", "50,000 jobs of 1.5 kB, drained/s: trueup on Redis", drained, "≥ 3"),
    row("sqlite", "50,000 jobs of 1.5 kB, drained/s: trueup on SQLite", drained, "≥ 4"),
    row("bullmq", "µs of CPU a drained job, in its process: BullMQ", cpu),
    row("redis", "µs of CPU a drained job, in its process: trueup on Redis", cpu),
    row("sqlite", "µs of CPU a drained job, in its process: trueup on SQLite", cpu),
    row("bullmq", "50,000 jobs of 1.5 kB, added/s: BullMQ, addBulk", filled),
    row("redis", "50,000 jobs of 1.5 kB, added/s: trueup on Redis", filled),
    row("sqlite", "50,000 jobs of 1.5 kB, added/s: trueup on SQLite", filled),
  ];
}
