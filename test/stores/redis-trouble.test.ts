import { once } from "node:events";
import { Redis } from "ioredis";
import { describe, expect, onTestFinished, test } from "vitest";
import { redisStore } from "trueup/redis";
import type { TrueupError } from "../../src/index.ts";
import type { Claim, WorkSession } from "../../src/core/store.ts";
import { entry, indexEntry, ROUTE, SCOPE } from "../../src/testing/store-suite/words.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { environment, newPrefix, opened, RedisServer, removeKeys } from "./redis-fixture.ts";

const LEASE_MS = 30_000;

async function rejection(call: Promise<unknown>): Promise<TrueupError> {
  return await call.then(
    () => Promise.reject(new Error("it should have rejected")),
    (error: unknown) => error as TrueupError,
  );
}

/** Asks again until it is answered without an error. */
async function untilAnswered<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

async function settleAll(session: WorkSession, limit: number): Promise<string[]> {
  const claims = await session.claim({ ...ROUTE, limit });
  const settlements = claims.map((claim) => ({ claim, kind: "done" as const, index: indexEntry() }));
  await untilAnswered(() => session.settle(settlements)); // as the engine does
  return claims.map(({ ref }) => ref.id);
}

describeWith("redis")("redisStore that is opened", () => {
  test("should say that a password is wrong, or missing", async () => {
    const server = await RedisServer.start("--requirepass", "secret");
    const wrong = redisStore({ url: `redis://:wrong@127.0.0.1:${server.port}` });
    expect(await rejection(wrong.open(environment()))).toMatchObject({
      code: "STORE_FAILED",
      message: "Redis refused the user name or password",
    });
    const missing = redisStore({ url: server.url });
    expect(await rejection(missing.open(environment()))).toMatchObject({
      code: "STORE_FAILED",
      message: "Redis wants a password, and none was given",
    });
    await opened(redisStore({ url: `redis://:secret@127.0.0.1:${server.port}` })); // control
  });

  test("should say what it could not reach, or what was refused", async () => {
    const server = await RedisServer.start();
    const elsewhere = redisStore({ url: `${server.url}/99` });
    expect((await rejection(elsewhere.open(environment()))).message).toBe(
      "Redis refused what it was asked to do: ERR DB index is out of range",
    );
    const nowhere = redisStore({ url: "redis://127.0.0.1:1" });
    expect((await rejection(nowhere.open(environment()))).message).toMatch(
      /cannot be reached.*ECONNREFUSED 127/,
    );
  });

  test("should say that its user lacks rights", async () => {
    const server = await RedisServer.start();
    await server
      .client()
      .call("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@read", "+@connection", "+info");
    const store = redisStore({ url: `redis://limited:pw@127.0.0.1:${server.port}` });
    const error = await rejection(store.open(environment()));
    expect(error.code).toBe("STORE_FAILED");
    expect(error.message).toContain("lacks rights");
  });

  test("should refuse a replica", async () => {
    const primary = await RedisServer.start();
    const replica = await RedisServer.start("--replicaof", "127.0.0.1", String(primary.port));
    const error = await rejection(redisStore({ url: replica.url }).open(environment()));
    expect(error).toMatchObject({ code: "STORE_FAILED" });
    expect(error.message).toContain("cannot be written to");
  });

  test("should refuse a server that throws keys away", async () => {
    const server = await RedisServer.start("--maxmemory-policy", "allkeys-lru");
    const error = await rejection(redisStore({ url: server.url }).open(environment()));
    expect(error).toMatchObject({ code: "STORE_FAILED" });
    expect(error.message).toContain("set maxmemory-policy to noeviction");
  });

  test("should warn of a server that writes nothing to disk, and say what one guarantees", async () => {
    const [volatile, synced] = [
      await RedisServer.start(),
      await RedisServer.start("--appendonly", "yes", "--appendfsync", "always"),
    ];
    const lines: string[] = [];
    const store = await opened(redisStore({ url: volatile.url }), lines);
    expect(lines).toEqual([expect.stringContaining("warn: this Redis writes nothing to disk")]);
    expect(store.guarantees.durability).toBe("process");
    const quiet: string[] = [];
    const durable = await opened(redisStore({ url: synced.url }), quiet);
    expect(quiet).toEqual([]);
    expect(durable.guarantees.durability).toBe("disk");
  });

  test("should reject when nothing answers, and open when something does", async () => {
    const server = await RedisServer.start();
    await server.kill();
    const store = redisStore({ url: server.url });
    expect((await rejection(store.open(environment()))).code).toBe("STORE_FAILED");
    await server.start();
    await opened(store);
    await store.append([entry("a")]);
  });

  test("should keep the number of partitions that it was made with", async () => {
    const server = await RedisServer.start();
    await opened(redisStore({ url: server.url, partitions: 4 }));
    const other = redisStore({ url: server.url, partitions: 8 });
    expect((await rejection(other.open(environment()))).code).toBe("OPTION_INVALID");
    await opened(redisStore({ url: server.url }));
  });
});

