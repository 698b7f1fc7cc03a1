import { createHash } from "node:crypto";
import { Redis } from "ioredis";
import { redisStore } from "trueup/redis";
import type { Store } from "trueup";
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const clock = { now: () => Date.now(), monotonic: () => performance.now(), setTimer(cb: () => void, ms: number) { const t = setTimeout(cb, ms); return () => clearTimeout(t); } };
const N = 20_000;
const stats = new Redis(7790);
async function usec() { const m = /cmdstat_evalsha:calls=(\d+),usec=(\d+)/.exec(String(await stats.info("commandstats"))); return [Number(m?.[1] ?? 0), Number(m?.[2] ?? 0)] as const; }
const store = redisStore({ url: "redis://127.0.0.1:7790", prefix: "phase" + Date.now() }) as Store<unknown>;
await store.open({ clock, random: Math.random, logger: quiet, eventTtlMs: 1e9, maxEventsPerChange: 100 });
const text = "x".repeat(1470);
async function phase(name: string, run: () => Promise<void>) { const [c, a] = await usec(); const t = performance.now(); await run(); const ms = performance.now() - t; const [d, b] = await usec(); console.log(name.padEnd(10), "server µs/object", ((b - a) / N).toFixed(1), "calls", d - c, "wall µs/object", ((ms * 1000) / N).toFixed(1)); }
await phase("append", async () => { for (let s = 0; s < N; s += 500) await store.append(Array.from({ length: 500 }, (_, i) => { const id = `obj_${s + i}`; const ref = { provider: "bench", connection: "default", resource: "thing", id }; return { ref, dedupeKey: createHash("sha256").update(id).digest().subarray(0, 16), event: { id, origin: "webhook" as const, receivedAt: 0, data: text }, origin: "webhook" as const, lane: "live" as const }; })); });
const session = await store.work({ leaseMs: 30_000 });
const claims: any[] = [];
await phase("claim", async () => { for (;;) { const c = await session.claim({ provider: "bench", resource: "thing", limit: 50 }); if (c.length === 0) break; claims.push(...c); } });
await phase("settle", async () => { for (let i = 0; i < claims.length; i += 50) await session.settle(claims.slice(i, i + 50).map((claim) => ({ claim, kind: "done" as const, index: { state: "present" as const, version: "n:1", hash: "AAAAAAAAAAAAAAAAAAAAAA", rowHash: null, revision: 1, evidence: claim.fence } }))); });
await session.release(); await store.close(); stats.disconnect();
