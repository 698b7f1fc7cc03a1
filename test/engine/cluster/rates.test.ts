import { describe, expect, it } from "vitest";
import { describeWith } from "../../services.ts";
import { clustersOn } from "./harness.ts";
import { CLUSTER_STORES } from "./stores.ts";

const RATE = 10;
const PER_MS = 1_000;
const LETTERS = 60;

describe.each(CLUSTER_STORES)("a configured rate, on %s", (store) => {
  describeWith(store)("with a server of its own", () => {
    const clusterWith = clustersOn(store);

    it("should hold over all processes, none of which starves", { timeout: 90_000 }, async () => {
      const cluster = await clusterWith({ requestsPerSecond: RATE, handlerMs: 1, concurrency: 4 });
      const arrived = new Map<string, number[]>();
      cluster.onCall = ({ pathname, search }) => {
        const times = arrived.get(pathname + search) ?? [];
        arrived.set(pathname + search, [...times, performance.timeOrigin + performance.now()]);
      };
      const members = await cluster.addWorking(3);
      for (let n = 0; n < LETTERS; n += 1) cluster.provider.change(`letter${n}`, "upsert", true);
      await cluster.deliverAll();
      await cluster.drain();
      await cluster.expectEqual();
      const sent = members.flatMap((member) => member.sent);
      expect(sent.length).toBeGreaterThanOrEqual(LETTERS);
      // Of any `RATE` + 1 requests, first and last are let go `PER_MS` apart, at least. What a busy machine can still put
      // between that and the first byte, is measured.
      const heldMs = Math.max(...sent.map(({ at, decidedAt }) => at - decidedAt));
      const spanMs = PER_MS - heldMs;
      const times = sent.map(({ at }) => at).toSorted((a, b) => a - b);
      const most = Math.max(
        ...times.map((from) => times.filter((at) => at >= from && at < from + spanMs).length),
      );
      expect(most, `in ${spanMs} ms`).toBeLessThanOrEqual(RATE);
      expect(arrived.size).toBeGreaterThanOrEqual(LETTERS);
      for (const { number, sent: own } of members) expect(own.length, `process ${number}`).toBeGreaterThan(0);
    });
  });
});
