import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisStore } from "trueup/redis";
import { testStore } from "trueup/testing";
import type { Store } from "../../src/core/store.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { removeKeys } from "./redis-fixture.ts";

for (const partitions of [1, 5]) {
  describeWith("redis")(
    `redisStore in ${partitions === 1 ? "one partition" : `${partitions} partitions`}`,
    () => {
      const prefixes = new Map<Store, string>();
      let client: Redis;
      beforeAll(() => void (client = new Redis(serviceUrl("redis"))));
      afterAll(() => client.quit());
      const open = (prefix: string) => {
        const store = redisStore({ url: serviceUrl("redis"), prefix, partitions });
        prefixes.set(store, prefix);
        return store;
      };

      testStore(
        { describe, it },
        {
          create: () => open(`trueup-test-${randomBytes(6).toString("hex")}`),
          reopen: (store) => open(prefixes.get(store) ?? ""),
          dispose: (store) => removeKeys(client, prefixes.get(store) ?? ""),
        },
      );
    },
  );
}
