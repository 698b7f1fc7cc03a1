/** 20,000 events over 1,000 objects while the API stands still: what that costs in requests and handler runs. */
import { join } from "node:path";
import { defineProvider, defineResource, hmacSignature, SyncEngine } from "trueup";
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

export async function storm(): Promise<Row[]> {
  const single = await stormOnce(false);
  const batched = await stormOnce(true);
  return [
    { what: "storm, fetches per object", value: single.requests / OBJECTS, goal: "≤ 1.1" },
    { what: "storm, handler runs per object", value: single.handled / OBJECTS, goal: "1" },
    { what: "storm with fetchMany of 100, requests", value: batched.requests, goal: "≤ 60" },
    {
      what: "storm with fetchMany of 100, handler runs per object",
      value: batched.handled / OBJECTS,
      goal: "1",
    },
  ];
}
