import { describe, expect, test } from "vitest";
import type { Scope } from "../../src/core/event.ts";
import { emptyCounts, newCycle, passKey, type PassMode, type PassState } from "../../src/core/pass.ts";
import { Scheduler, type Schedule } from "../../src/core/scheduler.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { gate, type Gate, recording, routeOf, smallStore } from "./fakes.ts";

const MINUTE = 60_000;
const route = routeOf();
const scopeOf = (connection: string): Scope => ({ provider: "crm", connection, resource: "contact" });
const every15m: Schedule = { route, everyMs: 15 * MINUTE, mode: "incremental" };

interface Setup {
  readonly schedules?: readonly Schedule[];
  readonly random?: () => number;
}

/** A scheduler whose passes complete at once unless a test holds them, and leave their checkpoint as real ones do. */
function setup({ schedules = [every15m], random = () => 0 }: Setup = {}) {
  const clock = new TestClock(0);
  const store = smallStore();
  const { hooks, told } = recording();
  const runs: { at: number; connection: string; mode: PassMode }[] = [];
  const world = {
    connections: ["default"] as string[],
    /** Whether another process is at the pass. */
    busy: false,
    listing: async (provider: string): Promise<readonly string[]> => {
      if (provider !== "crm") throw new Error("the user's table is gone");
      return world.connections;
    },
    during: async (_connection: string, _signal: AbortSignal): Promise<void> => {},
  };
  const complete = (scope: Scope, mode: PassMode, startedAt: number) => {
    const last = { startedAt, finishedAt: clock.now(), watermark: null, counts: emptyCounts() };
    store.checkpoints.set(passKey(scope, mode), JSON.stringify({ current: null, last }));
  };
  const scheduler = new Scheduler({
    store,
    clock,
    random,
    hooks,
    schedules,
    connectionsOf: (provider) => world.listing(provider),
    runPass: async (_, scope, mode, { signal, isDue }) => {
      if (world.busy || !(await isDue())) return false;
      const startedAt = clock.now();
      runs.push({ at: startedAt, connection: scope.connection, mode });
      await world.during(scope.connection, signal);
      if (!signal.aborted) complete(scope, mode, startedAt);
      return true;
    },
  });
  const stop = () => scheduler.stop(new Error("stopping"));
  return { clock, complete, runs, scheduler, stop, store, told, world };
}

/** When the runs began, in minutes; timers fire up to 10 ms late. */
const minutes = (runs: readonly { at: number }[]) =>
  runs.map(({ at }) => Math.round((at * 100) / MINUTE) / 100);

