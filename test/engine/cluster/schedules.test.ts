import { describe, expect, it } from "vitest";
import { parsePassRecord, passKey } from "../../../src/core/pass.ts";
import { describeWith } from "../../services.ts";
import { type Cluster, type Member, scopeOf } from "./cluster.ts";
import { clustersOn } from "./harness.ts";
import { CLUSTER_STORES } from "./stores.ts";

const EVERY_MS = 1_000;
const PASSES = 4;
const NOTES = 12;
const KEY = passKey(scopeOf("note"), "full");

interface ListCall {
  readonly member: number;
  /** 0: the first page. */
  readonly cursor: number;
}

/** All pages that are asked for, in their order; `hold` keeps one from being answered. */
function listCalls(cluster: Cluster) {
  const calls: ListCall[] = [];
  let onCall: () => void = () => {};
  let held: { cursor: number; release: Promise<void> } | undefined;
  cluster.onCall = async ({ pathname, searchParams }) => {
    if (pathname !== "/notes") return;
    const call = {
      member: Number(searchParams.get("member")),
      cursor: Number(searchParams.get("cursor") ?? 0),
    };
    calls.push(call);
    onCall();
    if (held?.cursor !== call.cursor) return;
    const { release } = held;
    held = undefined; // who asks again is answered
    await release;
  };
  return {
    calls,
    /** Resolves with the first call of those that come from now on, or came after so many, that is looked for. */
    until: (looked: (call: ListCall) => boolean, after = 0): Promise<ListCall> =>
      new Promise((resolve) => {
        onCall = () => {
          const found = calls.slice(after).find(looked);
          if (found !== undefined) resolve(found);
        };
        onCall();
      }),
    hold: (cursor: number): (() => void) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      held = { cursor, release: promise };
      return resolve;
    },
  };
}

function addNotes(cluster: Cluster): void {
  for (let n = 10; n < 10 + NOTES; n += 1) cluster.provider.change(`n${n}`, "upsert", false);
}

async function recordOf(cluster: Cluster) {
  return parsePassRecord(await (await cluster.look()).getCheckpoint(KEY));
}

async function untilPassed(member: Member, looked: (end: string) => boolean): Promise<void> {
  await new Promise<void>((resolve) => {
    member.onPass = () => {
      if (member.passes.some(({ end }) => looked(end))) resolve();
    };
    member.onPass();
  });
}

function memberOf(cluster: Cluster, number: number): Member {
  const found = [...cluster.members].find((member) => member.number === number);
  if (found === undefined) throw new Error(`there is no process ${number}`);
  return found;
}

describe.each(CLUSTER_STORES)("passes that several processes have on their schedules, on %s", (store) => {
  describeWith(store)("with a server of their own", () => {
    const clusterWith = clustersOn(store);

    it(
      "should run once in each interval, whole, in one process after another",
      { timeout: 60_000 },
      async () => {
        const cluster = await clusterWith({ every: `${EVERY_MS}ms` });
        addNotes(cluster);
        const { calls } = listCalls(cluster);
        await cluster.look();
        const members = await cluster.addWorking(3);
        const starts = new Set<number>();
        while (starts.size < PASSES) {
          const { last } = await recordOf(cluster);
          if (last !== null) starts.add(last.startedAt);
          await new Promise((resolve) => setImmediate(resolve));
        }
        for (const member of members) await cluster.kill(member);
        const sorted = [...starts].toSorted((a, b) => a - b);
        const apart = sorted.slice(1).map((start, i) => start - (sorted[i] as number));
        expect(Math.min(...apart)).toBeGreaterThanOrEqual(EVERY_MS);
        const whole = calls.slice(0, PASSES * 3);
        expect(whole.map(({ cursor }) => cursor)).toEqual(
          Array.from({ length: PASSES }, () => [0, 5, 10]).flat(),
        );
        for (let i = 0; i < whole.length; i += 3)
          expect(
            new Set(whole.slice(i, i + 3).map(({ member }) => member)).size,
            "one process, one pass",
          ).toBe(1);
        // Another may have begun since.
        expect(calls.filter(({ cursor }) => cursor === 0).length - PASSES).toBeLessThanOrEqual(1);
      },
    );

    it(
      "should be taken over at the page at which their process was killed",
      { timeout: 60_000 },
      async () => {
        const cluster = await clusterWith({ every: `${EVERY_MS}ms` });
        addNotes(cluster);
        const { calls, hold, until } = listCalls(cluster);
        hold(5);
        await cluster.addWorking(3);
        const holder = await until(({ cursor }) => cursor === 5);
        const before = calls.length;
        await cluster.kill(memberOf(cluster, holder.member));
        const next = await until(() => true, before);
        expect(next).toMatchObject({ cursor: 5 });
        expect(next.member).not.toBe(holder.member);
        await untilPassed(memberOf(cluster, next.member), (end) => end === "complete");
        expect(calls.slice(before).slice(0, 2)).toEqual([next, { member: next.member, cursor: 10 }]);
        await cluster.drain();
        await cluster.expectEqual();
      },
    );

    it(
      "should write nothing after a sleep longer than the lease, when another has run them to their end (I3, I6)",
      { timeout: 60_000 },
      async () => {
        const cluster = await clusterWith({ every: `${EVERY_MS}ms` });
        addNotes(cluster);
        const { calls, hold, until } = listCalls(cluster);
        const release = hold(5);
        await cluster.addWorking(2);
        const holder = memberOf(cluster, (await until(({ cursor }) => cursor === 5)).member);
        const before = calls.length;
        holder.signal("SIGSTOP");
        const heir = memberOf(cluster, (await until(() => true, before)).member);
        await untilPassed(heir, (end) => end === "complete");
        await heir.ask({ ask: "drain" });
        await cluster.kill(heir);
        const written = async () => {
          const look = await cluster.look();
          const ids = [...cluster.provider.notes.keys()];
          return {
            record: await recordOf(cluster),
            objects: (await look.lookup(scopeOf("note"), ids)).map((found) => found?.index),
            copy: await cluster.copy(),
          };
        };
        const left = await written();
        // What it still holds in its hands is older than what the other has read.
        release();
        holder.signal("SIGCONT");
        await untilPassed(holder, () => true);
        await cluster.kill(holder);
        expect(holder.passes[0]?.end).not.toBe("complete");
        expect(await written()).toEqual(left);
      },
    );
  });
});
