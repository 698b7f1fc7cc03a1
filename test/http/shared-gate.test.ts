import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { defineProvider, defineResource, SyncEngine } from "trueup";
import { redisStore } from "trueup/redis";
import { Redis } from "ioredis";
import { z } from "zod";
import { TrueupError } from "../../src/core/errors.ts";
import type { PermitGrant } from "../../src/core/store.ts";
import { createLimiter } from "../../src/http/limiter.ts";
import type { TakePermits } from "../../src/http/shared-gate.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { newPrefix, removeKeys } from "../stores/redis-fixture.ts";
import { rejection, until } from "./harness.ts";

const never = new AbortController().signal;

/** A store's permits, in memory. */
function permitsOf(clock: TestClock): TakePermits {
  const given: number[] = [];
  return async ({ requests, perMs }, wanted): Promise<PermitGrant> => {
    const now = clock.now();
    const out = given.filter((at) => at > now - perMs);
    const permits = Math.max(0, Math.min(wanted, requests - out.length));
    for (let i = 0; i < permits; i += 1) given.push(now);
    return { permits, retryInMs: permits === wanted ? 0 : (out[0] ?? now) + perMs - now };
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