describe("a schedule", () => {
  test("should run what never ran at once, and then each time from start to start", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    world.during = () => new Promise((resolve) => clock.setTimer(resolve, 5 * MINUTE));
    scheduler.start();
    await clock.advance(47 * MINUTE);
    expect(minutes(runs)).toEqual([0, 15, 30, 45]);
    await clock.advance(5 * MINUTE);
    await stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test("should skip what it missed while a pass took longer than its interval", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    world.during = () =>
      new Promise((resolve) => clock.setTimer(resolve, runs.length === 1 ? 40 * MINUTE : 0));
    scheduler.start();
    await clock.advance(60 * MINUTE);
    expect(minutes(runs)).toEqual([0, 40, 55]);
    await stop();
  });

  test("should go on from the last pass of another process or another time", async () => {
    const { clock, complete, runs, scheduler, stop } = setup();
    complete(scopeOf("default"), "incremental", -10 * MINUTE);
    scheduler.start();
    await clock.advance(4 * MINUTE);
    expect(runs).toEqual([]);
    complete(scopeOf("default"), "incremental", 4 * MINUTE); // another process was faster
    await clock.advance(10 * MINUTE);
    expect(runs).toEqual([]);
    await clock.advance(5 * MINUTE);
    expect(minutes(runs)).toEqual([19]);
    await stop();
  });

  test("should look again soon at a pass that another process is at, and leave it alone once that one is done", async () => {
    const { clock, complete, runs, scheduler, stop, world } = setup();
    world.busy = true;
    scheduler.start();
    await clock.advance(MINUTE);
    expect(runs).toEqual([]);
    complete(scopeOf("default"), "incremental", 0);
    world.busy = false;
    await clock.advance(14 * MINUTE - 1);
    expect(runs).toEqual([]);
    await clock.advance(MINUTE);
    expect(minutes(runs)).toEqual([15]);
    await stop();
  });

  test("should take over soon from a process that died at its pass", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    world.busy = true;
    scheduler.start();
    await clock.advance(MINUTE);
    world.busy = false;
    await clock.advance(10_000);
    expect(runs).toHaveLength(1);
    await stop();
  });

  test("should go on in time after the wall clock was set back by a day", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    scheduler.start();
    await clock.advance(MINUTE);
    clock.setWallClock(clock.now() - 24 * 60 * MINUTE);
    world.connections = ["default", "acme"];
    await clock.advance(2 * MINUTE);
    expect(runs.map(({ connection }) => connection)).toEqual(["default", "acme"]);
    await clock.advance(17 * MINUTE);
    const afterwards = runs.slice(2).map(({ connection }) => connection);
    expect(new Set(afterwards)).toEqual(new Set(["default", "acme"]));
    await stop();
  });

  test("should go on at once with a pass that was interrupted", async () => {
    const { clock, complete, runs, scheduler, stop, store } = setup();
    complete(scopeOf("default"), "incremental", -1);
    const key = passKey(scopeOf("default"), "incremental");
    const { last } = JSON.parse(store.checkpoints.get(key) as string) as { last: object };
    const current: PassState = {
      startedAt: 0,
      handle: "changed" as const,
      startMark: 1,
      since: null,
      pageSize: 100,
      watermark: 0,
      cursor: "c",
      phase: "list",
      sweptTo: null,
      unreadable: false,
      counts: emptyCounts(),
      cycle: newCycle(),
    };
    store.checkpoints.set(key, JSON.stringify({ current, last }));
    scheduler.start();
    await clock.settle();
    expect(minutes(runs)).toEqual([0]);
    await stop();
  });

  test("should spread its runs over a tenth of the interval", async () => {
    const { clock, runs, scheduler, stop } = setup({ random: () => 0.5 });
    scheduler.start();
    await clock.advance(40 * MINUTE);
    expect(minutes(runs)).toEqual([0, 15.75, 31.5]);
    await stop();
  });

  test("should keep the modes of a route apart", async () => {
    const daily: Schedule = { route, everyMs: 24 * 60 * MINUTE, mode: "full" };
    const { clock, runs, scheduler, stop } = setup({ schedules: [every15m, daily] });
    scheduler.start();
    await clock.advance(16 * MINUTE);
    expect(runs.map(({ mode }) => mode)).toEqual(["incremental", "full", "incremental"]);
    await stop();
  });

  test("should set no timer where there is nothing to schedule", async () => {
    const { clock, scheduler } = setup({ schedules: [] });
    scheduler.start();
    await clock.settle();
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("connections", () => {
  test("should be found anew each minute, and forgotten when they are gone", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    scheduler.start();
    await clock.advance(MINUTE / 2);
    world.connections = ["acme"];
    await clock.advance(15 * MINUTE);
    expect(runs.map(({ at, connection }) => `${connection} at ${at / MINUTE}`)).toEqual([
      "default at 0",
      "acme at 1",
    ]);
    await stop();
  });

  test("should run four at once, and the others after them", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    world.connections = ["a", "b", "c", "d", "e", "f"];
    const gates = new Map<string, Gate<void>>(world.connections.map((id) => [id, gate()]));
    world.during = (connection) => (gates.get(connection) as Gate<void>).promise;
    scheduler.start();
    await clock.advance(2 * MINUTE);
    expect(runs.map(({ connection }) => connection)).toEqual(["a", "b", "c", "d"]);
    gates.get("b")?.open();
    await clock.settle();
    expect(runs.map(({ connection }) => connection)).toEqual(["a", "b", "c", "d", "e"]);
    for (const each of gates.values()) each.open();
    await clock.settle();
    expect(runs).toHaveLength(6);
    await stop();
  });

  test("should wait while they are paused", async () => {
    const { clock, runs, scheduler, stop, store } = setup();
    await store.pause({ provider: "crm", connection: "default", until: 5 * MINUTE, reason: "rate-limit" });
    scheduler.start();
    await clock.advance(4 * MINUTE);
    expect(runs).toEqual([]);
    await store.resume("crm", "default");
    await clock.advance(MINUTE);
    expect(minutes(runs)).toEqual([5]);
    await stop();
  });

  test("should be asked about each minute where their pause has no end", async () => {
    const { clock, runs, scheduler, stop, store } = setup();
    await store.pause({ provider: "crm", connection: "default", until: null, reason: "by hand" });
    scheduler.start();
    await clock.advance(3.5 * MINUTE);
    await store.resume("crm", "default");
    await clock.advance(MINUTE);
    expect(minutes(runs)).toEqual([4]);
    await stop();
  });

  test("should keep their passes while they cannot be listed", async () => {
    const { clock, runs, scheduler, stop, told, world } = setup();
    scheduler.start();
    await clock.settle();
    world.listing = () => Promise.reject(new Error("the user's table is gone"));
    await clock.advance(16 * MINUTE);
    expect(minutes(runs)).toEqual([0, 15]);
    expect(told.error).toHaveLength(18);
    await stop();
  });

  test("should be looked up soon again where a look-up failed, and then less and less often", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    const { listing } = world;
    const failedAt: number[] = [];
    const failing = (): Promise<never> => {
      failedAt.push(clock.now() / 1_000);
      return Promise.reject(new Error("the database is starting"));
    };
    world.listing = failing;
    scheduler.start();
    await clock.advance(3 * MINUTE);
    expect(failedAt).toEqual([0, 5, 15, 35, 75, 135]);
    world.listing = listing;
    await clock.advance(MINUTE);
    expect(runs).toHaveLength(1);

    world.listing = failing;
    await clock.advance(MINUTE + 5_000);
    expect(failedAt.slice(6)).toEqual([255, 260, 270, 290]);
    await stop();
  });

  test("should not miss their passes because another provider's cannot be listed", async () => {
    const broken = { ...route, provider: { ...route.provider, name: "erp" } };
    const schedules = [{ ...every15m, route: broken }, every15m];
    const { clock, runs, scheduler, stop, told } = setup({ schedules });
    scheduler.start();
    await clock.advance(16 * MINUTE);
    expect(minutes(runs)).toEqual([0, 15]);
    expect(told.error[0]).toMatchObject({
      during: "listing the connections of erp",
      error: { message: "the user's table is gone" },
    });
    await stop();
  });
});

