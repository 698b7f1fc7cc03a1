/**
 * `npm run bench scaling`: how much faster a backlog is worked off by several processes on one store. Two kinds of work:
 * an API that answers at once, where the cores are what there is to share (the server's processes run on them too), and one
 * that takes its time, where a process is bound by its 32 requests at once, and the store must not be in the way.
 */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Client } from "pg";
import { median, ratio, type Row } from "./report.ts";

const URLS = {
  postgres: process.env["TRUEUP_TEST_POSTGRES_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres",
  redis: process.env["TRUEUP_TEST_REDIS_URL"] ?? "redis://127.0.0.1:6379",
} as const;
type Kind = keyof typeof URLS;
const PROCESSES = [1, 2, 4, 8] as const;
const WORK = [
  { what: "fetched at once", fetchMs: 0, objects: 40_000 },
  { what: "fetched in 20 ms", fetchMs: 20, objects: 10_000 },
] as const;
type Work = (typeof WORK)[number];

function start(role: "fill" | "work", kind: Kind, place: string, { objects, fetchMs }: Work): ChildProcess {
  const child = fork(join(import.meta.dirname, "scaling-process.ts"), [
    role,
    kind,
    URLS[kind],
    place,
    String(objects),
    String(fetchMs),
  ]);
  child.on("exit", (code) => {
    if (code !== 0) throw new Error(`a process of ${kind} ended with ${String(code)}`);
  });
  return child;
}

/** Objects per second. */
async function run(kind: Kind, processes: number, work: Work): Promise<number> {
  const place = `trueup_bench_scaling_${randomBytes(4).toString("hex")}`;
  try {
    await once(start("fill", kind, place, work), "exit");
    const children = Array.from({ length: processes }, () => start("work", kind, place, work));
    await Promise.all(children.map((child) => once(child, "message")));
    const handled = children.map(() => 0);
    const sum = () => handled.reduce((a, b) => a + b, 0);
    const all = Promise.withResolvers<void>();
    for (const [i, child] of children.entries()) {
      child.on("message", (message) => {
        handled[i] = Number(message);
        if (sum() >= work.objects) all.resolve();
      });
    }
    const startedAt = performance.now();
    for (const child of children) child.send("go");
    await all.promise;
    const seconds = (performance.now() - startedAt) / 1_000;
    const exits = children.map((child) => once(child, "exit"));
    for (const child of children) child.send("stop");
    await Promise.all(exits);
    if (sum() !== work.objects) throw new Error(`${sum()} objects were handled, not ${work.objects}`);
    return work.objects / seconds;
  } finally {
    await remove(kind, place);
  }
}

async function remove(kind: Kind, place: string): Promise<void> {
  if (kind === "postgres") {
    const client = new Client({ connectionString: URLS.postgres });
    await client.connect();
    await client.query(`DROP SCHEMA IF EXISTS ${place} CASCADE`);
    return await client.end();
  }
  const client = new Redis(URLS.redis);
  for await (const keys of client.scanStream({ match: `*${place}*`, count: 1_000 })) {
    if ((keys as string[]).length > 0) await client.unlink(...(keys as string[]));
  }
  await client.quit();
}

export async function scaling(rounds: number): Promise<Row[]> {
  const kinds: Kind[] = ["postgres", "redis"];
  const cases = WORK.flatMap((work) =>
    kinds.flatMap((kind) => PROCESSES.map((processes) => ({ work, kind, processes, rates: [] as number[] }))),
  );
  for (let i = 0; i < rounds; i += 1) {
    // Up and down in turn, so that what the machine does meanwhile is not always to the same one's disadvantage.
    for (const one of i % 2 === 0 ? cases : cases.toReversed())
      one.rates.push(await run(one.kind, one.processes, one.work));
  }
  const cores = availableParallelism();
  return cases.map(({ work, kind, processes, rates }) => {
    const alone = cases.find((one) => one.work === work && one.kind === kind && one.processes === 1);
    return {
      what: `${kind}, ${work.what}, objects/s: processes ${processes}, cores ${cores}`,
      value: median(rates),
      ...(processes === 1 ? undefined : { ratio: ratio(rates, alone?.rates ?? rates) }),
    };
  });
}
