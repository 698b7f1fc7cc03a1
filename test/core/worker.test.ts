import { describe, expect, onTestFinished, test } from "vitest";
import type { TaskResult } from "../../src/core/ending.ts";
import { Semaphore } from "../../src/core/semaphore.ts";
import type { Claim, ClaimRequest, Store, WorkSession } from "../../src/core/store.ts";
import { AHEAD_MS } from "../../src/core/throughput.ts";
import { Worker, type WorkerOptions } from "../../src/core/worker.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { claimOf, fakeApis, gate, providerOf, recording, refOf, resourceOf, turn } from "./fakes.ts";

const SLOTS = 4;
const limits = {
  leaseMs: 30_000,
  concurrency: SLOTS,
  retry: { attempts: 10, minDelayMs: 1_000, maxDelayMs: 900_000 },
  eventTtlMs: 1,
  maxEventsPerChange: 1,
  maxEventDataBytes: 1,
  commitTimeoutMs: 1,
  fetchTimeoutMs: 1,
  pollMs: 1_000,
};

/**
 * A worker over `objects` of one route. Each claim takes some of the clock's time; `work` is what becomes of an object
 * that has a slot.
 */
function setup(parts: {
  objects: number;
  claimMs?: number;
  rate?: number;
  /** Of one `fetchMany`. */
  batchSize?: number;
  /** Whether the store works elsewhere. */
  shared?: boolean;
  connectionOf?: (i: number) => string;
  resources?: readonly string[];
  work?: () => Promise<void>;
}) {
  const { claimMs = 0, connectionOf = () => "default", objects, rate, resources = ["contact"] } = parts;
  const { work = async () => {} } = parts;
  const { batchSize, shared = false } = parts;
  const clock = new TestClock();
  let monotonic = 0;
  const slots = new Semaphore(SLOTS);
  const requests: number[] = [];
  const begun: string[] = [];
  const order: string[] = [];
  const released: string[] = [];
  let next = 0;
  const session = {
    claim: async ({ limit, resource }: ClaimRequest): Promise<Claim[]> => {
      monotonic += claimMs;
      requests.push(limit);
      order.push(`claim of ${limit}`);
      const from = next;
      next = Math.min(objects, next + limit);
      return Array.from({ length: next - from }, (_, i) =>
        claimOf({ ref: { ...refOf(`${from + i}`), resource, connection: connectionOf(from + i) } }),
      );
    },
  } as Partial<WorkSession<unknown>> as WorkSession<unknown>;
  const runner = {
    fetch: async (_route: unknown, [claim]: readonly Claim[]) => {
      if (claim === undefined) throw new Error("a unit has a claim");
      await slots.acquire();
      begun.push(claim.ref.id);
      order.push(`work on ${claim.ref.id}`);
      try {
        await work();
        return [{ kind: "handled", change: "upsert", regressed: false }];
      } finally {
        slots.release();
      }
    },
  } as Partial<WorkerOptions["runner"]> as WorkerOptions["runner"];
  const endings = {
    release: async (_route: unknown, claim: Claim): Promise<TaskResult> => {
      released.push(claim.ref.id);
      return { kind: "released" };
    },
  } as Partial<WorkerOptions["endings"]> as WorkerOptions["endings"];
  const { hooks, told } = recording();
  const resource =
    batchSize === undefined ? resourceOf() : resourceOf({ fetchMany: async () => [], batchSize });
  const provider = {
    ...providerOf(Object.fromEntries(resources.map((name) => [name, resource]))),
    ...(rate === undefined ? undefined : { api: { rateLimit: { requests: rate } } }),
  };
  const options = { concurrency: SLOTS, timeoutMs: 1_000 };
  const handler = { kind: "single" as const, run: () => {}, options };
  const worker = new Worker({
    routes: [
      { name: "crm.contact", provider: provider as never, resourceName: "contact", resource, handler },
    ],
    store: {
      guarantees: { durability: "disk", shared, transactional: true },
      nextDue: async () => undefined,
    } as Partial<Store<unknown>> as Store<unknown>,
    session,
    runner,
    endings,
    fetchSlots: slots,
    apis: fakeApis(),
    clock: { now: clock.now, monotonic: () => monotonic, setTimer: clock.setTimer },
    hooks,
    limits,
    runPass: async () => {},
    onLost: () => {},
  });
  onTestFinished(() => worker.stop());
  return { begun, order, released, requests, told, worker };
}

/** Turns of the event loop until something is so, at most a thousand. */
async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; turns < 1_000 && !isSo(); turns += 1) await turn();
  expect(isSo()).toBe(true);
}

