import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, describe, it } from "vitest";
import { redisStore } from "trueup/redis";
import { testStore } from "trueup/testing";
import type { Store } from "../../src/core/store.ts";

const URL = "redis://127.0.0.1:6379";

for (const partitions of [1, 5]) {
  describe(`redisStore in ${partitions === 1 ? "one partition" : `${partitions} partitions`}`, () => {
    const prefixes = new Map<Store, string>();
    const client = new Redis(URL);
    afterAll(() => client.quit());
    const open = (prefix: string) => {
      const store = redisStore({ url: URL, prefix, partitions });
      prefixes.set(store, prefix);
      return store;
    };

    testStore(
      { describe, it },
      {
        create: () => open(`trueup-test-${randomBytes(6).toString("hex")}`),
        reopen: (store) => open(prefixes.get(store) ?? ""),
        dispose: async (store) => {
          for await (const keys of client.scanStream({ match: `{${prefixes.get(store)}*`, count: 1_000 })) {
            if ((keys as string[]).length > 0) await client.unlink(...(keys as string[]));
          }
        },
      },
    );
  });
}
