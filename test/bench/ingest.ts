/** Durable ingest through the receiver, beside a server that only reads the body and checks the HMAC. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { makeRequests, sendAll, type LoadResult } from "./load.ts";
import { median, ratio, temporaryDirectory, type Row } from "./report.ts";

const CONNECTIONS = 64;
const REQUESTS = 20_000;
const WARM_UP = 3_000;

interface Round extends LoadResult {
  readonly rssMb: number;
}

async function round(kind: "bare" | "trueup", seed: string): Promise<Round> {
  using directory = temporaryDirectory();
  const child = fork(join(import.meta.dirname, "ingest-server.ts"), [
    kind,
    join(directory.path, "ingest.db"),
  ]);
  try {
    const { port } = await answer<{ port: number }>(child);
    await sendAll(port, makeRequests(WARM_UP, `${seed}w`), CONNECTIONS);
    const result = await sendAll(port, makeRequests(REQUESTS, seed), CONNECTIONS);
    if (result.refused > 0) throw new Error(`${kind}: ${result.refused} requests were refused`);
    child.send("usage");
    return { ...result, ...(await answer<{ rssMb: number }>(child)) };
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const [message] = (await once(child, "message")) as [T];
  return message;
}

export async function ingest(rounds: number): Promise<Row[]> {
  const bare: Round[] = [];
  const durable: Round[] = [];
  for (let i = 0; i < rounds; i += 1) {
    // Who goes first alternates, so that a machine that slows down slows both.
    const kinds = i % 2 === 0 ? (["bare", "trueup"] as const) : (["trueup", "bare"] as const);
    for (const kind of kinds) (kind === "bare" ? bare : durable).push(await round(kind, `${i}${kind}`));
  }
  const rates = (runs: Round[]) => runs.map((run) => run.requestsPerSecond);
  const p99s = (runs: Round[]) => runs.map((run) => run.p99Ms);
  return [
    { what: "ingest, requests/s: bare HMAC server", value: median(rates(bare)) },
    {
      what: "ingest, requests/s: trueup on SQLite (FULL)",
      value: median(rates(durable)),
      ratio: ratio(rates(durable), rates(bare)),
      goal: "≥ 0.70",
    },
    { what: "ingest, p99 ms: bare HMAC server", value: median(p99s(bare)) },
    {
      what: "ingest, p99 ms: trueup on SQLite (FULL)",
      value: median(p99s(durable)),
      ratio: ratio(p99s(durable), p99s(bare)),
      goal: "≤ 4.0",
    },
    {
      what: "ingest, resident MB: bare / trueup",
      value: median(bare.map((run) => run.rssMb)),
      second: median(durable.map((run) => run.rssMb)),
    },
  ];
}
