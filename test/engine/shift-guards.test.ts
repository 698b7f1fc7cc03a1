import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { RateLimitError, TrueupError } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import type { WorkSession } from "../../src/core/store.ts";
import { failureOf, next, notesEngine, recorded, temporaryDirectory, timedEngine } from "./notes.ts";
import { gate, World } from "./world.ts";

/** An SQLite store whose sessions are changed before they are used. */
function storeWith(change: (session: WorkSession<unknown>) => void) {
  const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
  const work = store.work.bind(store);
  store.work = async (options) => {
    const session = await work(options);
    change(session);
    return session;
  };
  return store;
}

describe("a store that another process took over (I3)", () => {
  test("should end the work at the first claim that says so, long before a heartbeat", async () => {
    const store = storeWith((session) => {
      session.claim = () => Promise.reject(new TrueupError("STORE_LOST", "taken over"));
    });
    const { engine } = timedEngine({ engine: { store } });
    const ended = next(engine, "error", ({ during }) => during === "working");
    await engine.start();
    expect((await ended).error).toMatchObject({ code: "STORE_LOST" });
  });

  test("should end the work at the first heartbeat that says so, though nothing is claimed", async () => {
    let lost = false;
    const store = storeWith((session) => {
      const heartbeat = session.heartbeat.bind(session);
      session.heartbeat = async () => !lost && heartbeat();
    });
    const began = gate();
    const aborted = Promise.withResolvers<unknown>();
    const { deliver, engine, pass, world } = timedEngine({
      engine: { store, leaseMs: 3_000 },
      handler: ({ signal }) => {
        signal.addEventListener("abort", () => aborted.resolve(signal.reason));
        began.open();
        return new Promise(() => {});
      },
    });
    world.put("n1", "text");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await began.opened;
    lost = true;
    await pass(1_000);
    expect(await aborted.promise).toMatchObject({ code: "STORE_LOST" });
  });
});

