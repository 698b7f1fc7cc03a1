/**
 * One contender of queues-postgres.ts, in a process of its own: fills its queue, drains it with an empty handler, and
 * tells how long either took. All do the same work on the same server: so many jobs of about 1.5 kB, each with a key of
 * its own, handled 50 at a time, and each is tuned as its own documentation advises for throughput.
 */
import { createHash } from "node:crypto";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { PgBoss } from "pg-boss";
import type { Claim, Store } from "trueup";
import { SyncEngine } from "trueup";
import { postgresStore } from "trueup/postgres";
import { quiet, thingProvider } from "./thing.ts";

const CONCURRENCY = 50;
const FILL_BATCH = 1_000;
/** More than are handled at once elsewhere: pg-boss does best so. */
const BOSS_BATCH = 500;
const FILLER = "x".repeat(1_400);

const [kind = "", url = "", schema = "", count = "0"] = process.argv.slice(2);
const jobs = Number(count);

interface Contender {
  fill(start: number, size: number): Promise<void>;
  /** Begins, and resolves when so many are handled and recorded as done. */
  drain(): Promise<void>;
  end(): Promise<void>;
}

function payload(i: number): { id: string; version: number; data: { filler: string } } {
  return { id: `obj_${i}`, version: i, data: { filler: FILLER } };
}

/** Counts to the number of jobs. */
function counter(): { one(): void; readonly all: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let handled = 0;
  return {
    one() {
      handled += 1;
      if (handled === jobs) resolve();
    },
    all: promise,
  };
}

const clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback: () => void, delayMs: number) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

async function fillStore(store: Store<unknown>, start: number, size: number): Promise<void> {
  await store.append(
    Array.from({ length: size }, (_, at) => {
      const i = start + at;
      const ref = { provider: "bench", connection: "default", resource: "thing", id: `obj_${i}` };
      return {
        ref,
        dedupeKey: createHash("sha256").update(ref.id).digest().subarray(0, 16),
        event: { id: `evt_${i}`, origin: "webhook", receivedAt: 0, data: payload(i) },
        origin: "webhook",
        lane: "live",
      };
    }),
  );
}

async function trueup(): Promise<Contender> {
  const store = postgresStore({ url, schema }) as Store<unknown>;
  const environment = {
    clock,
    random: Math.random,
    logger: quiet,
    eventTtlMs: 7 * 86_400_000,
    maxEventsPerChange: 100,
  };
  await store.open(environment);
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
  const handled = counter();
  engine.handle("bench.thing", () => handled.one(), { concurrency: CONCURRENCY });
  return {
    fill: (start, size) => fillStore(store, start, size),
    async drain() {
      await store.close();
      await engine.start();
      await handled.all;
      while (!(await engine.drain()).idle);
    },
    end: () => engine.stop(),
  };
}

/** The store alone: claims and settles as the engine does, and does nothing between. */
async function bare(): Promise<Contender> {
  const store = postgresStore({ url, schema }) as Store<unknown>;
  await store.open({
    clock,
    random: Math.random,
    logger: quiet,
    eventTtlMs: 7 * 86_400_000,
    maxEventsPerChange: 100,
  });
  return {
    fill: (start, size) => fillStore(store, start, size),
    async drain() {
      const session = await store.work({ leaseMs: 30_000 });
      let previous: Claim[] = [];
      for (;;) {
        const settled = session.settle(
          previous.map((claim) => ({
            claim,
            kind: "done" as const,
            index: {
              state: "present" as const,
              version: "n:1",
              hash: "AAAAAAAAAAAAAAAAAAAAAA",
              rowHash: null,
              revision: 1,
              evidence: claim.fence,
            },
          })),
        );
        const claims = await session.claim({ provider: "bench", resource: "thing", limit: CONCURRENCY });
        await settled;
        if (claims.length === 0 && previous.length === 0) break;
        previous = claims;
      }
      await session.release();
    },
    end: () => store.close(),
  };
}

// https://worker.graphile.org/docs/performance: a local queue of many times the concurrency, completions in batches.
async function graphile(): Promise<Contender> {
  const utils = await makeWorkerUtils({ connectionString: url, schema });
  await utils.migrate();
  const handled = counter();
  let runner: Awaited<ReturnType<typeof run>> | undefined;
  return {
    async fill(start, size) {
      await utils.addJobs(
        Array.from({ length: size }, (_, at) => ({
          identifier: "thing",
          payload: payload(start + at),
          jobKey: `obj_${start + at}`,
        })),
      );
    },
    async drain() {
      runner = await run({
        preset: {
          worker: {
            connectionString: url,
            schema,
            concurrentJobs: CONCURRENCY,
            maxPoolSize: CONCURRENCY + 2,
            logger: new Logger(() => () => {}),
            localQueue: { size: 500 },
            completeJobBatchDelay: 0,
            failJobBatchDelay: 0,
          },
        },
        taskList: { thing: async () => handled.one() },
        noHandleSignals: true,
      });
      await handled.all;
      await runner.stop(); // waits for the completions
    },
    end: async () => utils.release(),
  };
}

// https://pgboss.io: fetch in batches, again at once while they are full, and no metadata.
async function pgBoss(): Promise<Contender> {
  const boss = new PgBoss({ connectionString: url, schema, supervise: false, schedule: false, max: 10 });
  boss.on("error", (error) => {
    throw error;
  });
  await boss.start();
  await boss.createQueue("thing", { policy: "short" });
  const handled = counter();
  return {
    async fill(start, size) {
      await boss.insert(
        "thing",
        Array.from({ length: size }, (_, at) => ({
          data: payload(start + at),
          singletonKey: `obj_${start + at}`,
        })),
      );
    },
    async drain() {
      await boss.work(
        "thing",
        {
          batchSize: BOSS_BATCH,
          burstWhenBatchFull: true,
          pollingIntervalSeconds: 0.5,
        },
        async (batch) => {
          for (const _ of batch) handled.one();
        },
      );
      await handled.all;
      await boss.offWork("thing", { wait: true });
    },
    end: () => boss.stop(),
  };
}

const contenders: Readonly<Record<string, () => Promise<Contender>>> = { trueup, bare, graphile, pgBoss };
const contender = await contenders[kind]!();
const startedAt = performance.now();
for (let start = 0; start < jobs; start += FILL_BATCH)
  await contender.fill(start, Math.min(FILL_BATCH, jobs - start));
const filledAt = performance.now();
const before = process.cpuUsage();
await contender.drain();
const drainedAt = performance.now();
const { user, system } = process.cpuUsage(before);
process.send?.({
  fillMs: filledAt - startedAt,
  drainMs: drainedAt - filledAt,
  cpuUsPerJob: (user + system) / jobs,
});
await contender.end();
process.disconnect?.();
