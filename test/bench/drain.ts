/** Draining dirty objects with an empty handler, beside a bare loop over the same store calls. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { median, ratio, temporaryDirectory, type Row } from "./report.ts";

const OBJECTS = 100_000;

interface Run {
  readonly ms: number;
  readonly filledRssMb: number;
  readonly rssMb: number;
}

async function run(kind: "bare" | "engine" | "fill", objects = OBJECTS): Promise<Run> {
  using directory = temporaryDirectory();
  const child = fork(join(import.meta.dirname, "drain-process.ts"), [
    kind,
    join(directory.path, "drain.db"),
    String(objects),
  ]);
  const exit = once(child, "exit");
  const [message] = (await Promise.race([
    once(child, "message"),
    exit.then(([code]) => Promise.reject(new Error(`${kind} ended with ${String(code)}`))),
  ])) as [Run];
  await exit;
  return message;
}

export async function drain(rounds: number): Promise<Row[]> {
  const bare: Run[] = [];
  const engine: Run[] = [];
  for (let i = 0; i < rounds; i += 1) {
    for (const kind of i % 2 === 0 ? (["bare", "engine"] as const) : (["engine", "bare"] as const)) {
      (kind === "bare" ? bare : engine).push(await run(kind));
    }
  }
  const rates = (runs: Run[]) => runs.map((one) => OBJECTS / (one.ms / 1_000));
  const added = bare.map((one, i) => ((engine[i]!.ms - one.ms) * 1_000) / OBJECTS);
  const backlog = await run("fill", 1_000_000);
  return [
    { what: "drain of 100,000, objects/s: bare loop over the store", value: median(rates(bare)) },
    {
      what: "drain of 100,000, objects/s: engine, empty handler",
      value: median(rates(engine)),
      ratio: ratio(rates(engine), rates(bare)),
    },
    { what: "drain, µs that the engine adds per object", value: median(added), goal: "≤ 25" },
    {
      what: "drain, resident MB: bare / engine",
      value: median(bare.map((one) => one.rssMb)),
      second: median(engine.map((one) => one.rssMb)),
    },
    { what: "resident MB with 1,000,000 pending events", value: backlog.filledRssMb, goal: "< 200" },
  ];
}
