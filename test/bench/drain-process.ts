/** One drain of the benchmark, in a process of its own: the engine's, or a bare loop over the same store calls. */
import { createHash } from "node:crypto";
import type { AppendEntry, Claim, Store } from "trueup";
import { SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { quiet, thingProvider } from "./thing.ts";

const clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback: () => void, delayMs: number) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

const [kind, path = "", count = "0"] = process.argv.slice(2);
const objects = Number(count);

function entry(i: number): AppendEntry {
  const ref = { provider: "bench", connection: "default", resource: "thing", id: `obj_${i}` };
  return {
    ref,
    dedupeKey: createHash("sha256").update(ref.id).digest().subarray(0, 16),
    event: { id: `evt_${i}`, origin: "webhook", receivedAt: 0 },
    origin: "webhook",
    lane: "live",
  };
}

async function fill(store: Store<unknown>): Promise<void> {
  await store.open({
    clock,
    random: Math.random,
    logger: quiet,
    eventTtlMs: 7 * 86_400_000,
    maxEventsPerChange: 100,
  });
  for (let start = 0; start < objects; start += 1_000) {
    await store.append(Array.from({ length: Math.min(1_000, objects - start) }, (_, i) => entry(start + i)));
  }
}

/** Claims, and settles as done, as many at a time as the engine does at its fastest. */
async function bareLoop(store: Store<unknown>): Promise<number> {
  const session = await store.work({ leaseMs: 30_000 });
  const startedAt = performance.now();
  let previous: Claim[] = [];
  for (;;) {
    const settled = session.settle(
      previous.map((claim) => ({
        claim,
        kind: "done" as const,
        index: {
          state: "present" as const,
          version: "n:1",
          hash: "AAAAAAAAAAAAAAAAAAAAAA",
          rowHash: null,
          revision: 1,
          evidence: claim.fence,
        },
      })),
    );
    const claims = await session.claim({ provider: "bench", resource: "thing", limit: 256 });
    await settled;
    if (claims.length === 0 && previous.length === 0) break;
    previous = claims;
  }
  const ms = performance.now() - startedAt;
  await session.release();
  return ms;
}

async function engineDrain(store: Store<unknown>): Promise<number> {
  const engine = new SyncEngine({ providers: [thingProvider({})], store: store as Store, logger: quiet });
  let handled = 0;
  const done = Promise.withResolvers<void>();
  engine.handle("bench.thing", () => {
    handled += 1;
    if (handled === objects) done.resolve();
  });
  const startedAt = performance.now();
  await engine.start();
  await done.promise;
  while (!(await engine.drain()).idle);
  const ms = performance.now() - startedAt;
  await engine.stop();
  return ms;
}

const store = sqliteStore({ path }) as Store<unknown>;
await fill(store);
const filledRssMb = process.memoryUsage.rss() / 1_048_576;
let ms = 0;
if (kind === "bare") ms = await bareLoop(store);
if (kind === "engine") {
  await store.close();
  ms = await engineDrain(store);
}
process.send?.({ ms, filledRssMb, rssMb: process.memoryUsage.rss() / 1_048_576 });
process.disconnect();
