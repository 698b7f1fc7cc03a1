import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, test } from "vitest";
import {
  redisStreamsPublisher,
  redisStreamsSource,
  type RedisStreamsSourceOptions,
} from "trueup/redis-streams";
import { testSource } from "trueup/testing";
import { sleep, systemClock } from "../../src/core/clock.ts";
import { TrueupError } from "../../src/core/errors.ts";
import type { Outcome } from "../../src/core/source.ts";
import { rejection } from "../core/fakes.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { OwnServer } from "./own-server.ts";
import { proxied } from "./tcp-proxy.ts";

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

describeWith("redis")("Redis Streams", () => {
  let admin: Redis;
  beforeAll(() => void (admin = new Redis(serviceUrl("redis"))));
  afterAll(() => admin.disconnect());

  /** Entries that the group has not acked: those in hands, and those that nobody had yet. */
  const remaining = async (stream: string): Promise<number> => {
    const groups = (await admin.call("XINFO", "GROUPS", stream).catch(() => [])) as (string | number)[][];
    const [fields] = groups;
    if (fields === undefined) return await admin.xlen(stream);
    const of = (name: string) => fields[fields.indexOf(name) + 1];
    const left = await admin.xrange(stream, `(${of("last-delivered-id")}`, "+");
    return Number(of("pending")) + left.length;
  };

  testSource(
    { describe, it },
    {
      create: async () => {
        const stream = `trueup-test-${randomUUID()}`;
        const { proxy, url } = await proxied(serviceUrl("redis"));
        const publisher = redisStreamsPublisher({ url: serviceUrl("redis"), stream });
        return {
          source: (wish) => redisStreamsSource({ ...wish, url, stream, leaseMs: 1_500 }),
          send: ({ body, headers = {} }) =>
            publisher.publish({ headers: new Map(Object.entries(headers)), body }),
          remaining: () => remaining(stream),
          deadLetters: async () => {
            const entries = (await admin.callBuffer("XRANGE", `${stream}:dead`, "-", "+")) as [
              Buffer,
              Buffer[],
            ][];
            return entries.map(
              ([, fields]) => fields[fields.findIndex((field) => String(field) === "body") + 1]!,
            );
          },
          cut: () => proxy.cut(),
          dispose: async () => {
            await publisher.close();
            await proxy.stop();
            await admin.del(stream, `${stream}:dead`);
          },
        };
      },
    },
  );

  /** A source over a stream of the test's own. */
  const setup = (given: Partial<RedisStreamsSourceOptions> = {}) => {
    const stream = `trueup-test-${randomUUID()}`;
    const url = serviceUrl("redis");
    const publisher = redisStreamsPublisher({ url, stream });
    const stop = new AbortController();
    const seen: string[] = [];
    const told: unknown[] = [];
    let become: () => Outcome | Promise<Outcome> = () => accepted;
    const run = (options: Partial<RedisStreamsSourceOptions> = {}) => {
      const source = redisStreamsSource({
        provider: "crm",
        url,
        stream,
        leaseMs: 1_000,
        ...given,
        ...options,
      });
      const running = source.run(
        async (deliveries) => {
          for (const raw of deliveries) if ("delivery" in raw) seen.push(String(raw.delivery.id));
          return Promise.all(deliveries.map(async () => become()));
        },
        stop.signal,
        { clock: systemClock, random: () => 0.5, emit: (name, event) => void told.push({ name, event }) },
      );
      running.catch(() => {});
      return running;
    };
    onTestFinished(async () => {
      stop.abort();
      await publisher.close();
      await admin.del(stream, `${stream}:dead`);
    });
    const send = async (count: number) => {
      for (let i = 0; i < count; i += 1)
        await publisher.publish({ headers: new Map([["x-topic", "a"]]), body: Buffer.from("{}") });
    };
    return { run, seen, send, stop, stream, told, becomes: (next: typeof become) => (become = next) };
  };
  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    for (let looks = 0; !(await holds()); looks += 1) {
      if (looks > 1_000) throw new Error(`waited in vain: ${what}`);
      await sleep(systemClock, 10);
    }
  };

  test("should claim what a dead consumer held, once its lease is over, and forget its own when it stops", async () => {
    const at = setup();
    await at.send(2);
    await admin.xgroup("CREATE", at.stream, "trueup", "0");
    await admin.xreadgroup("GROUP", "trueup", "dead", "COUNT", 2, "STREAMS", at.stream, ">");
    const running = at.run();
    await until("both should be acked", async () => (await remaining(at.stream)) === 0);
    expect(at.seen).toHaveLength(2);
    at.stop.abort();
    await running;
    const consumers = (await admin.call("XINFO", "CONSUMERS", at.stream, "trueup")) as string[][];
    expect(consumers.map(([, name]) => name)).toEqual(["dead"]);
  });

  test("should leave an entry to who has claimed it, and ack nothing of theirs (I8)", async () => {
    const at = setup({ leaseMs: 60_000 });
    const work = Promise.withResolvers<void>();
    at.becomes(async () => {
      await work.promise;
      return accepted;
    });
    await at.send(1);
    const running = at.run();
    await until("it should come", () => at.seen.length === 1);
    await admin.xclaim(at.stream, "trueup", "other", 0, at.seen[0]!);
    work.resolve();
    await until("it should be told", () => at.told.length === 1);
    expect(at.told).toMatchObject([{ name: "delivery.unsettled", event: { reason: "lease-lost" } }]);
    const [[, holder] = []] = (await admin.xpending(at.stream, "trueup", "-", "+", 10)) as string[][];
    expect(holder).toBe("other");
    at.stop.abort();
    await running;
  });

  test("should not be acked by the same consumer's earlier delivery of the same entry", async () => {
    const at = setup({ leaseMs: 60_000 });
    const work = Promise.withResolvers<void>();
    at.becomes(async () => {
      await work.promise;
      return accepted;
    });
    await at.send(1);
    void at.run();
    await until("it should come", () => at.seen.length === 1);
    const [[id, holder] = []] = (await admin.xpending(at.stream, "trueup", "-", "+", 10)) as string[][];
    await admin.xclaim(at.stream, "trueup", holder!, 0, id!); // delivered once more
    work.resolve();
    await until("it should be told", () => at.told.length === 1);
    expect(await remaining(at.stream)).toBe(1);
  });

  test("should drop what all groups have acked, and nothing that one of them has not", async () => {
    const at = setup();
    await admin.xgroup("CREATE", at.stream, "slow", "0", "MKSTREAM");
    await at.send(5);
    const running = at.run();
    await until("all should be acked", async () => at.seen.length === 5 && at.told.length === 0);
    at.stop.abort();
    await running;
    expect(await admin.xlen(at.stream)).toBe(5);
    await admin.xgroup("DESTROY", at.stream, "slow");
    const after = setup();
    const next = redisStreamsPublisher({ url: serviceUrl("redis"), stream: at.stream });
    await next.publish({ headers: new Map(), body: Buffer.from("{}") });
    await next.close();
    const again = after.run({ stream: at.stream });
    await until("it should come", () => after.seen.length === 1);
    after.stop.abort();
    await again;
    expect(await admin.xlen(at.stream)).toBe(1); // the last one marks how far the group is
  });

  test("should keep the reason beside a dead letter, and no more of them than it may", async () => {
    const at = setup({ maxDeadLetters: 100 });
    at.becomes(() => ({ ...accepted, status: "rejected", error: new TrueupError("EVENTS_FAILED", "no") }));
    await at.send(1);
    void at.run();
    await until("it should be dead", async () => (await admin.xlen(`${at.stream}:dead`)) === 1);
    const [[, fields] = []] = await admin.xrange(`${at.stream}:dead`, "-", "+");
    expect(fields).toEqual([
      "body",
      "{}",
      "header:x-topic",
      "a",
      "header:trueup-reason",
      "EVENTS_FAILED: no",
    ]);
    expect(await remaining(at.stream)).toBe(0);
  });

  test("should bury an entry with more fields than a script can take", async () => {
    const at = setup();
    at.becomes(() => ({ ...accepted, status: "rejected", error: new TrueupError("EVENTS_FAILED", "no") }));
    const many = Array.from({ length: 5_000 }, (_, i) => [`f${i}`, "v"]).flat();
    await admin.xadd(at.stream, "*", ...many);
    void at.run();
    await until("it should be dead", async () => (await admin.xlen(`${at.stream}:dead`)) === 1);
    const [entry] = await admin.xrange(`${at.stream}:dead`, "-", "+");
    const [name, body] = entry?.[1] ?? [];
    expect(name).toBe("body");
    expect(JSON.parse(body ?? "")).toEqual(
      Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`f${i}`, "v"])),
    );
    expect(await remaining(at.stream)).toBe(0);
  });

  test("should read an entry of another producer as an object of its fields", async () => {
    const at = setup();
    let json: unknown;
    await admin.xadd(at.stream, "*", "type", "contact.put", "id", "c_1");
    const source = redisStreamsSource({ provider: "crm", url: serviceUrl("redis"), stream: at.stream });
    void source.run(async ([raw]) => {
      json = raw !== undefined && "delivery" in raw ? raw.delivery.json : undefined;
      return [accepted];
    }, at.stop.signal);
    await until("it should come", () => json !== undefined);
    expect(json).toEqual({ type: "contact.put", id: "c_1" });
  });

  test("should say clearly that the password is refused, without it", async () => {
    const server = await OwnServer.start("redis", ["--requirepass", "right"]);
    onTestFinished(() => server.remove());
    const { signal } = new AbortController();
    for (const login of ["", ":hunter2@"]) {
      const source = redisStreamsSource({
        provider: "crm",
        url: `redis://${login}127.0.0.1:${server.port}`,
        stream: "s",
      });
      const error = await rejection(source.run(async () => [], signal));
      expect(error).toMatchObject({ code: "UNAUTHORIZED" });
      expect(`${error.message} ${String(error.cause)}`).not.toContain("hunter2");
    }
  });

  test.each<[string, Partial<RedisStreamsSourceOptions>]>([
    ["url", { url: "127.0.0.1" }],
    ["stream", { stream: "" }],
    ["group", { group: "" }],
    ["leaseMs", { leaseMs: 10 }],
    ["maxDeadLetters", { maxDeadLetters: 0 }],
  ])("should refuse a wrong `%s`", (name, options) => {
    const url = "redis://redis.example";
    expect(() => redisStreamsSource({ provider: "crm", url, stream: "s", ...options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});
