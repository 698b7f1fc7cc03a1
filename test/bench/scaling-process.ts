/**
 * One process of scaling.ts: fills a store, or works on it with others from when its parent says so, and tells how much it
 * has handled. As the README advises for throughput, an API that answers at once is asked for many objects in one call.
 */
import { once } from "node:events";
import type { AppendEntry, Store } from "trueup";
import { SyncEngine } from "trueup";
import { postgresStore } from "trueup/postgres";
import { redisStore } from "trueup/redis";
import { quiet, thingProvider } from "./thing.ts";

const FILL_BATCH = 1_000;
const TELL_MS = 5;
const FILLER = "x".repeat(1_400);

const [role = "", kind = "", url = "", place = "", count = "0", fetchMs = "0"] = process.argv.slice(2);
const store = (kind === "redis"
  ? redisStore({ url, prefix: place })
  : postgresStore({ url, schema: place })) as unknown as Store<unknown>;

const thing = (id: string) => ({ id, version: 1, name: "a thing" });
const answer =
  Number(fetchMs) === 0 ? undefined : () => new Promise((resolve) => setTimeout(resolve, Number(fetchMs)));

function entry(i: number): AppendEntry {
  const ref = { provider: "bench", connection: "default", resource: "thing", id: `obj_${i}` };
  const event = { id: `evt_${i}`, origin: "webhook", receivedAt: 0, data: { filler: FILLER } } as const;
  return { ref, event, origin: "webhook", lane: "live" };
}

async function fill(engine: SyncEngine, objects: number): Promise<void> {
  await engine.status(); // opens the store
  for (let start = 0; start < objects; start += FILL_BATCH) {
    const size = Math.min(FILL_BATCH, objects - start);
    await store.append(Array.from({ length: size }, (_, i) => entry(start + i)));
  }
}

const engine = new SyncEngine({
  providers: [
    answer === undefined
      ? thingProvider({ fetchMany: async (ids) => ids.map(thing), batchSize: 100 })
      : thingProvider({ fetch: (id) => answer().then(() => thing(id)) }),
  ],
  store: store as Store,
  logger: quiet,
});
let handled = 0;
engine.handle("bench.thing", () => {
  handled += 1;
});

if (role === "fill") await fill(engine, Number(count));
else {
  await engine.status();
  process.send?.("ready");
  await once(process, "message");
  await engine.start();
  let told = 0;
  const telling = setInterval(() => {
    if (handled > told) process.send?.((told = handled));
  }, TELL_MS);
  await once(process, "message");
  clearInterval(telling);
}
await engine.stop();
process.send?.(handled);
process.disconnect?.();
