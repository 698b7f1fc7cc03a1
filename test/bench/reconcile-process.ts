/** One reader of the reconcile benchmark, in a process of its own: `parse` reads and parses, `trueup` reconciles. */
import { defineProvider, defineResource, SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { request } from "undici";
import { quiet, thingSchema } from "./thing.ts";

const [kind, path = "", port = "0", size = "1000"] = process.argv.slice(2);
const base = `http://127.0.0.1:${port}/`;

async function readAndParse(): Promise<{ ms: number; rows: number }> {
  const startedAt = performance.now();
  let rows = 0;
  let cursor: string | null = "0";
  while (cursor !== null) {
    const { body } = await request(`${base}things?cursor=${cursor}`);
    const page = JSON.parse(await body.text()) as { items: unknown[]; next: string | null };
    rows += page.items.length;
    cursor = page.next;
  }
  return { ms: performance.now() - startedAt, rows };
}

async function reconcile(): Promise<{
  ms: number;
  rows: number;
  backfillMs: number;
  backfillRssMb: number;
  grownBytes: number;
}> {
  const provider = defineProvider({
    name: "bench",
    api: { baseUrl: base },
    resources: {
      thing: defineResource({
        schema: thingSchema,
        idOf: (thing) => thing.id,
        versionOf: (thing) => thing.version,
        fetch: (id, { api }) => api.get(`things/${id}`),
        list: ({ cursor }, { api }) => api.get("things", { query: { cursor: cursor ?? "0" } }),
        pageSize: Number(size),
      }),
    },
  });
  const engine = new SyncEngine({ providers: [provider], store: sqliteStore({ path }), logger: quiet });
  engine.handleBatch("bench.thing", () => {}, { size: 1_000 });
  const first = performance.now();
  await engine.reconcile("bench.thing", { mode: "full" });
  const backfillMs = performance.now() - first;
  const backfillRssMb = process.memoryUsage.rss() / 1_048_576;
  const before = await bytesWritten();
  const startedAt = performance.now();
  const report = await engine.reconcile("bench.thing", { mode: "full" });
  const ms = performance.now() - startedAt;
  if (report.unchanged !== report.listed) throw new Error(`${report.listed - report.unchanged} rows changed`);
  const grownBytes = (await bytesWritten()) - before;
  await engine.stop();
  return { ms, rows: report.listed, backfillMs, backfillRssMb, grownBytes };
}

/** What this process has written to disk, as the operating system counts it; 0 where it does not. */
async function bytesWritten(): Promise<number> {
  const { readFile } = await import("node:fs/promises");
  const io = await readFile("/proc/self/io", "utf8").catch(() => "");
  return Number(/^wchar: (\d+)/m.exec(io)?.[1] ?? 0);
}

const result = kind === "parse" ? await readAndParse() : await reconcile();
process.send?.({ ...result, rssMb: process.memoryUsage.rss() / 1_048_576 });
process.disconnect();
