import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { BUSY, ScopeLocks } from "../../src/core/scope-lock.ts";
import type { Lock } from "../../src/core/store.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { gate, rejection, storeWith } from "./fakes.ts";

const TTL_MS = 30_000;

/** A store's locks, shared by as many processes as a test wants. */
function setup() {
  const clock = new TestClock(0);
  const held = new Map<string, { fence: number; until: number }>();
  const calls: string[] = [];
  let fences = 0;
  /** What a renewal waits for. */
  const renewing: { wait?: Promise<void>; error?: Error } = {};
  const store = storeWith({
    lock: async (name, ttlMs, mine): Promise<Lock | undefined> => {
      calls.push(mine === undefined ? "take" : "renew");
      if (mine !== undefined) await renewing.wait;
      if (mine !== undefined && renewing.error !== undefined) throw renewing.error;
      const found = held.get(name);
      if (mine !== undefined && found?.fence !== mine.fence) return undefined;
      if (mine === undefined && found !== undefined && found.until > clock.now()) return undefined;
      const fence = mine?.fence ?? (fences += 1);
      held.set(name, { fence, until: clock.now() + ttlMs });
      return { name, fence };
    },
    unlock: async ({ name, fence }) => {
      calls.push("unlock");
      if (held.get(name)?.fence === fence) held.delete(name);
    },
  });
  const processOf = () => new ScopeLocks({ store, clock, ttlMs: TTL_MS });
  return { calls, clock, held, locks: processOf(), processOf, renewing };
}

const never = new AbortController().signal;