describe("a pass that fails", () => {
  test("should be tried again soon, and then less and less often", async () => {
    const { clock, runs, scheduler, stop, world } = setup({ random: () => 1 });
    world.during = () => Promise.reject(new Error("the API is down"));
    scheduler.start();
    await clock.advance(10 * MINUTE);
    expect(minutes(runs)).toEqual([0, 1, 2.5, 5, 9.5]);
    await stop();
  });

  test("should not be tried more often than its schedule says", async () => {
    const { clock, runs, scheduler, stop, world } = setup({ schedules: [{ ...every15m, everyMs: 10_000 }] });
    world.during = () => Promise.reject(new Error("the API is down"));
    scheduler.start();
    await clock.advance(25_000);
    expect(runs.map(({ at }) => at)).toEqual([0, 10_000, 20_000]);
    await stop();
  });
});

describe("stopping", () => {
  test("should abort the passes under way, wait for them, and start nothing more", async () => {
    const { clock, runs, scheduler, stop, world } = setup();
    const ended: string[] = [];
    world.during = async (_, signal) => {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      await clock.settle();
      ended.push("pass");
    };
    scheduler.start();
    await clock.settle();
    await stop();
    ended.push("scheduler");
    expect(ended).toEqual(["pass", "scheduler"]);
    await clock.advance(60 * MINUTE);
    expect(runs).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("running what is due, for a tick", () => {
  test("should run it once, wait for it, and leave no timer", async () => {
    const { clock, runs, scheduler } = setup();
    await scheduler.runDue();
    expect([runs.length, clock.pendingTimers]).toEqual([1, 0]);
    await scheduler.runDue();
    expect(runs).toHaveLength(1);
    await clock.advance(15 * MINUTE);
    await scheduler.runDue();
    expect([runs.length, clock.pendingTimers]).toEqual([2, 0]);
  });
});