describe("claims ahead of the slots", () => {
  test("should grow with what gets done, and leave nothing out", async () => {
    const { begun, requests, worker } = setup({ objects: 2_000, claimMs: 5 });
    worker.start();
    await until(() => begun.length === 2_000);
    expect(requests.slice(0, 3)).toEqual([SLOTS, SLOTS, SLOTS]);
    expect(Math.max(...requests)).toBeGreaterThan(4 * SLOTS);
    expect(new Set(begun).size).toBe(2_000);
  });

  test("should not be made while work takes long", async () => {
    const slow = gate();
    const { begun, requests, worker } = setup({
      objects: 2_000,
      claimMs: AHEAD_MS,
      work: () => slow.promise,
    });
    worker.start();
    await until(() => begun.length === SLOTS);
    for (let turns = 0; turns < 20; turns += 1) await turn();
    expect(requests).toEqual([SLOTS]);
    slow.open();
  });

  test("should not be made where a rate is configured, which says how fast it goes", async () => {
    const { begun, requests, worker } = setup({ objects: 500, claimMs: 5, rate: 1_000 });
    worker.start();
    await until(() => begun.length === 500);
    expect(Math.max(...requests)).toBe(SLOTS);
  });
});

describe("the next claim", () => {
  test("should be on its way to a shared store before the batch is begun that came", async () => {
    const { order, worker } = setup({ objects: 40, batchSize: 10, shared: true });
    worker.start();
    await until(() => order.length >= 6);
    expect(order.slice(0, 6)).toEqual([
      "claim of 20",
      "claim of 20",
      "work on 0",
      "work on 10",
      "work on 20",
      "work on 30",
    ]);
  });

  test("should be written down by a store of this process with the end of the batch", async () => {
    const { order, worker } = setup({ objects: 40, batchSize: 10 });
    worker.start();
    await until(() => order.length >= 5);
    expect(order.slice(0, 5)).toEqual(["claim of 40", "work on 0", "work on 10", "work on 20", "work on 30"]);
  });

  test("should leave slots to what has been claimed and not begun", async () => {
    const slow = gate();
    const { begun, requests, worker } = setup({ objects: 100, shared: true, work: () => slow.promise });
    worker.start();
    await until(() => begun.length === SLOTS);
    for (let turns = 0; turns < 20; turns += 1) await turn();
    expect(requests).toEqual([SLOTS]);
    slow.open();
  });
});

/** Work is fast, until a number of objects has begun; from then on it waits for `goOn`. */
function stalling(count: number) {
  const goOn = gate();
  let begun = 0;
  const work = async (): Promise<void> => {
    begun += 1;
    if (begun > count) await goOn.promise;
  };
  return { goOn, work };
}

describe("what was claimed ahead", () => {
  test("should go back as it came when the worker stops, and what has a slot be waited for", async () => {
    const { goOn, work } = stalling(500);
    const { begun, released, worker } = setup({ objects: 2_000, claimMs: 5, work });
    worker.start();
    await until(() => begun.length === 500 + SLOTS);
    let stopped = false;
    const stopping = worker.stop().then(() => (stopped = true));
    await until(() => released.length > SLOTS);
    expect([begun.length, stopped, worker.quiet]).toEqual([500 + SLOTS, false, false]);
    goOn.open();
    await stopping;
    expect(begun.filter((id) => released.includes(id))).toEqual([]);
    expect(begun.length).toBe(500 + SLOTS);
    expect(worker.quiet).toBe(true);
  });

  test("should go back when its connection is paused, of whatever route, and that of others stay", async () => {
    const { goOn, work } = stalling(1_000);
    const connectionOf = (i: number) => (i % 2 === 0 ? "a" : "b");
    const parts = { objects: 4_000, claimMs: 5, connectionOf, resources: ["contact", "deal"], work };
    const { begun, released, requests, worker } = setup(parts);
    worker.start();
    await until(() => begun.length === 1_000 + SLOTS);
    await turn();
    const before = requests.length;
    worker.holdBack({ provider: "erp", connection: "a" });
    worker.holdBack({ provider: "crm", connection: "c" });
    await turn();
    expect(released).toEqual([]);
    worker.holdBack({ provider: "crm", connection: "a" });
    const held = begun.length;
    goOn.open();
    await until(() => worker.quiet && begun.length + released.length === 4_000);
    expect(released.length).toBeGreaterThan(SLOTS);
    expect(released.every((id) => Number(id) % 2 === 0)).toBe(true);
    expect(begun.slice(held).filter((id) => Number(id) % 2 === 1).length).toBeGreaterThan(SLOTS);
    expect(new Set([...begun, ...released]).size).toBe(4_000);
    expect(requests[before]).toBeLessThanOrEqual(SLOTS);
  });
});