describe("running under a lock", () => {
  test("should take it, show its fence, and give it back", async () => {
    const { calls, clock, held, locks } = setup();
    const fence = await locks.run("pass", never, async (lock) => {
      expect(held.get("pass")?.fence).toBe(lock.fence);
      expect([locks.busy("pass"), locks.busy("other")]).toEqual([true, false]);
      return lock.fence;
    });
    expect(fence).toBe(1);
    expect([held.size, locks.busy("pass"), clock.pendingTimers]).toEqual([0, false, 0]);
    expect(calls).toEqual(["take", "unlock"]);
  });

  test("should leave nothing with the signal of who waited for another holder here", async () => {
    const { locks } = setup();
    const { signal } = new AbortController();
    const working = gate<void>();
    const first = locks.run("pass", never, () => working.promise);
    const second = locks.run("pass", signal, async () => "ran");
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    working.open();
    await first;
    expect(await second).toBe("ran");
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("should not wait for another holder who only tries, here or in another process", async () => {
    const { calls, clock, held, locks, processOf } = setup();
    const working = gate<string>();
    const first = locks.tryRun("pass", never, () => working.promise);
    const others = [locks, processOf()].map((each) => each.tryRun("pass", never, async () => "ran"));
    expect(await Promise.all(others)).toEqual([BUSY, BUSY]);
    working.open("done");
    expect(await first).toBe("done");
    expect(await locks.tryRun("pass", never, async () => "ran")).toBe("ran");
    expect([held.size, locks.busy("pass"), clock.pendingTimers]).toEqual([0, false, 0]);
    expect(calls).toEqual(["take", "take", "unlock", "take", "unlock"]);
  });

  test("should give it back after a failure", async () => {
    const { clock, held, locks } = setup();
    const failed = locks.run("pass", never, async () => {
      throw new Error("the list broke");
    });
    expect((await rejection(failed)).message).toBe("the list broke");
    expect([held.size, locks.busy("pass"), clock.pendingTimers]).toEqual([0, false, 0]);
  });

  test("should let one in at a time in this process, in order, asking the store once each", async () => {
    const { calls, clock, locks } = setup();
    const order: string[] = [];
    let inside = 0;
    const enter = (name: string) =>
      locks.run("pass", never, async () => {
        inside += 1;
        expect(inside).toBe(1);
        order.push(name);
        await clock.settle();
        inside -= 1;
      });
    await Promise.all(["a", "b", "c"].map(enter));
    expect(order).toEqual(["a", "b", "c"]);
    expect(calls).toEqual(["take", "unlock", "take", "unlock", "take", "unlock"]);
  });

  test("should not hold up what runs under another name", async () => {
    const { locks } = setup();
    const open = gate();
    const first = locks.run("a", never, () => open.promise);
    expect(await locks.run("b", never, async () => "b")).toBe("b");
    open.open();
    await first;
  });

  test("should wait for another process, and then go on", async () => {
    const { clock, locks, processOf } = setup();
    const open = gate();
    const theirs = processOf().run("pass", never, () => open.promise);
    await clock.settle();
    let entered = false;
    const ours = locks.run("pass", never, async () => {
      entered = true;
    });
    await clock.advance(5_000);
    expect(entered).toBe(false);
    open.open();
    await theirs;
    await clock.advance(500);
    await ours;
    expect(entered).toBe(true);
  });
});

describe("waiting for a lock", () => {
  test.each(["this process", "another process"])("should end with the signal, held by %s", async (where) => {
    const { clock, locks, processOf } = setup();
    const open = gate();
    const holder = (where === "this process" ? locks : processOf()).run("pass", never, () => open.promise);
    await clock.settle();
    const patience = new AbortController();
    const waiting = rejection(locks.run("pass", patience.signal, async () => expect.unreachable()));
    await clock.settle();
    const reason = new Error("enough");
    patience.abort(reason);
    expect(await waiting).toBe(reason);
    open.open();
    await holder;
    expect(await locks.run("pass", never, async () => "free")).toBe("free");
  });
});

describe("a held lock", () => {
  test("should be renewed for as long as it is held", async () => {
    const { calls, clock, held, locks } = setup();
    const open = gate();
    const run = locks.run("pass", never, () => open.promise);
    await clock.advance(5 * TTL_MS);
    expect(held.get("pass")?.until).toBeGreaterThan(clock.now());
    expect(calls.filter((call) => call === "renew")).toHaveLength(15);
    open.open();
    await run;
    expect(clock.pendingTimers).toBe(0);
  });

  test("should abort its signal when another process has taken it over", async () => {
    const { clock, held, locks } = setup();
    const run = locks.run("pass", never, async (_, signal) => {
      held.set("pass", { fence: 99, until: Infinity });
      await clock.advance(TTL_MS / 3);
      return signal.reason as unknown;
    });
    expect(await run).toMatchObject({ code: "LEASE_LOST" });
    expect(held.get("pass")?.fence).toBe(99);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should abort its signal with the caller's", async () => {
    const { locks } = setup();
    const caller = new AbortController();
    const reason = new Error("stopping");
    const seen = await locks.run("pass", caller.signal, async (_, signal) => {
      caller.abort(reason);
      return signal.reason as unknown;
    });
    expect(seen).toBe(reason);
  });

  test("should outlast a store that cannot be reached for a while", async () => {
    const { calls, clock, locks, renewing } = setup();
    const aborted = await locks.run("pass", never, async (_, signal) => {
      renewing.error = new Error("no connection");
      await clock.advance(TTL_MS / 3);
      delete renewing.error;
      await clock.advance(TTL_MS / 3);
      return signal.aborted;
    });
    expect(aborted).toBe(false);
    expect(calls.filter((call) => call === "renew")).toHaveLength(2);
  });

  test.each(["succeeds", "fails"])("should leave no timer behind where a late renewal %s", async (how) => {
    const { clock, locks, renewing } = setup();
    const answer = gate();
    await locks.run("pass", never, async () => {
      renewing.wait = answer.promise;
      await clock.advance(TTL_MS / 3);
    });
    if (how === "succeeds") answer.open();
    else answer.fail(new Error("the store is closed"));
    await clock.settle();
    expect(clock.pendingTimers).toBe(0);
  });
});
