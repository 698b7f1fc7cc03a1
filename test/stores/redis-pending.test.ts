import { Redis } from "ioredis";
import { expect, it, onTestFinished } from "vitest";
import { redisStore } from "trueup/redis";
import { describeWith, serviceUrl } from "../services.ts";
import { newPrefix, opened, removeKeys } from "./redis-fixture.ts";

describeWith("redis")("redisStore", () => {
  it("should count all of one moment, so that nothing on its way from leased to waiting is overlooked", async () => {
    const [url, prefix] = [serviceUrl("redis"), newPrefix()];
    const client = new Redis(url);
    onTestFinished(async () => {
      await removeKeys(client, prefix);
      await client.quit();
    });
    const store = await opened(redisStore({ url, prefix }));
    const watching = await opened(redisStore({ url, prefix }));
    const ref = { provider: "crm", connection: "default", resource: "note", id: "a" };
    await store.append([{ ref, origin: "webhook", lane: "live" }]);
    const session = await store.work({ leaseMs: 30_000 });
    const seen = new Set<number>();
    for (let round = 0; round < 300; round += 1) {
      const watched = watching.pending(Date.now());
      const [claim] = await session.claim({ provider: "crm", resource: "note", limit: 1 });
      const how = { kind: "retry", due: 0, attempts: 0, lags: 0, begun: false } as const;
      await session.settle([{ claim: claim!, ...how }]);
      const { due, leased } = await watched;
      seen.add(due + leased);
    }
    expect([...seen]).toEqual([1]);
  });
});
