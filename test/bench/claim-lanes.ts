/** `npm run bench claim-lanes`: what a claim on Postgres costs over 10,000 connections, beside one. */
import { Client } from "pg";
import type { Store, WorkSession } from "trueup";
import { postgresStore, type PgTx } from "trueup/postgres";
import { median, ratio, type Row } from "./report.ts";
import { quiet } from "./thing.ts";

const URL = process.env["TRUEUP_TEST_POSTGRES_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const OBJECTS = 20_000;
const CLAIM = 32;
const CLAIMS_PER_ROUND = 40;

const clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback: () => void, delayMs: number) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

async function filled(schema: string, connections: number): Promise<[Store<PgTx>, WorkSession<PgTx>]> {
  const store = postgresStore({ url: URL, schema });
  await store.open({
    clock,
    random: Math.random,
    logger: quiet,
    eventTtlMs: 7 * 86_400_000,
    maxEventsPerChange: 100,
  });
  for (let start = 0; start < OBJECTS; start += 1_000) {
    await store.append(
      Array.from({ length: 1_000 }, (_, at) => ({
        ref: {
          provider: "bench",
          connection: `c${(start + at) % connections}`,
          resource: "thing",
          id: `o${start + at}`,
        },
        origin: "webhook",
        lane: "live",
      })),
    );
  }
  return [store, await store.work({ leaseMs: 600_000 })];
}

async function claims(session: WorkSession<PgTx>): Promise<number> {
  const startedAt = performance.now();
  for (let i = 0; i < CLAIMS_PER_ROUND; i += 1) {
    const { length } = await session.claim({ provider: "bench", resource: "thing", limit: CLAIM });
    if (length !== CLAIM) throw new Error(`${length} objects were claimed, not ${CLAIM}`);
  }
  return (performance.now() - startedAt) / CLAIMS_PER_ROUND;
}

export async function claimLanes(rounds: number): Promise<Row[]> {
  const schemas = ["trueup_bench_one", "trueup_bench_many"];
  const admin = new Client({ connectionString: URL });
  await admin.connect();
  const drop = () => admin.query(schemas.map((name) => `DROP SCHEMA IF EXISTS ${name} CASCADE`).join(";"));
  await drop();
  const [one, fromOne] = await filled(schemas[0]!, 1);
  const [many, fromMany] = await filled(schemas[1]!, 10_000);
  const times: Record<"one" | "many", number[]> = { one: [], many: [] };
  for (let i = 0; i < Math.min(rounds, 12); i += 1) {
    for (const kind of i % 2 === 0 ? (["one", "many"] as const) : (["many", "one"] as const))
      times[kind].push(await claims(kind === "one" ? fromOne : fromMany));
  }
  await Promise.all([one.close(), many.close()]);
  await drop();
  await admin.end();
  return [
    { what: `claim of ${CLAIM} on Postgres, ms: one connection`, value: median(times.one) },
    {
      what: `claim of ${CLAIM} on Postgres, ms: 10,000 connections`,
      value: median(times.many),
      ratio: ratio(times.many, times.one),
      goal: "≤ 2",
    },
  ];
}
