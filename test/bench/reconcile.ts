/** Reconciling 1,000,000 objects of which none changed, beside reading and parsing the same pages. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { median, ratio, temporaryDirectory, type Row } from "./report.ts";

const OBJECTS = 1_000_000;
const PAGE = 1_000;

interface Run {
  readonly ms: number;
  readonly rows: number;
  readonly rssMb: number;
  readonly backfillMs?: number;
  readonly backfillRssMb?: number;
  readonly grownBytes?: number;
}

async function round(kind: "parse" | "trueup", port: number, objects: number): Promise<Run> {
  using directory = temporaryDirectory();
  const child = fork(join(import.meta.dirname, "reconcile-process.ts"), [
    kind,
    join(directory.path, "reconcile.db"),
    String(port),
    String(PAGE),
  ]);
  const exit = once(child, "exit");
  const [run] = (await Promise.race([
    once(child, "message"),
    exit.then(([code]) => Promise.reject(new Error(`${kind} ended with ${String(code)}`))),
  ])) as [Run];
  await exit;
  if (run.rows !== objects) throw new Error(`${kind} saw ${run.rows} rows`);
  return run;
}

async function withPages<T>(objects: number, run: (port: number) => Promise<T>): Promise<T> {
  const server: ChildProcess = fork(join(import.meta.dirname, "pages-server.ts"), [
    String(objects),
    String(PAGE),
  ]);
  try {
    const [{ port }] = (await once(server, "message")) as [{ port: number }];
    return await run(port);
  } finally {
    server.kill("SIGKILL");
    await once(server, "exit");
  }
}

export async function reconcile(rounds: number): Promise<Row[]> {
  const small = await withPages(OBJECTS / 10, (port) => round("trueup", port, OBJECTS / 10));
  const parse: Run[] = [];
  const own: Run[] = [];
  await withPages(OBJECTS, async (port) => {
    for (let i = 0; i < rounds; i += 1) {
      for (const kind of i % 2 === 0 ? (["parse", "trueup"] as const) : (["trueup", "parse"] as const)) {
        (kind === "parse" ? parse : own).push(await round(kind, port, OBJECTS));
      }
    }
  });
  const rates = (runs: Run[]) => runs.map((run) => run.rows / (run.ms / 1_000));
  return [
    { what: "list of 1,000,000, rows/s: read and parse", value: median(rates(parse)) },
    {
      what: "list of 1,000,000, rows/s: reconciled, unchanged",
      value: median(rates(own)),
      ratio: ratio(rates(own), rates(parse)),
    },
    {
      what: "backfill of 1,000,000, objects/s, empty batch handler",
      value: median(own.map((run) => OBJECTS / (run.backfillMs! / 1_000))),
    },
    {
      what: "bytes written per unchanged object",
      value: median(own.map((run) => run.grownBytes! / OBJECTS)),
      goal: "no row",
    },
    {
      what: "resident MB: read and parse / reconciled",
      value: median(parse.map((run) => run.rssMb)),
      second: median(own.map((run) => run.rssMb)),
    },
    {
      what: "resident MB after 100,000 / after 1,000,000 objects",
      value: small.rssMb,
      second: median(own.map((run) => run.rssMb)),
      goal: "flat",
    },
  ];
}
