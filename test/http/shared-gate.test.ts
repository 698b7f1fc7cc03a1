import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { defineProvider, defineResource, SyncEngine } from "trueup";
import { redisStore } from "trueup/redis";
import { Redis } from "ioredis";
import { z } from "zod";
import { TrueupError } from "../../src/core/errors.ts";
import type { PermitGrant } from "../../src/core/store.ts";
import { sleep } from "../../src/core/clock.ts";
import { createLimiter, PermitSpent } from "../../src/http/limiter.ts";
import type { Permit } from "../../src/http/rate-gate.ts";
import type { TakePermits } from "../../src/http/shared-gate.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { newPrefix, removeKeys } from "../stores/redis-fixture.ts";
import { clientOf, json, rejection, serve, until } from "./harness.ts";

const never = new AbortController().signal;

/** A store's permits, in memory. @param spanOf for how long one counts, by who asks next; by default, who asked for it says */
function permitsOf(clock: TestClock, spanOf = (own: number, _asker: number) => own): TakePermits {
  const given: { readonly at: number; readonly perMs: number }[] = [];
  return async ({ requests, perMs }, wanted): Promise<PermitGrant> => {
    const now = clock.now();
    const ends = given.map((one) => one.at + spanOf(one.perMs, perMs)).filter((end) => end > now);
    const permits = Math.max(0, Math.min(wanted, requests - ends.length));
    for (let i = 0; i < permits; i += 1) given.push({ at: now, perMs });
    const first = Math.min(...ends, now + perMs);
    return { permits, retryInMs: permits === wanted ? 0 : first - now };
  };
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** The most that fell into any window: [start, start + windowMs). */
function mostIn(windowMs: number, moments: readonly number[]): number {
  const counts = moments.map((start) => moments.filter((at) => at >= start && at < start + windowMs).length);
  return Math.max(0, ...counts);
}

describe("a rate that several processes share", () => {
  const rateLimit = { requests: 5, perMs: 1_000 };

  function processes(takePermits: (clock: TestClock) => TakePermits | undefined) {
    const clock = new TestClock();
    const permits = takePermits(clock);
    const limiters = [1, 2].map(() =>
      createLimiter({ rateLimit, maxConcurrent: 32, clock, takePermits: permits }),
    );
    onTestFinished(() => limiters.forEach((limiter) => limiter.close()));
    const starts: number[] = [];
    const calls = Array.from({ length: 20 }, async (_, i) => {
      await limiters[i % 2]?.run(async () => void starts.push(clock.now()), { signal: never });
    });
    return { clock, limiters, starts, calls };
  }

  test("should hold in every window over all of them, and be used", async () => {
    const { clock, limiters, starts, calls } = processes(permitsOf);
    await until(() => starts.length === 5);
    while (starts.length < 20) await clock.advance(10);
    await Promise.all(calls);
    expect(mostIn(1_000, starts)).toBe(5);
    expect((starts.at(-1) ?? 0) - (starts[0] ?? 0)).toBeLessThan(3_300); // 3 windows, each a little longer
    expect(limiters.every((limiter) => limiter.idle())).toBe(true);
    await clock.advance(5_000);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should be each one's own where they share nothing (control)", async () => {
    const { limiters, starts, calls } = processes(() => undefined);
    await until(() => starts.length === 10); // and no time has passed
    for (const limiter of limiters) limiter.close();
    await Promise.allSettled(calls);
  });

  test("should refuse calls while the store cannot be asked, and let later ones through", async () => {
    const clock = new TestClock();
    const permits = permitsOf(clock);
    let broken = true;
    const takePermits: TakePermits = async (budget, wanted) => {
      if (broken) throw new TrueupError("STORE_FAILED", "no");
      return permits(budget, wanted);
    };
    const limiter = createLimiter({ rateLimit, maxConcurrent: 32, clock, takePermits });
    onTestFinished(() => limiter.close());
    const refused = await Promise.all(
      [1, 2].map(() => rejection(limiter.run(async () => "started", { signal: never }))),
    );
    expect(refused).toMatchObject([{ code: "RETRY_LATER" }, { code: "RETRY_LATER" }]);
    broken = false;
    expect(await limiter.run(async () => "started", { signal: never })).toBe("started");
  });

  test("should not use permits that were too long on their way", async () => {
    const clock = new TestClock();
    const permits = permitsOf(clock);
    const answers: (() => void)[] = [];
    const asked: number[] = [];
    const takePermits: TakePermits = async (budget, wanted) => {
      asked.push(budget.perMs);
      const grant = await permits(budget, wanted);
      if (asked.length === 1) await new Promise<void>((resolve) => answers.push(resolve));
      return grant;
    };
    const limiter = createLimiter({ rateLimit, maxConcurrent: 32, clock, takePermits });
    onTestFinished(() => limiter.close());
    let started = false;
    const call = limiter.run(async () => void (started = true), { signal: never });
    await until(() => answers.length === 1);
    await clock.advance(400);
    answers[0]?.();
    await clock.advance(0);
    await until(() => asked.length === 2 || started);
    expect(asked).toEqual([1_051, 1_801]); // a store as slow as that makes the window longer by its delay
    await call;
  });
});

describe("requests of several processes, as they leave", () => {
  interface Delays {
    /** Of each question to the store, there and back; and of each turn, until its request could leave. */
    readonly asking: readonly number[];
    readonly answering: readonly number[];
    readonly leaving: readonly number[];
  }

  interface Broken {
    readonly ignoresAge?: boolean;
    readonly spanOf?: (own: number, asker: number) => number;
  }

  const PER_MS = 1_000;
  const CALLS = 18;

  /** @returns when each has left, by the one clock that all have here */
  async function departures(
    requests: number,
    delaysOf: readonly Delays[],
    broken: Broken = {},
  ): Promise<number[]> {
    const clock = new TestClock();
    const permits = permitsOf(clock, broken.spanOf);
    const left: number[] = [];
    const processes = delaysOf.map((delays) => {
      let drawn = 0;
      const wait = async (from: readonly number[]) => {
        drawn += 1;
        await sleep(clock, from[drawn % from.length] ?? 0);
      };
      const limiter = createLimiter({
        rateLimit: { requests, perMs: PER_MS },
        maxConcurrent: 4,
        clock,
        takePermits: async (budget, wanted) => {
          await wait(delays.asking);
          const grant = await permits(budget, wanted);
          await wait(delays.answering);
          return grant;
        },
      });
      const request = async (permit?: Permit) => {
        await wait(delays.leaving);
        if (permit?.leave() !== true && broken.ignoresAge !== true) throw new PermitSpent();
        left.push(clock.now());
      };
      return { limiter, call: () => limiter.run(request, { signal: never }) };
    });
    const calls = Array.from({ length: CALLS }, (_, i) => processes[i % processes.length]!.call());
    for (let steps = 0; left.length < CALLS; steps += 1) {
      expect(steps, "all have their turn in the end").toBeLessThan(100_000);
      await clock.advance(Math.max(1, clock.nextTimerInMs ?? 1));
    }
    await Promise.all(calls);
    for (const { limiter } of processes) limiter.close();
    return left;
  }

  // As they are near the store, and with one step that takes as long as another window, now and then.
  const delay = fc.oneof(
    { arbitrary: fc.nat(49), weight: 6 },
    { arbitrary: fc.integer({ min: 50, max: 400 }), weight: 2 },
    { arbitrary: fc.integer({ min: 900, max: 3_000 }), weight: 1 },
  );
  const list = fc.array(delay, { minLength: 1, maxLength: 12 });
  const anyDelays = fc.record({ asking: list, answering: list, leaving: list });
  const ofThree = fc.array(anyDelays, { minLength: 3, maxLength: 3 });
  const anyRate = fc.integer({ min: 1, max: 6 });

  const holds = (broken?: Broken) =>
    fc.asyncProperty(anyRate, ofThree, async (requests, delays) => {
      expect(mostIn(PER_MS, await departures(requests, delays, broken))).toBeLessThanOrEqual(requests);
    });

  test(
    "should be no more than the rate in any window, whatever the delays on the way (I10)",
    { timeout: 60_000 },
    async () => {
      await fc.assert(holds(), { numRuns: 300 });
    },
  );

  test.each([
    ["old permits were used", { ignoresAge: true }],
    [
      "permits counted for as long as the next one asks for",
      { spanOf: (_own: number, asker: number) => asker },
    ],
    ["permits counted for one window", { spanOf: () => PER_MS }],
  ] satisfies [string, Broken][])("would be more if %s (control)", { timeout: 60_000 }, async (_, broken) => {
    const { failed } = await fc.check(holds(broken), { numRuns: 1_000, seed: 7, endOnFailure: true });
    expect(failed).toBe(true);
  });
});

describe("a request that has to wait for its connection", () => {
  test.each(["shared", "own"] as const)(
    "should leave with a permit that counts for as long as it should (%s)",
    async (kind) => {
      const server = await serve((_, response) => json(response, {}));
      const clock = new TestClock();
      const { Agent, buildConnector } = await import("undici");
      const connects: (() => void)[] = [];
      const connect = buildConnector({});
      const dispatcher = new Agent({
        connect: (options, callback) => void connects.push(() => connect(options, callback)),
      });
      onTestFinished(() => dispatcher.close());
      const left: number[] = [];
      const onSent = () => void left.push(clock.monotonic());
      subscribe("undici:client:sendHeaders", onSent);
      onTestFinished(() => void unsubscribe("undici:client:sendHeaders", onSent));
      const permits = permitsOf(clock);
      let asked = 0;
      const { context, events } = clientOf(`${server.origin}/v1/`, {
        clock,
        dispatcher,
        api: { rateLimit: { requests: 1, perMs: 1_000 } },
        takePermits:
          kind === "own"
            ? undefined
            : (budget, wanted) => {
                asked += 1;
                return permits(budget, wanted);
              },
      });
      const { api } = await context();
      const first = api.get("first");
      await until(() => connects.length === 1);
      await clock.advance(700); // longer than a permit may be used, and shorter than its window
      connects[0]?.();
      if (kind === "shared") {
        await until(() => asked === 2);
        expect(server.seen).toHaveLength(0);
        while (left.length === 0) await clock.advance(10);
      }
      await first;
      const second = api.get("second");
      while (left.length === 1) await clock.advance(10);
      await second;
      expect(left[1]! - left[0]!).toBeGreaterThanOrEqual(1_000);
      expect(connects).toHaveLength(1); // the one that was waited for is kept
      expect(events).toHaveLength(2); // and nobody hears of a request that was not sent
    },
  );
});

describeWith("redis")("a rate over engines that share a store on Redis", () => {
  test("should hold in every window at the provider", async () => {
    const arrivals: number[] = [];
    const server = createServer((request, response) => {
      arrivals.push(performance.now());
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ id: request.url?.split("/").at(-1) }));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const prefix = newPrefix();
    const client = new Redis(serviceUrl("redis"));
    onTestFinished(async () => {
      await removeKeys(client, prefix);
      await client.quit();
    });
    const perMs = 400;
    const crm = defineProvider({
      name: "crm",
      api: {
        baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
        rateLimit: { requests: 8, perMs },
      },
      resources: {
        contact: defineResource({
          schema: z.object({ id: z.string() }),
          idOf: (contact) => contact.id,
          fetch: (id, { api }) => api.get(`contact/${id}`),
        }),
      },
    });
    const handled = new Set<string>();
    const all = Promise.withResolvers<void>();
    const engines = [1, 2, 3].map(() => {
      const engine = new SyncEngine({
        providers: [crm],
        store: redisStore({ url: serviceUrl("redis"), prefix }),
        logger: quiet,
      });
      engine.handle("crm.contact", (change) => {
        handled.add(change.ref.id);
        if (handled.size === 60) all.resolve();
      });
      onTestFinished(() => engine.stop());
      return engine;
    });
    for (const engine of engines) await engine.start();
    const startedAt = performance.now();
    await engines[0]?.trigger(
      "crm.contact",
      Array.from({ length: 60 }, (_, i) => `c${i}`),
    );
    await all.promise;
    expect(arrivals).toHaveLength(60);
    // The machine may delay arrivals, but none can come early: by then there had been no more permits.
    for (const [i, at] of arrivals.entries()) {
      expect(at - startedAt).toBeGreaterThanOrEqual(Math.floor(i / 8) * perMs);
    }
  });
});
