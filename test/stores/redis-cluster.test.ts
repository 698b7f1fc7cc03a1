import type { Cluster } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, test } from "vitest";
import { redisStore } from "trueup/redis";
import { testStore } from "trueup/testing";
import type { Store } from "../../src/core/store.ts";
import { describeWith } from "../services.ts";
import { appendIds, claimUpTo, done, idsOf, scopeOf } from "../../src/testing/store-suite/words.ts";
import { newPrefix, opened, RedisCluster, removeKeys } from "./redis-fixture.ts";

describeWith("redis")("redisStore on a cluster of three masters", () => {
  let cluster: RedisCluster;
  let client: Cluster;
  const prefixes = new Map<Store, string>();
  const open = (prefix: string) => {
    const store = redisStore({ client, prefix });
    prefixes.set(store, prefix);
    return store;
  };

  beforeAll(async () => {
    cluster = await RedisCluster.start();
    client = cluster.client();
  }, 60_000);
  afterAll(async () => {
    client.disconnect();
    await cluster.end();
  });

  testStore(
    { describe, it },
    {
      create: () => open(newPrefix()),
      reopen: (store) => open(prefixes.get(store) ?? ""),
      dispose: async (store) => {
        for (const node of client.nodes("master")) await removeKeys(node, prefixes.get(store) ?? "");
      },
    },
  );

  test("should spread connections over the masters", async () => {
    const prefix = newPrefix();
    const store = await opened(open(prefix));
    onTestFinished(async () => {
      for (const node of client.nodes("master")) await removeKeys(node, prefix);
    });
    const connections = Array.from({ length: 60 }, (_, i) => `c${i}`);
    await Promise.all(connections.map((name) => appendIds(store, [name], { scope: scopeOf(name) })));
    const counts = await Promise.all(
      client.nodes("master").map(async (node) => (await node.keys(`{${prefix}:p*:objects`)).length),
    );
    expect(counts.every((count) => count > 0)).toBe(true);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);

    const session = await store.work({ leaseMs: 30_000 });
    const found: string[] = [];
    for (let claims = await claimUpTo(session, 7); claims.length > 0; claims = await claimUpTo(session, 7)) {
      found.push(...idsOf(claims));
      await session.settle(claims.map((claim) => done(claim)));
    }
    expect(found.toSorted()).toEqual(connections.toSorted());
  });

  test("should not be opened through one node's address", async () => {
    const store = redisStore({ url: cluster.urls[0] ?? "" });
    await expect(opened(store)).rejects.toMatchObject({ code: "OPTION_INVALID" });
  });
});
