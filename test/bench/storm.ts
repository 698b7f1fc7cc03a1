/** 20,000 events over 1,000 objects while the API stands still: what that costs in requests and handler runs. */
import { join } from "node:path";
import { defineProvider, defineResource, headerToken, hmacSignature, SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { makeRequests, SECRET, sendAll } from "./load.ts";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { temporaryDirectory, type Row } from "./report.ts";
import { quiet, thingSchema } from "./thing.ts";

const EVENTS = 20_000;
const OBJECTS = 1_000;

interface StormResult {
  readonly requests: number;
  readonly handled: number;
}

async function stormOnce(batch: boolean): Promise<StormResult> {
  using directory = temporaryDirectory();
  const answers = Promise.withResolvers<void>();
  let requests = 0;
  let handled = 0;
  const read = async (id: string) => ({ id, version: 1, name: "still" });
  const standStill = async <T>(answer: () => Promise<T>): Promise<T> => {
    requests += 1;
    await answers.promise;
    return answer();
  };
  const provider = defineProvider({
    name: "bench",
    webhook: {
      verify: hmacSignature({ secret: SECRET, header: "x-signature", algorithm: "sha256", encoding: "hex" }),
      events: ({ json }) => [{ id: json.id, resource: "thing", objectId: `obj_${json.version % OBJECTS}` }],
    },
    resources: {
      thing: defineResource({
        schema: thingSchema,
        idOf: (thing) => thing.id,
        fetch: (id) => standStill(() => read(id)),
        ...(batch
          ? { batchSize: 100, fetchMany: (ids: string[]) => standStill(() => Promise.all(ids.map(read))) }
          : undefined),
      }),
    },
  });
  const engine = new SyncEngine({
    providers: [provider],
    store: sqliteStore({ path: join(directory.path, "storm.db") }),
    logger: quiet,
  });
  engine.handle("bench.thing", () => void (handled += 1));
  const server = createServer(engine.webhook("bench").node).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  await engine.start();
  const { refused } = await sendAll(
    (server.address() as AddressInfo).port,
    makeRequests(EVENTS, "storm"),
    64,
  );
  if (refused > 0) throw new Error(`${refused} deliveries were refused`);
  answers.resolve();
  const { idle } = await engine.drain({ timeoutMs: 60_000 });
  if (!idle) throw new Error("the storm was not drained");
  await engine.stop();
  server.closeAllConnections();
  server.close();
  return { requests, handled };
}

const RATE = 100;
const STORM_MS = 10_000;

/**
 * The same storm over ten seconds, each event telling of a change, while the API takes 100 requests/s. Every object
 * changes every half second, so when the storm ends all of them have to be fetched once more: that is the bound.
 */
async function stormLimited(): Promise<{ readonly overBound: number; readonly overRate: number }> {
  using directory = temporaryDirectory();
  const versions = new Map<string, number>();
  const seen = new Map<string, number>();
  let requests = 0;
  const provider = defineProvider({
    name: "bench",
    api: { baseUrl: "http://127.0.0.1/", rateLimit: { requests: RATE, perMs: 1_000 } },
    webhook: { verify: headerToken({ header: "x-token", secret: SECRET }), events: ({ json }) => json },
    resources: {
      thing: defineResource({
        schema: thingSchema,
        idOf: (thing) => thing.id,
        fetch: (id, { limited }) =>
          limited(async () => {
            requests += 1;
            return { id, version: versions.get(id), name: "changing" };
          }),
      }),
    },
  });
  const engine = new SyncEngine({
    providers: [provider],
    store: sqliteStore({ path: join(directory.path, "storm.db") }),
    logger: quiet,
  });
  engine.handle("bench.thing", (change) => void seen.set(change.ref.id, change.object?.version ?? 0));
  await engine.start();
  const receiver = engine.webhook("bench");
  const startedAt = performance.now();
  for (let sent = 0; sent < EVENTS;) {
    const due = Math.min(EVENTS, Math.floor((EVENTS * (performance.now() - startedAt)) / STORM_MS));
    // At once, as from a provider: one after the other, each waiting for its fsync, they would take longer than the storm.
    const deliveries: Promise<Response>[] = [];
    for (; sent < due; sent += 1) {
      const id = `obj_${sent % OBJECTS}`;
      versions.set(id, sent);
      const body = JSON.stringify([{ id: `evt_${sent}`, resource: "thing", objectId: id }]);
      const request = new Request("http://bench/hooks", {
        method: "POST",
        body,
        headers: { "x-token": SECRET },
      });
      deliveries.push(receiver.fetch(request));
    }
    const refused = (await Promise.all(deliveries)).filter(({ ok }) => !ok);
    if (refused.length > 0) throw new Error(`${refused.length} deliveries were refused`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { idle } = await engine.drain({ timeoutMs: 120_000 });
  const elapsedMs = performance.now() - startedAt;
  await engine.stop();
  const behind = [...versions].filter(([id, version]) => seen.get(id) !== version).length;
  if (!idle || behind > 0) throw new Error(`${behind} objects are behind`);
  const changedAfterTheirFetch = OBJECTS - (RATE * (STORM_MS / (EVENTS / OBJECTS))) / 1_000;
  const boundMs = STORM_MS + (changedAfterTheirFetch / RATE) * 1_000;
  return { overBound: elapsedMs / boundMs, overRate: requests / ((elapsedMs / 1_000) * RATE) };
}

export async function storm(): Promise<Row[]> {
  const single = await stormOnce(false);
  const batched = await stormOnce(true);
  const limited = await stormLimited();
  return [
    { what: "storm, fetches per object", value: single.requests / OBJECTS, goal: "≤ 1.1" },
    { what: "storm, handler runs per object", value: single.handled / OBJECTS, goal: "1" },
    { what: "storm with fetchMany of 100, requests", value: batched.requests, goal: "≤ 60" },
    {
      what: "storm with fetchMany of 100, handler runs per object",
      value: batched.handled / OBJECTS,
      goal: "1",
    },
    {
      what: "storm at 100 requests/s, time until in sync ÷ its bound",
      value: limited.overBound,
      goal: "≤ 1.1",
    },
    { what: "storm at 100 requests/s, requests ÷ (time × rate)", value: limited.overRate, goal: "≤ 1" },
  ];
}
