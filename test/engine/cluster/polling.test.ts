import { describe, expect, it } from "vitest";
import { describeWith } from "../../services.ts";
import { clustersOn } from "./harness.ts";
import { CLUSTER_STORES } from "./stores.ts";

const ROUND = 20;

describe.each(CLUSTER_STORES)("a feed that several processes are to poll, on %s", (store) => {
  describeWith(store)("with a server of their own", () => {
    const clusterWith = clustersOn(store);

    it("should be polled by one of them, and by another once that dies", { timeout: 90_000 }, async () => {
      const cluster = await clusterWith({ pollEvery: "50ms", handlerMs: 1 });
      const polls: { readonly member: number; readonly cursor: number }[] = [];
      let onPoll = () => {};
      cluster.onCall = ({ pathname, searchParams }) => {
        if (pathname !== "/feed") return;
        polls.push({
          member: Number(searchParams.get("member")),
          cursor: Number(searchParams.get("cursor") ?? 0),
        });
        onPoll();
      };
      const told = (count: number) =>
        new Promise<void>((resolve) => {
          onPoll = () => {
            if (polls.some(({ cursor }) => cursor === count)) resolve();
          };
          onPoll();
        });
      // No webhook tells of them.
      const letters = () => {
        for (let n = 0; n < ROUND; n += 1) cluster.provider.change(`letter${n}`, "upsert", false);
      };
      await cluster.addWorking(3);
      letters();
      await told(ROUND);
      const [first] = polls;
      expect(new Set(polls.map(({ member }) => member)), "one of three").toEqual(new Set([first?.member]));
      const poller = [...cluster.members].find(({ number }) => number === first?.member);
      await cluster.kill(poller!);
      const before = polls.length;
      letters();
      await told(2 * ROUND);
      const after = polls.slice(before);
      expect(after[0], "it goes on where the other was").toEqual({ member: after[0]?.member, cursor: ROUND });
      expect(new Set(after.map(({ member }) => member)).size, "one of two").toBe(1);
      expect(after[0]?.member).not.toBe(first?.member);
      await cluster.drain();
      await cluster.expectEqual();
    });
  });
});
