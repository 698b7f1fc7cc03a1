/**
 * `npm run bench queues-postgres`: a backlog of keyed jobs on PostgreSQL, beside the queues that a user would pick
 * instead, on the same server in the same run (`TRUEUP_TEST_POSTGRES_URL`, or the usual place).
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Client } from "pg";
import { median, ratio, type Row } from "./report.ts";

const URL = process.env["TRUEUP_TEST_POSTGRES_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const JOBS = 50_000;
const KINDS = ["trueup", "graphile", "pgBoss"] as const;

interface Run {
  readonly fillMs: number;
  readonly drainMs: number;
  /** Of the contender's process, while it drained. */
  readonly cpuUsPerJob: number;
}

async function run(kind: string, jobs = JOBS): Promise<Run> {
  const schema = `trueup_bench_${kind.toLowerCase()}`;
  const admin = new Client({ connectionString: URL });
  await admin.connect();
  await admin.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await admin.query("CHECKPOINT"); // each begins with the same log before it
  try {
    const child = fork(join(import.meta.dirname, "queues-postgres-process.ts"), [
      kind,
      URL,
      schema,
      String(jobs),
    ]);
    const exit = once(child, "exit");
    const [message] = (await Promise.race([
      once(child, "message"),
      exit.then(([code]) => Promise.reject(new Error(`${kind} ended with ${String(code)}`))),
    ])) as [Run];
    await exit;
    return message;
  } finally {
    await admin.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
    await admin.end();
  }
}

export async function queuesPostgres(rounds: number): Promise<Row[]> {
  const runs: Record<(typeof KINDS)[number], Run[]> = { trueup: [], graphile: [], pgBoss: [] };
  for (let i = 0; i < rounds; i += 1) {
    for (const at of KINDS.keys()) {
      const kind = KINDS[(at + i) % KINDS.length]!; // who goes first alternates
      runs[kind].push(await run(kind));
    }
  }
  const rates = (kind: (typeof KINDS)[number], part: "drainMs" | "fillMs") =>
    runs[kind].map((one) => JOBS / (one[part] / 1_000));
  const named = { graphile: "graphile-worker", pgBoss: "pg-boss", trueup: "trueup on Postgres" } as const;
  const cpu = (["graphile", "pgBoss", "trueup"] as const).map((kind) => ({
    what: `µs of CPU a drained job, in its process: ${named[kind]}`,
    value: median(runs[kind].map((one) => one.cpuUsPerJob)),
  }));
  const compared = (["drainMs", "fillMs"] as const).flatMap((part) => {
    const what = part === "drainMs" ? "drain of 50,000 jobs of 1.5 kB, jobs/s" : "filling, jobs/s";
    const best = runs.graphile.map((_, i) =>
      Math.max(rates("graphile", part)[i]!, rates("pgBoss", part)[i]!),
    );
    return [
      { what: `${what}: graphile-worker`, value: median(rates("graphile", part)) },
      { what: `${what}: pg-boss`, value: median(rates("pgBoss", part)) },
      {
        what: `${what}: trueup on Postgres, beside the better`,
        value: median(rates("trueup", part)),
        ratio: ratio(rates("trueup", part), best),
        ...(part === "drainMs" ? { goal: "≥ 2" } : undefined),
      },
    ];
  });
  return [...compared, ...cpu];
}
