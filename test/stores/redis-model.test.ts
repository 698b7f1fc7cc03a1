import { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { redisStore } from "trueup/redis";
import type { Store } from "../../src/core/store.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { testAgainstModel } from "./model/run.ts";
import { newPrefix, removeKeys } from "./redis-fixture.ts";

describeWith("redis")("redisStore", () => {
  const prefixes = new Map<Store, string>();
  let client: Redis;
  beforeAll(() => void (client = new Redis(serviceUrl("redis"))));
  afterAll(() => client.quit());
  const open = (prefix: string, partitions: number) => {
    const store = redisStore({ url: serviceUrl("redis"), prefix, partitions });
    prefixes.set(store, prefix);
    return store;
  };

  // The model's two connections hash to different partitions of three.
  for (const partitions of [1, 3]) {
    testAgainstModel(partitions === 1 ? "redisStore" : `redisStore in ${partitions} partitions`, {
      create: () => open(newPrefix(), partitions),
      reopen: (store) => open(prefixes.get(store)!, partitions),
      dispose: (store) => removeKeys(client, prefixes.get(store)!),
      runs: 30, // each asks a server many things
    });
  }
});
