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
      const most = (times: readonly number[], windowMs: number) => {
        const sorted = times.toSorted((a, b) => a - b);
        return Math.max(
          ...sorted.map((from) => sorted.filter((at) => at >= from && at < from + windowMs).length),
        );
      };
      expect(
        most(
          sent.map(({ at }) => at),
          PER_MS,
        ),
        "as they leave",
      ).toBeLessThanOrEqual(RATE);
      // The server sees the same as far as all take equally long on their way: by what differs here, its windows are shorter.
      const ways = sent.map(({ at, path }) => (arrived.get(path)?.[0] ?? 0) - at);
      const differed = Math.max(...ways) - Math.min(...ways);
      const window = PER_MS - differed;
      expect(most([...arrived.values()].flat(), window), "as they arrive").toBeLessThanOrEqual(RATE);
      for (const { number, sent: own } of members) expect(own.length, `process ${number}`).toBeGreaterThan(0);
    });
  });
});