describeWith("redis")("redisStore in trouble", () => {
  test("should refuse events when the memory is full, and let work go on that frees it", async () => {
    const server = await RedisServer.start();
    const client = server.client();
    const store = await opened(redisStore({ url: server.url }));
    const session = await store.work({ leaseMs: LEASE_MS });
    const data = "x".repeat(10_000);
    await store.append(Array.from({ length: 100 }, (_, i) => entry(`o${i}`, { eventId: `${i}`, data })));
    await client.config("SET", "maxmemory", "1mb");
    const event = entry("more", { eventId: "more", data });
    expect((await rejection(store.append([event]))).code).toBe("STORE_FULL");
    expect(await session.heartbeat()).toBe(true);
    expect(await settleAll(session, 1_000)).toHaveLength(100);
    await client.config("SET", "maxmemory", "0");
    expect(await store.append([event])).toMatchObject([{ status: "accepted" }]); // and not a duplicate: nothing was kept
  });

  test("should go on when the server has forgotten its scripts", async () => {
    const server = await RedisServer.start();
    const store = await opened(redisStore({ url: server.url }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await server.client().script("FLUSH");
    await Promise.all([store.append([entry("a")]), store.append([entry("b", { scope: SCOPE })])]);
    expect((await settleAll(session, 10)).toSorted()).toEqual(["a", "b"]);
  });

  test("should reject what is under way when its connection is cut, and go on", async () => {
    const server = await RedisServer.start();
    const store = await opened(redisStore({ url: server.url }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a", { eventId: "1" })]);
    const client = server.client();
    const writing = Array.from({ length: 50 }, (_, i) => store.append([entry("a", { eventId: `w${i}` })]));
    await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    const ended = await Promise.allSettled(writing);
    for (const one of ended) {
      if (one.status === "rejected") expect((one.reason as TrueupError).code).toBe("STORE_FAILED");
    }
    // Who was told that it failed says it again; no event is in there twice.
    await untilAnswered(() =>
      store.append(Array.from({ length: 50 }, (_, i) => entry("a", { eventId: `w${i}` }))),
    );
    const [claim] = await session.claim({ ...ROUTE, limit: 1 });
    expect(claim?.eventCount).toBe(51);
  });

  test("should give back what was leased when the answer to a claim is lost", async () => {
    const server = await RedisServer.start();
    const client = new Redis(server.port, "127.0.0.1", {
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
    });
    client.on("error", () => {});
    onTestFinished(() => client.disconnect());
    const store = await opened(redisStore({ client }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a", { eventId: "1" })]);
    await session.claim({ ...ROUTE, resource: "deal", limit: 1 }); // the server knows the script now
    loseNextAnswer(client);
    expect((await rejection(session.claim({ ...ROUTE, limit: 1 }))).code).toBe("STORE_FAILED");
    expect((await store.pending(Date.now())).leased).toBe(1); // control: it was leased
    const [claim] = await untilAnswered(() => session.claim({ ...ROUTE, limit: 1 }));
    expect(claim).toMatchObject({ ref: { id: "a" }, attempt: 1, begun: false, eventCount: 1 });
  });

  test.each([
    ["are lost on the way", new Error("Connection is closed.")],
    ["are refused", Object.assign(new Error("LOADING Redis is loading"), { name: "ReplyError" })],
  ])("should give back what was leased when its events %s", async (_, failure) => {
    const server = await RedisServer.start();
    const client = server.client();
    const store = await opened(redisStore({ client }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a", { eventId: "1" })]);
    failNext(client, "HMGET", failure);
    expect((await rejection(session.claim({ ...ROUTE, limit: 1 }))).code).toBe("STORE_FAILED");
    expect((await store.pending(Date.now())).leased).toBe(1); // control: it was leased
    const [claim] = await session.claim({ ...ROUTE, limit: 1 });
    expect(claim).toMatchObject({ ref: { id: "a" }, attempt: 1, begun: false, eventCount: 1 });
    expect(claim?.events).toHaveLength(1);
  });

  test("should hand out a claim whose event cannot be read, and fail whoever looks at it", async () => {
    const server = await RedisServer.start();
    const client = server.client();
    const store = await opened(redisStore({ client }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a", { eventId: "1" }), entry("b", { eventId: "2" })]);
    const [events = ""] = await client.keys("*:events");
    const [seq = ""] = (await client.hkeys(events)).toSorted((a, b) => Number(a) - Number(b));
    await client.hset(events, seq, "{ spoilt");
    const claims = await session.claim({ ...ROUTE, limit: 2 });
    expect(claims.map(({ ref, eventCount }) => [ref.id, eventCount])).toEqual([
      ["a", 1],
      ["b", 1],
    ]);
    expect(() => claims[0]?.events).toThrow("the events of crm.contact/a cannot be read");
    expect(claims[1]?.events).toHaveLength(1);
    const ended = claims.map((claim) => ({ claim, kind: "done" as const, index: indexEntry() }));
    expect(await session.settle(ended)).toEqual(["settled", "settled"]);
    expect(await client.hlen(events), "what was seen is forgotten, read or not").toBe(0);
  });

  test("should go by what a copy of a claim says, and not by what its original held", async () => {
    const server = await RedisServer.start();
    const store = await opened(redisStore({ url: server.url }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a", { eventId: "1" })]);
    const [claim] = await session.claim({ ...ROUTE, limit: 1 });
    const settle = (copy: Claim) => session.settle([{ claim: copy, kind: "done", index: indexEntry() }]);
    expect(await settle({ ...claim!, fence: claim!.fence + 1 })).toEqual(["lost"]);
    expect(await settle({ ...claim! })).toEqual(["settled"]);
    expect(await settle(claim!), "the original, whose lease has ended").toEqual(["lost"]);
    expect(await store.countPresent(SCOPE)).toBe(1);
  });

  test("should not lease a second time what a client sends a second time", async () => {
    const server = await RedisServer.start();
    const client = server.client();
    const store = await opened(redisStore({ client }));
    const session = await store.work({ leaseMs: LEASE_MS });
    await store.append([entry("a"), entry("b")]);
    const sent: Parameters<Redis["evalsha"]>[] = [];
    const evalsha = client.evalsha.bind(client);
    client.evalsha = ((...args: Parameters<Redis["evalsha"]>) => {
      sent.push(args);
      return evalsha(...args);
    }) as Redis["evalsha"];
    const claims = await session.claim({ ...ROUTE, limit: 1 });
    expect(claims).toHaveLength(1);
    expect(await evalsha(...(sent[0] as Parameters<Redis["evalsha"]>))).toBe(0);
    expect((await store.pending(Date.now())).leased).toBe(1);
  });

  test("should lose nothing that it answered for when a server that syncs each write is killed", async () => {
    const server = await RedisServer.start("--appendonly", "yes", "--appendfsync", "always");
    const store = await opened(redisStore({ url: server.url }));
    const session = await store.work({ leaseMs: LEASE_MS });
    const [accepted, settled] = [new Set<string>(), new Set<string>()];
    const stop = new AbortController();
    const append = async (name: string) => {
      for (let n = 0; !stop.signal.aborted; n += 1) {
        const id = `${name}${n}`;
        await store.append([entry(id, { eventId: id })]).then(
          () => accepted.add(id),
          () => new Promise((resolve) => setImmediate(resolve)),
        );
      }
    };
    const work = async () => {
      while (!stop.signal.aborted) {
        await settleAll(session, 10).then(
          (ids) => ids.forEach((id) => settled.add(id)),
          () => new Promise((resolve) => setImmediate(resolve)),
        );
      }
    };
    const running = [append("a"), append("b"), append("c"), work()];
    while (accepted.size < 500) await new Promise((resolve) => setImmediate(resolve));
    await server.kill();
    await server.start();
    const before = accepted.size;
    while (accepted.size < before + 100) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await Promise.all(running);
    await session.heartbeat(); // gives back what was leased without an answer
    while ((await store.pending(Date.now())).due > 0) {
      for (const id of await settleAll(session, 100)) settled.add(id);
    }
    const found = await store.lookup(SCOPE, [...accepted]);
    expect(found.filter((one) => one === undefined)).toEqual([]);
    expect((await store.pending(Date.now())).leased).toBe(0);
    for (const id of settled) expect(found[[...accepted].indexOf(id)]?.index ?? "not accepted").toBeDefined();
  });

  test("should not wait for a server that is stopped", async () => {
    const server = await RedisServer.start();
    const store = redisStore({ url: server.url });
    const timers: (() => void)[] = [];
    await store.open({
      ...environment(),
      clock: { ...environment().clock, setTimer: (callback) => (timers.push(callback), () => {}) },
    });
    onTestFinished(() => store.close());
    server.signal("SIGSTOP");
    onTestFinished(() => server.signal("SIGCONT"));
    timers.length = 0;
    const appending = rejection(store.append([entry("a")]));
    while (timers.length === 0) await new Promise((resolve) => setImmediate(resolve));
    for (const fire of timers) fire();
    expect(await appending).toMatchObject({
      code: "STORE_FAILED",
      message: "Redis did not answer within 10000 ms",
    });
  });
});

describe("redisStore with options that cannot be", () => {
  const client = { status: "ready" } as never;
  test.each([
    [{}],
    [{ url: "redis://x", client }],
    [{ url: "http://x" }],
    [{ client }],
    [{ url: "redis://x", prefix: "{a}" }],
    [{ url: "redis://x", prefix: "" }],
    [{ url: "redis://x", partitions: 0 }],
    [{ url: "redis://x", partitions: 257 }],
  ])("should say so: %j", (options) => {
    expect(() => redisStore(options)).toThrowError(expect.objectContaining({ code: "OPTION_INVALID" }));
  });
});

/** The next command of this name fails, and the server hears nothing of it. */
function failNext(client: Redis, command: string, failure: Error): void {
  const call = client.call.bind(client);
  client.call = (async (...args: Parameters<typeof call>) => {
    if (args[0] !== command) return await call(...args);
    client.call = call;
    throw failure;
  }) as typeof call;
}

/** The server does what it is asked to, and its answer never comes. */
function loseNextAnswer(client: Redis): void {
  const evalsha = client.evalsha.bind(client);
  client.evalsha = (async (...args: Parameters<Redis["evalsha"]>) => {
    client.evalsha = evalsha;
    const closed = once(client, "close");
    await evalsha(...args);
    client.disconnect(true);
    await closed;
    throw new Error("Connection is closed.");
  }) as unknown as Redis["evalsha"];
}

describeWith("redis")("redisStore and a pass that nobody goes on with", () => {
  test("should not keep for ever what it has seen", async () => {
    const prefix = newPrefix();
    const client = new Redis(serviceUrl("redis"));
    onTestFinished(async () => {
      await removeKeys(client, prefix);
      await client.quit();
    });
    const store = await opened(redisStore({ url: serviceUrl("redis"), prefix }));
    const session = await store.work({ leaseMs: LEASE_MS });
    const lock = await store.lock("pass", LEASE_MS);
    const page = {
      scope: SCOPE,
      pass: "p",
      lock: lock!,
      mark: 0,
      differing: [],
      lease: false,
      checkpoint: "{}",
    };
    await session.recordPage({ ...page, seen: ["a"] });
    await store.forget(SCOPE.provider, SCOPE.connection);
    const [seen = ""] = await client.keys(`{${prefix}*:seen:*`);
    expect(await client.pttl(seen)).toBeGreaterThan(0);
    await session.release();
  });
});
