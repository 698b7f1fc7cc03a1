/** One backlog of the queue benchmark, filled and drained in a process of its own. */
import { createHash } from "node:crypto";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import type { AppendEntry, Store } from "trueup";
import { SyncEngine } from "trueup";
import { redisStore } from "trueup/redis";
import { sqliteStore } from "trueup/sqlite";
import { quiet, thingProvider } from "./thing.ts";

const CONCURRENCY = 50;
const FILL_AT_ONCE = 1_000;

/** 1.5 kB as JSON, and not twice the same. */
function payload(i: number): unknown {
  return { n: i, text: `${i} `.padEnd(1_470, "the quick brown fox jumps over the lazy dog ") };
}

interface Run {
  readonly fillMs: number;
  readonly drainMs: number;
  /** Of this process, while it drained. */
  readonly cpuUsPerJob: number;
}

/** Microseconds of this process since an earlier moment. */
function cpuUs(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}

async function bullmq(prefix: string, jobs: number): Promise<Run> {
  const queue = new Queue("bench", {
    prefix,
    connection: new Redis({ maxRetriesPerRequest: null }),
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  await queue.waitUntilReady();
  const filledFrom = performance.now();
  for (let start = 0; start < jobs; start += FILL_AT_ONCE) {
    const count = Math.min(FILL_AT_ONCE, jobs - start);
    await queue.addBulk(
      Array.from({ length: count }, (_, i) => ({
        name: "thing",
        data: payload(start + i),
        opts: { jobId: `obj_${start + i}` },
      })),
    );
  }
  const fillMs = performance.now() - filledFrom;
  const worker = new Worker("bench", async () => {}, {
    prefix,
    connection: new Redis({ maxRetriesPerRequest: null }),
    concurrency: CONCURRENCY,
    autorun: false,
  });
  await worker.waitUntilReady();
  const done = Promise.withResolvers<void>();
  let completed = 0;
  worker.on("completed", () => {
    completed += 1;
    if (completed === jobs) done.resolve();
  });
  const startedAt = performance.now();
  const before = process.cpuUsage();
  const running = worker.run();
  await done.promise;
  const drainMs = performance.now() - startedAt;
  const cpuUsPerJob = cpuUs(before) / jobs;
  await worker.close();
  await running;
  await queue.close();
  return { fillMs, drainMs, cpuUsPerJob };
}

function entry(i: number): AppendEntry {
  const ref = { provider: "bench", connection: "default", resource: "thing", id: `obj_${i}` };
  return {
    ref,
    dedupeKey: createHash("sha256").update(ref.id).digest().subarray(0, 16),
    event: { id: `evt_${i}`, origin: "webhook", receivedAt: 0, data: payload(i) },
    origin: "webhook",
    lane: "live",
  };
}

async function trueup(store: Store<unknown>, jobs: number): Promise<Run> {
  const engine = new SyncEngine({
    // The README: an API that takes many ids at once is asked for many.
    providers: [
      thingProvider({
        fetchMany: async (ids) => ids.map((id) => ({ id, version: 1, name: "a thing" })),
        batchSize: 100,
      }),
    ],
    store: store as Store,
    logger: quiet,
    concurrency: CONCURRENCY,
  });
  const done = Promise.withResolvers<void>();
  let handled = 0;
  engine.handle(
    "bench.thing",
    () => {
      handled += 1;
      if (handled === jobs) done.resolve();
    },
    { concurrency: CONCURRENCY },
  );
  await engine.status(); // opens the store
  const filledFrom = performance.now();
  for (let start = 0; start < jobs; start += FILL_AT_ONCE) {
    const count = Math.min(FILL_AT_ONCE, jobs - start);
    await store.append(Array.from({ length: count }, (_, i) => entry(start + i)));
  }
  const fillMs = performance.now() - filledFrom;
  const startedAt = performance.now();
  const before = process.cpuUsage();
  await engine.start();
  await done.promise;
  while (!(await engine.drain()).idle);
  const drainMs = performance.now() - startedAt;
  const cpuUsPerJob = cpuUs(before) / jobs;
  await engine.stop();
  return { fillMs, drainMs, cpuUsPerJob };
}

const [kind, place = "", count = "0"] = process.argv.slice(2);
const jobs = Number(count);
const runs: Readonly<Record<string, () => Promise<Run>>> = {
  bullmq: () => bullmq(place, jobs),
  redis: () => trueup(redisStore({ url: "redis://127.0.0.1:6379", prefix: place }), jobs),
  sqlite: () => trueup(sqliteStore({ path: place }), jobs),
};
const run = await runs[kind ?? ""]?.();
process.send?.(run);
process.exit();