describe("a store that is given back to an engine that stops meanwhile", () => {
  test("should be left at once, and not be worked on for ever", async () => {
    const asked = gate();
    const given = gate();
    let lost = true;
    const store = storeWith((session) => {
      if (!lost) return;
      lost = false;
      session.claim = () => Promise.reject(new TrueupError("STORE_LOST", "taken over"));
    });
    const work = store.work.bind(store);
    store.work = async (options) => {
      if (lost) return work(options);
      asked.open();
      await given.opened;
      return work({ ...options, signal: undefined });
    };
    const { clock, engine, pass } = timedEngine({ engine: { store, leaseMs: 3_000 } });
    await engine.start();
    await pass(1_500);
    await asked.opened;
    const stopped = engine.stop();
    given.open();
    await stopped;
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("a tick whose store is opened while the engine stops", () => {
  test("should not begin", async () => {
    const asked = gate();
    const goOn = gate();
    const store = storeWith(() => {});
    const open = store.open.bind(store);
    store.open = async (environment) => {
      asked.open();
      await goOn.opened;
      await open(environment);
    };
    const work = store.work.bind(store);
    store.work = (options) => work({ ...options, signal: undefined }); // nor does the store stop it
    const { clock, engine } = timedEngine({ engine: { store } });
    const ticked = failureOf(engine.tick());
    await asked.opened;
    const stopped = engine.stop();
    goOn.open();
    expect(await ticked).toMatchObject({ code: "STOPPED" });
    await stopped;
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("a heartbeat that is answered after the engine has stopped", () => {
  for (const answer of [true, false]) {
    test(`should set no timer and tell no error: ${answer}`, async () => {
      const asked = gate();
      const goOn = gate();
      const store = storeWith((session) => {
        session.heartbeat = async () => {
          asked.open();
          await goOn.opened;
          return answer;
        };
      });
      const { clock, engine, pass } = timedEngine({ engine: { store, leaseMs: 3_000 } });
      const errors = recorded(engine, "error");
      await engine.start();
      await pass(1_000);
      await asked.opened; // the control: one is under way
      await engine.stop();
      goOn.open();
      await clock.settle();
      expect(clock.pendingTimers).toBe(0);
      expect(errors).toEqual([]);
    });
  }
});

describe("a failure of work that is another's by now (I3)", () => {
  test.each([
    ["of the handler's", () => new Error("boom")],
    ["of a lock or lease", () => new TrueupError("LEASE_LOST", "it is another's")],
    ["that pauses the connection", () => new RateLimitError(1_000, "slow down")],
    ["of the engine's that stops", () => new TrueupError("STOPPED", "the engine is stopping")],
  ])("should be told as lost and as nothing else: one %s", async (_, failure) => {
    const store = storeWith((session) => {
      session.settle = async (settlements) => settlements.map(() => "lost" as const);
    });
    const { deliver, engine, pass, world } = timedEngine({
      engine: { store },
      handler: () => {
        throw failure();
      },
    });
    const lost = recorded(engine, "change.lost");
    const failed = recorded(engine, "change.failed");
    world.put("n1", "text");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await pass(0);
    expect(lost).toMatchObject([{ ref: { id: "n1" } }]);
    expect(failed).toEqual([]);
  });
});

describe("an event that comes during a claim (I5)", () => {
  test("should be claimed next, and not when the store is polled", async () => {
    const asked = gate();
    const goOn = gate();
    let claims = 0;
    const store = storeWith((session) => {
      const claim = session.claim.bind(session);
      session.claim = async (request) => {
        claims += 1;
        const found = await claim(request);
        if (claims > 1) return found;
        asked.open();
        await goOn.opened;
        return found;
      };
    });
    const { deliver, engine, world } = timedEngine({ engine: { store } });
    world.put("n1", "text");
    const handled = next(engine, "change.handled");
    await engine.start();
    await asked.opened;
    await deliver({ resource: "note", objectId: "n1" });
    goOn.open();
    expect((await handled).ref.id).toBe("n1"); // no time has passed
  });
});

describe("an event of a whole resource (I2)", () => {
  /** An engine whose pass, which an event asked for, was ended after its first page. */
  async function interrupted() {
    const world = new World();
    for (const id of ["n1", "n2", "n3"]) world.put(id, "text");
    const first = notesEngine({ world, resource: { pageSize: 1 } });
    let stopped: Promise<void> | undefined;
    world.before = ({ cursor }) => {
      if (cursor === "1") stopped ??= first.engine.stop();
    };
    await first.engine.start();
    const incomplete = next(first.engine, "pass.page", ({ page }) => page === 1);
    await first.deliver({ resource: "note" });
    await incomplete;
    await stopped;
    expect(first.copy.size).toBeLessThan(3);
    world.before = () => {};
    world.calls.length = 0;
    const second = notesEngine({ world, path: first.path, resource: { pageSize: 1 } });
    const copy = () => new Map([...first.copy, ...second.copy]);
    const begins = () => world.calls.filter(({ cursor, kind }) => kind === "list" && cursor === undefined);
    return { ...second, copy, begins };
  }

  test("should stay to be dealt with where its pass was ended by a stop", async () => {
    const { begins, copy, engine, world } = await interrupted();
    await engine.start();
    expect(await engine.drain()).toMatchObject({ idle: true });
    expect(copy()).toEqual(world.notes);
    expect(begins()).toHaveLength(0); // what was begun after the event is enough
  });

  test("should have a pass of its own behind one that began before it", async () => {
    const { begins, copy, deliver, engine, world } = await interrupted();
    world.put("n1", "on a page that was read already");
    await deliver({ resource: "note" });
    await engine.start();
    expect(await engine.drain()).toMatchObject({ idle: true });
    expect(copy()).toEqual(world.notes);
    expect(begins()).toHaveLength(1);
  });

  test("should be dealt with again where another process took its pass's lock, and is no attempt", async () => {
    let lost = 0;
    const store = storeWith((session) => {
      const recordPage = session.recordPage.bind(session);
      session.recordPage = async (page) => {
        if (lost > 0) return recordPage(page);
        lost += 1;
        throw new TrueupError("LEASE_LOST", "the lock is no longer held");
      };
    });
    const retry = { attempts: 1, minDelayMs: 1_000, maxDelayMs: 1_000 };
    const { copy, deliver, engine, pass, world } = timedEngine({ engine: { store, retry } });
    const failed = recorded(engine, "change.failed");
    const dead = recorded(engine, "change.dead");
    world.put("n1", "text");
    await engine.start();
    await deliver({ resource: "note" });
    await pass(0);
    expect(failed).toMatchObject([{ attempt: 1, retryInMs: 1_000, error: { code: "LEASE_LOST" } }]);
    expect(copy.size).toBe(0);
    await pass(1_000);
    expect(copy).toEqual(world.notes);
    expect(await engine.drain()).toMatchObject({ idle: true });
    expect(dead).toEqual([]);
  });
});
