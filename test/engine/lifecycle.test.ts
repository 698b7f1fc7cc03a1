import { describe, expect, it, onTestFinished } from "vitest";
import {
  defineProvider,
  defineResource,
  hmacSignature,
  pollSource,
  RateLimitError,
  SyncEngine,
  TrueupError,
  type EngineOptions,
  type Store,
  type SyncEvent,
} from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { z } from "zod";
import {
  counting,
  failureOf,
  next,
  notesEngine,
  recorded,
  silent,
  temporaryDirectory,
  timedEngine,
  type NotesOptions,
} from "./notes.ts";
import { runTickProcess } from "./processes.ts";
import { gate, notesProvider, noteSchema, SECRET, signedRequest, World } from "./world.ts";

const event = (objectId: string, more: Partial<SyncEvent> = {}): SyncEvent => ({
  resource: "note",
  objectId,
  ...more,
});

/** An engine with one note in the hands of a handler that waits. */
async function workingEngine(options: NotesOptions = {}) {
  const started = gate();
  const goOn = gate();
  const made = notesEngine({
    ...options,
    handler: async (change) => {
      started.open();
      await Promise.race([
        goOn.opened,
        new Promise((_resolve, reject) =>
          change.signal.addEventListener("abort", () => reject(change.signal.reason as Error), {
            once: true,
          }),
        ),
      ]);
    },
  });
  made.world.put("n1", "in work");
  await made.engine.start();
  await made.deliver(event("n1"));
  await started.opened;
  return { ...made, goOn };
}

describe("start and stop", () => {
  it("can each be called again, and at the same time", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "text");
    await Promise.all([engine.start(), engine.start()]);
    await engine.start();
    expect((await engine.status()).started).toBe(true);
    await deliver(event("n1"));
    await engine.drain();
    expect(copy.size).toBe(1);
    await Promise.all([engine.stop(), engine.stop()]);
    await engine.stop();
  });

  it("in the wrong order: stop before start is fine, start after stop is STOPPED", async () => {
    const { engine } = notesEngine();
    await engine.stop();
    for (const call of [
      () => engine.start(),
      () => engine.tick(),
      () => engine.drain(),
      () => engine.status(),
      () => engine.trigger("notes.note", ["n1"]),
      () => engine.reconcile("notes.note", { mode: "full" }),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: "STOPPED" });
    }
  });

  it("at once: stop waits for a start that is under way", async () => {
    const { engine } = notesEngine();
    const starting = engine.start().catch((error: unknown) => error);
    await engine.stop();
    const outcome = await starting;
    if (outcome !== undefined) expect(outcome).toMatchObject({ code: "STOPPED" });
    const again = notesEngine();
    await again.engine.start();
  });

  it("stop waits for a handler at work, and settles what it did", async () => {
    const { copy, engine, goOn, path, world } = await workingEngine();
    const stopping = engine.stop();
    let stopped = false;
    void stopping.then(() => (stopped = true));
    expect(await failureOf(engine.status())).toMatchObject({ code: "STOPPED" });
    expect(stopped).toBe(false);
    goOn.open();
    await stopping;
    expect(copy.size).toBe(1);
    const successor = notesEngine({ path, world });
    expect((await successor.engine.drain()).counts).toMatchObject({ dirty: 0, leased: 0 });
  });

  it("stop aborts at its deadline, and the next engine goes on at once with what was left", async () => {
    const { copy, deliver, engine, path, seen, world } = await workingEngine({
      engine: { leaseMs: 3_600_000 },
    });
    world.put("n2", "claimed or not");
    await deliver(event("n2"));
    await engine.stop({ timeoutMs: 20 });
    expect(seen[0]?.signal.reason).toMatchObject({ code: "STOPPED" });
    expect(copy.size).toBe(0);
    const successor = notesEngine({ path, world, engine: { leaseMs: 3_600_000 } });
    await successor.engine.start();
    expect(await successor.engine.drain()).toMatchObject({ idle: true, counts: { dead: 0 } });
    expect(successor.seen.map(({ ref, attempt }) => `${ref.id} ${attempt}`).toSorted()).toEqual([
      "n1 1",
      "n2 1",
    ]);
  });

  it("stop does not wait for the backlog, which waits in the store", async () => {
    const { deliver, engine, goOn, path, seen, world } = await workingEngine({ engine: { concurrency: 1 } });
    for (let i = 2; i < 50; i += 1) world.put(`n${i}`, "backlog");
    await deliver(...[...world.notes.keys()].map((id) => event(id)));
    const stopping = engine.stop();
    goOn.open();
    await stopping;
    expect(seen.length).toBeLessThan(10);
    const successor = notesEngine({ path, world });
    await successor.engine.start();
    expect((await successor.engine.drain()).idle).toBe(true);
    const all = new Set([...seen, ...successor.seen].map(({ ref }) => ref.id));
    expect(all.size).toBe(world.notes.size);
  });

  it("deliveries are refused with 503 from the moment of stop, and not taken in (I1)", async () => {
    const { deliver, engine, goOn, path, world } = await workingEngine();
    expect((await deliver(event("n2"))).status).toBe(200); // the control
    const stopping = engine.stop();
    const during = await deliver(event("n3"));
    goOn.open();
    await stopping;
    const after = await deliver(event("n4"));
    for (const response of [during, after]) {
      expect(response.status).toBe(503);
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    const successor = notesEngine({ path, world });
    await successor.engine.start();
    await successor.engine.drain();
    expect(world.calls.map(({ ids }) => ids[0])).not.toContain("n3");
    expect(world.calls.map(({ ids }) => ids[0])).not.toContain("n4");
  });

  it("leaves no timer, and lets go of its store", async () => {
    const { clock, deliver, engine, pass, path, world } = timedEngine();
    world.put("n1", "text");
    await engine.start();
    await deliver(event("n1"), event("ghost", { hint: "upsert" }));
    await pass(10);
    expect(clock.pendingTimers).toBeGreaterThan(0);
    await engine.stop();
    await clock.advance(0);
    expect(clock.pendingTimers).toBe(0);
    await notesEngine({ path }).engine.start();
  });

  it("`await using` stops", async () => {
    const path = `${temporaryDirectory()}/sync.db`;
    const options = () => ({
      providers: [notesProvider(new World())],
      store: sqliteStore({ path }),
      logger: silent,
    });
    {
      await using engine = new SyncEngine(options());
      engine.handle("notes.note", () => {});
      await engine.start();
    }
    await using engine = new SyncEngine({ ...options(), leaseMs: 100 });
    engine.handle("notes.note", () => {});
    await engine.start(); // not STORE_IN_USE
  });

  it("any number of times while events come loses none of them (I2, I5)", async () => {
    const world = new World();
    const path = `${temporaryDirectory()}/sync.db`;
    const receiver = notesEngine({ world, path });
    const copy = new Map<string, string>();
    const sentIds = new Set<string>();
    const enough = new AbortController();
    const sending = (async () => {
      while (!enough.signal.aborted) {
        const nth = sentIds.size;
        const id = `n${nth % 40}`;
        world.put(id, `text ${nth}`);
        expect((await receiver.deliver(event(id, { id: `e${nth}` }))).status).toBe(200);
        sentIds.add(`e${nth}`);
      }
    })();
    const worker = () =>
      notesEngine({
        world,
        path,
        handler: (change) => void copy.set(change.ref.id, change.object?.text ?? ""),
      }).engine;
    for (let cycle = 0; cycle < 8 || sentIds.size <= 40; cycle += 1) {
      const engine = worker();
      const handled = next(engine, "change.handled");
      await engine.start();
      await handled;
      await engine.stop();
    }
    enough.abort();
    await sending;
    const last = worker();
    await last.start();
    expect(await last.drain()).toMatchObject({ idle: true, counts: { dead: 0 } });
    expect(sentIds.size).toBeGreaterThan(40);
    expect(copy).toEqual(new Map([...world.notes.values()].map(({ id, text }) => [id, text])));
  });
});

describe("handlers", () => {
  it("and schedules: those that come after start are refused, whatever it started", async () => {
    for (const work of [true, false]) {
      const { engine } = notesEngine();
      await engine.start({ work });
      expect(() => engine.schedule("notes.note", { every: "1h", mode: "full" })).toThrow(/before `start`/);
    }
  });

  it("must be there where this process works, and need not where it does not", async () => {
    const provider = defineProvider({
      name: "notes",
      resources: {
        note: notesProvider(new World()).resources.note,
        tag: notesProvider(new World()).resources.note,
      },
    });
    const engine = new SyncEngine({
      providers: [provider],
      store: sqliteStore({ path: `${temporaryDirectory()}/sync.db` }),
      logger: silent,
    });
    onTestFinished(() => engine.stop());
    engine.handle("notes.note", () => {});
    for (const call of [() => engine.start(), () => engine.tick()]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ code: "HANDLER_MISSING" });
      expect(error.message).toContain("notes.tag");
    }
    await engine.start({ work: false });
  });

  it("are one a route", () => {
    const { engine } = notesEngine();
    const withCode = (code: string) => expect.objectContaining({ code }) as Error;
    expect(() => engine.handle("notes.note", () => {})).toThrow(withCode("DUPLICATE_HANDLER"));
    expect(() => engine.handleBatch("notes.note", () => {})).toThrow(withCode("DUPLICATE_HANDLER"));
    expect(() => engine.handle("notes.task" as "notes.note", () => {})).toThrow(withCode("ROUTE_UNKNOWN"));
    expect(() => engine.handle("notes.note", "no function" as never)).toThrow(withCode("OPTION_INVALID"));
  });
});

describe("a store that is none", () => {
  it.each([{}, sqliteStore, "sync.db"])("is refused at once: %s", (store) => {
    const make = () => new SyncEngine({ providers: [], store: store as never });
    expect(make).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }) as Error);
    expect(make).toThrow("`store`");
  });
});

describe("what callers without types leave out", () => {
  it("is named", async () => {
    const { engine } = notesEngine();
    const wrong = { code: "OPTION_INVALID", message: expect.stringContaining("`mode`") as string };
    expect(await failureOf(engine.reconcile("notes.note", undefined as never))).toMatchObject(wrong);
    expect(() => engine.schedule("notes.note", undefined as never)).toThrow(
      expect.objectContaining(wrong) as Error,
    );
    const bare = () => defineProvider({ name: "bare" } as never);
    expect(bare).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }) as Error);
    expect(bare).toThrow("`resources`");
  });
});

describe("two engines on one file", () => {
  it("a second one that works is STORE_IN_USE after a lease, and works once the first has stopped", async () => {
    const first = notesEngine({ engine: { leaseMs: 300 } });
    const second = notesEngine({ world: first.world, path: first.path, engine: { leaseMs: 150 } });
    await first.engine.start();
    expect(await failureOf(second.engine.start())).toMatchObject({ code: "STORE_IN_USE" });
    expect(await failureOf(second.engine.tick())).toMatchObject({ code: "STORE_IN_USE" });
    first.world.put("n1", "one");
    await first.deliver(event("n1"));
    await first.engine.drain();
    expect(first.copy.size).toBe(1);
    await first.engine.stop();
    await second.engine.start();
    first.world.put("n1", "two");
    await second.deliver(event("n1"));
    await second.engine.drain();
    expect(second.copy.get("n1")?.text).toBe("two");
  });

  it("stop ends the waiting for the store", async () => {
    const first = notesEngine();
    const second = notesEngine({ path: first.path, engine: { leaseMs: 3_600_000 } });
    await first.engine.start();
    const starting = failureOf(second.engine.start());
    await second.engine.status();
    await second.engine.stop();
    expect(await starting).toMatchObject({ code: "STOPPED" });
  });

  it("a second one that only takes events in is welcome", async () => {
    const first = notesEngine({ engine: { pollMs: 20 } });
    const second = notesEngine({ world: first.world, path: first.path, engine: { leaseMs: 100 } });
    await first.engine.start();
    await second.engine.start({ work: false });
    first.world.put("n1", "text");
    expect((await second.deliver(event("n1"))).status).toBe(200);
    expect(await second.engine.drain()).toMatchObject({ idle: true });
    expect(first.copy.size).toBe(1);
    expect(second.copy.size).toBe(0);
    expect(await second.engine.status()).toMatchObject({ started: false, routes: [{ objects: 1 }] });
  });

  it("one that was silent for a lease is taken over from, writes nothing more, and works again later (I3)", async () => {
    const silentNow = { is: false };
    const path = `${temporaryDirectory()}/sync.db`;
    const begun = gate();
    const goOn = gate();
    const late = Promise.withResolvers<Error>();
    const store = mute(sqliteStore({ path }), silentNow);
    const first = notesEngine({
      path,
      engine: { leaseMs: 100, store, pollMs: 20 },
      handler: async (change) => {
        if (change.ref.id !== "n1") return;
        begun.open();
        await goOn.opened;
        const outcome = await failureOf(change.commit((tx) => tx.run("CREATE TABLE stale (n)")));
        late.resolve(outcome);
        throw outcome;
      },
    });
    const errors = recorded(first.engine, "error");
    first.world.put("n1", "one");
    await first.engine.start();
    await first.deliver(event("n1"));
    await begun.opened;
    silentNow.is = true;
    const second = notesEngine({ world: first.world, path, engine: { leaseMs: 500 } });
    await second.engine.start();
    expect(await second.engine.drain()).toMatchObject({ idle: true });
    expect(second.seen).toMatchObject([{ ref: { id: "n1" }, attempt: 2 }]);
    goOn.open();
    expect(await late.promise).toMatchObject({ code: "LEASE_LOST" });
    silentNow.is = false;
    await second.engine.stop();
    first.world.put("n2", "two");
    await first.deliver(event("n2"));
    while (!first.copy.has("n2")) await next(first.engine, "change.handled");
    expect(errors.map(({ error }) => (error as TrueupError).code)).toContain("STORE_LOST");
  });
});

/** A store whose sessions can be made to miss their heartbeats. */
function mute(store: Store<SqliteTx>, silentNow: { readonly is: boolean }): Store<SqliteTx> {
  return new Proxy(store, {
    get(target, name) {
      if (name !== "work") {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value as () => unknown).bind(target) : value;
      }
      return async (...args: Parameters<Store<SqliteTx>["work"]>) => {
        const session = await target.work(...args);
        const beat = session.heartbeat.bind(session);
        session.heartbeat = () => (silentNow.is ? Promise.resolve(true) : beat());
        return session;
      };
    },
  });
}

describe("tick", () => {
  it("does what is due, and leaves no timer and no claim to the store", async () => {
    const { clock, copy, deliver, engine, pass, path, world } = timedEngine();
    world.put("n1", "text");
    await deliver(event("n1"));
    const ticking = engine.tick();
    await pass(100);
    expect(await ticking).toEqual({ idle: true, counts: { dirty: 0, due: 0, later: 0, leased: 0, dead: 0 } });
    expect(copy.size).toBe(1);
    expect(clock.pendingTimers).toBe(0);
    const other = notesEngine({ path });
    await other.engine.start();
  });

  it("ends with its time, and says what is left", async () => {
    const { clock, deliver, engine, pass, world } = timedEngine({
      engine: { retry: { attempts: 100, minDelayMs: 1_000, maxDelayMs: 1_000 } },
      handler: () => {
        throw new Error("no");
      },
    });
    world.put("n1", "text");
    await deliver(event("n1"));
    const ticking = engine.tick({ timeoutMs: 500 });
    await pass(600);
    expect(await ticking).toMatchObject({ idle: false, counts: { dirty: 1, later: 1, leased: 0 } });
    expect(clock.pendingTimers).toBe(0);
  });

  it("is a drain where the engine works already, and waits for a tick that is under way", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "text");
    world.put("n2", "text");
    await deliver(event("n1"));
    await Promise.all([engine.tick(), engine.tick()]);
    expect(copy.size).toBe(1);
    await engine.start();
    await deliver(event("n2"));
    expect(await engine.tick()).toMatchObject({ idle: true });
    expect(copy.size).toBe(2);
  });

  it("leaves awake what was started during it", async () => {
    const begun = gate();
    const goOn = gate();
    const { deliver, engine, pass, world } = timedEngine({
      handler: async ({ ref }) => {
        if (ref.id !== "n1") return;
        begun.open();
        await goOn.opened;
      },
    });
    for (const id of ["n1", "n2"]) world.put(id, "text");
    await deliver(event("n1"));
    const ticking = engine.tick();
    await begun.opened;
    await engine.start();
    goOn.open();
    await pass(100);
    await ticking;
    const handled = next(engine, "change.handled");
    await deliver(event("n2"));
    expect((await handled).ref.id).toBe("n2"); // no time has passed
  });

  it("leaves the worker of a start in between to be woken", async () => {
    const { copy, deliver, engine, pass, world } = timedEngine();
    world.put("n1", "text");
    const ticking = engine.tick({ timeoutMs: 1_000 });
    await engine.start();
    await pass(1_000);
    await ticking;
    await pass(0);
    await deliver(event("n1"));
    await pass(0); // and not only when it would have looked by itself
    expect(copy.size).toBe(1);
  });

  it("ends with its time also where the connections to poll cannot be listed", async () => {
    const listed = gate();
    const { engine } = notesEngine({
      engine: {
        sources: [pollSource({ provider: "notes", every: "1s", poll: () => ({ events: [] }) })],
        connections: {
          get: (_provider, id) => ({ id, credentials: {} }),
          list: () => listed.opened.then(() => ["default"]),
        },
      },
    });
    onTestFinished(() => listed.open());
    expect(await engine.tick({ timeoutMs: 20 })).toMatchObject({ idle: true });
  });

  it("runs behind the answer of a webhook, where the platform waits for it", async () => {
    const { copy, engine, world } = notesEngine();
    const waited: Promise<unknown>[] = [];
    const receiver = engine.webhook("notes", { waitUntil: (work) => waited.push(work) });
    world.put("n1", "text");
    const response = await receiver.fetch(signedRequest([event("n1")]));
    expect(response.status).toBe(200);
    expect(waited).toHaveLength(1);
    expect(await waited[0]).toMatchObject({ idle: true });
    expect(copy.size).toBe(1);
  });

  it("runs behind a delivery during a tick as well, which may be about to end", async () => {
    const begun = gate();
    const goOn = gate();
    const { copy, engine, world } = notesEngine({
      handler: async ({ ref }) => {
        if (ref.id !== "n1") return;
        begun.open();
        await goOn.opened;
      },
    });
    const waited: Promise<unknown>[] = [];
    const receiver = engine.webhook("notes", { waitUntil: (work) => waited.push(work) });
    for (const id of ["n1", "n2", "n3"]) world.put(id, "text");
    await receiver.fetch(signedRequest([event("n1")]));
    await begun.opened;
    await receiver.fetch(signedRequest([event("n2")]));
    await receiver.fetch(signedRequest([event("n3")]));
    expect(waited).toHaveLength(3);
    goOn.open();
    for (const work of waited) expect(await work).toMatchObject({ idle: true });
    expect(copy.size).toBe(3);
  });

  it("sweeps away what has expired, as nobody else would (I9, I10)", async () => {
    const { deliver, engine, pass, world } = timedEngine({ engine: { eventTtlMs: 60_000 } });
    const tick = async () => {
      const ticking = engine.tick();
      await pass(100);
      await ticking;
    };
    const status = async () =>
      ((await (await deliver(event("n1", { id: "e1" }))).json()) as { status: string }).status;
    world.put("n1", "text");
    expect(await status()).toBe("accepted");
    await tick();
    expect(await status()).toBe("duplicate");
    await pass(61_000);
    await tick();
    expect(await status()).toBe("accepted");
  });

  it("leaves a process nothing that keeps it", async () => {
    const path = `${temporaryDirectory()}/sync.db`;
    const ticked = await runTickProcess(path, "tick");
    expect(ticked).toEqual({ handled: ["listed", "n1", "n2"], timers: 0 });
    const stopped = await runTickProcess(path, "stop");
    expect(stopped.timers).toBeGreaterThan(0); // while it ran
    // The control: one that goes on working has timers, and had to be ended.
    expect((await runTickProcess(path, "start")).timers).toBeGreaterThan(0);
  });
});

describe("drain", () => {
  it("ends with the last work of this process, and not when it would look again", async () => {
    const begun = gate();
    const goOn = gate();
    const { deliver, engine, pass, world } = timedEngine({
      handler: async () => {
        begun.open();
        await goOn.opened;
      },
    });
    world.put("n1", "text");
    await engine.start();
    await deliver(event("n1"));
    await begun.opened;
    const draining = engine.drain();
    await pass(0); // it has looked, and waits
    goOn.open();
    expect(await draining).toMatchObject({ idle: true }); // no time has passed
  });

  it("ends at its deadline, and says what is in work", async () => {
    const { engine, goOn } = await workingEngine();
    expect(await engine.drain({ timeoutMs: 30 })).toEqual({
      idle: false,
      counts: { dirty: 0, due: 0, later: 0, leased: 1, dead: 0 },
    });
    goOn.open();
    expect(await engine.drain()).toMatchObject({ idle: true });
  });

  it("waits for a retry that is due before the deadline, and not for one behind it", async () => {
    let delayMs = 3_600_000;
    const { deliver, engine, seen, world } = notesEngine({
      handler: ({ attempt, ref }) => {
        if (attempt === 1) throw new TrueupError("HANDLER_FAILED", ref.id);
      },
      engine: {
        random: () => delayMs / 3_600_001,
        retry: { attempts: 3, minDelayMs: 3_600_000, maxDelayMs: 3_600_000 },
      },
    });
    world.put("n1", "long");
    world.put("n2", "short");
    await engine.start();
    await deliver(event("n1"));
    expect(await engine.drain()).toEqual({
      idle: false,
      counts: { dirty: 1, due: 0, later: 1, leased: 0, dead: 0 },
    });
    delayMs = 100;
    await deliver(event("n2"));
    expect((await engine.drain()).counts).toMatchObject({ dirty: 1, later: 1 });
    expect(seen.filter(({ ref }) => ref.id === "n2")).toHaveLength(2);
  });

  it("ends in its time also where the wall clock is set back", async () => {
    const { clock, deliver, engine, pass } = timedEngine();
    await deliver(event("n1"));
    const draining = engine.drain({ timeoutMs: 1_000 });
    await pass(500);
    clock.setWallClock(clock.now() - 3_600_000);
    await pass(500);
    expect(await draining).toMatchObject({ idle: false });
  });

  it("does not wait for a paused connection", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "text");
    await engine.start();
    await engine.pause({ provider: "notes" });
    await deliver(event("n1"));
    expect((await engine.drain()).counts).toEqual({ dirty: 1, due: 0, later: 1, leased: 0, dead: 0 });
    await engine.resume({ provider: "notes" });
    expect((await engine.drain()).idle).toBe(true);
    expect(copy.size).toBe(1);
  });

  it("ends when the engine stops", async () => {
    const { engine, goOn } = await workingEngine();
    const draining = engine.drain();
    const stopping = engine.stop();
    goOn.open();
    await stopping;
    await Promise.allSettled([draining]);
  });
});

describe("pause, resume and forget", () => {
  it("a paused connection takes events in and has no work claimed, in any process, until it is resumed", async () => {
    const { copy, deliver, engine, path, world } = notesEngine();
    const paused = recorded(engine, "connection.paused");
    const resumed = counting(engine, "connection.resumed");
    world.put("n1", "text");
    await engine.pause({ provider: "notes" });
    await engine.pause({ provider: "notes" });
    expect(paused).toEqual([
      { provider: "notes", connection: "default", until: null, reason: "paused by hand" },
    ]);
    expect((await deliver(event("n1"))).status).toBe(200);
    await engine.stop();
    const other = notesEngine({ path, world });
    await other.engine.start();
    expect((await other.engine.drain()).counts.later).toBe(1);
    expect(await other.engine.status()).toMatchObject({
      backlog: 1,
      pauses: [{ provider: "notes", connection: "default", until: null }],
      routes: [{ paused: { until: null, reason: "paused by hand" } }],
    });
    await other.engine.resume({ provider: "notes" });
    expect((await other.engine.drain()).idle).toBe(true);
    expect([copy.size, other.copy.size, resumed()]).toEqual([0, 1, 0]);
    expect((await other.engine.status()).pauses).toEqual([]);
  });

  it("a forgotten connection begins anew", async () => {
    let fails = false;
    const { deliver, engine, seen, world } = notesEngine({
      handler: () => {
        if (fails) throw new Error("no");
      },
    });
    world.put("n1", "text");
    world.put("n2", "text");
    await engine.start();
    await deliver(event("n1"));
    await engine.drain();
    fails = true;
    await deliver(event("n2"));
    await engine.drain();
    expect(await engine.status()).toMatchObject({ deadLetters: 1, routes: [{ objects: 1 }] });
    await engine.forget("notes", "default");
    expect(await engine.status()).toMatchObject({ deadLetters: 0, backlog: 0, routes: [] });
    expect((await engine.deadLetters.list()).items).toEqual([]);
    fails = false;
    seen.length = 0;
    await deliver(event("n1"));
    await engine.drain();
    expect(seen).toMatchObject([{ kind: "upsert", eventCount: 1 }]); // unchanged, and yet handed over
  });

  it("a pass under way over a connection that is forgotten ends, and knows nothing of it afterwards", async () => {
    const [asked, answer] = [gate(), gate()];
    const { engine, seen, world } = notesEngine({ resource: { pageSize: 1 } });
    for (const id of ["n1", "n2", "n3", "n4"]) world.put(id, "text");
    world.before = async ({ cursor }) => {
      if (cursor !== "2") return;
      asked.open();
      await answer.opened;
    };
    const second = next(engine, "pass.page", ({ page }) => page === 2);
    const passing = failureOf(engine.reconcile("notes.note", { mode: "full" }));
    await Promise.all([asked.opened, second]);
    await engine.forget("notes", "default");
    answer.open();
    expect(await passing).toMatchObject({ code: "LEASE_LOST" });
    expect(seen.length).toBeLessThanOrEqual(2);
    expect((await engine.status()).routes).toEqual([]);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      resumed: false,
      missing: 4,
    });
  });

  it("what was in work when its connection was forgotten writes nothing (I3)", async () => {
    const { engine, goOn } = await workingEngine();
    const lost = next(engine, "change.lost");
    const handled = recorded(engine, "change.handled");
    await engine.forget("notes", "default");
    goOn.open();
    expect(await lost).toMatchObject({ ref: { id: "n1" } });
    expect(await engine.drain()).toMatchObject({ idle: true });
    expect(handled).toEqual([]);
    expect((await engine.status()).routes).toEqual([]);
  });
});

describe("several connections", () => {
  const credentials = z.object({ token: z.string() });

  /** Two tenants, "a" and "b"; each has a world of its own. */
  function tenants(options: Partial<EngineOptions<never, SqliteTx>> = {}) {
    const worlds = { a: new World(), b: new World() };
    const tokens: string[] = [];
    const refusals = new Map<string, () => unknown>();
    const provider = defineProvider({
      name: "notes",
      credentials,
      webhook: {
        verify: (connection) =>
          hmacSignature({
            secret: SECRET + connection.credentials.token,
            header: "x-signature",
            algorithm: "sha256",
            encoding: "hex",
          }),
        connection: (delivery) => delivery.header("x-tenant"),
        events: (delivery) => delivery.json as SyncEvent[],
      },
      resources: {
        note: defineResource({
          schema: noteSchema,
          idOf: (note) => note.id,
          versionOf: (note) => note.rev,
          fetch: async (id, { connection }) => {
            const { token } = connection.credentials as { token: string };
            tokens.push(`${connection.id} ${token}`);
            const refuse = refusals.get(connection.id);
            if (refuse !== undefined) throw refuse();
            return worlds[connection.id as "a" | "b"].fetch(id);
          },
        }),
      },
    });
    const engine = new SyncEngine({
      providers: [provider],
      store: sqliteStore({ path: `${temporaryDirectory()}/sync.db` }),
      connections: {
        get: (_provider, id) =>
          id === "a" || id === "b" ? { id, credentials: { token: `token-of-${id}` } } : undefined,
        list: () => ["a", "b"],
      },
      logger: silent,
      retry: { attempts: 3, minDelayMs: 1, maxDelayMs: 5 },
      ...options,
    });
    onTestFinished(() => engine.stop({ timeoutMs: 100 }));
    const handled: string[] = [];
    engine.handle("notes.note", ({ ref }) => void handled.push(`${ref.connection} ${ref.id}`));
    const request = (tenant: string, events: SyncEvent[], signer = tenant) => {
      const signed = signedRequest(events, `${SECRET}token-of-${signer}`);
      signed.headers.set("x-tenant", tenant);
      return signed;
    };
    const receiver = engine.webhook("notes");
    const deliver = (tenant: string, ...events: SyncEvent[]) => receiver.fetch(request(tenant, events));
    return { deliver, engine, handled, receiver, refusals, request, tokens, worlds };
  }

  it("are told apart by their deliveries, and each has its own credentials", async () => {
    const { deliver, engine, handled, tokens, worlds } = tenants();
    worlds.a.put("n1", "of a");
    worlds.b.put("n1", "of b");
    await engine.start();
    await deliver("a", event("n1", { id: "e1" }));
    await deliver("b", event("n1", { id: "e1" })); // the same id, and no duplicate (I9)
    await engine.drain();
    expect(handled.toSorted()).toEqual(["a n1", "b n1"]);
    expect(tokens.toSorted()).toEqual(["a token-of-a", "b token-of-b"]);
  });

  it("one of them cannot speak for another (I11)", async () => {
    const { engine, handled, receiver, request } = tenants();
    await engine.start();
    expect((await receiver.fetch(request("a", [event("n1")], "b"))).status).toBe(401);
    await engine.drain();
    expect(handled).toEqual([]);
  });

  it("an unknown one is acknowledged and ignored", async () => {
    const { deliver, engine } = tenants();
    const response = await deliver("c", event("n1"));
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "ignored", accepted: 0, duplicates: 0, ignored: 1 });
    expect((await engine.status()).routes).toEqual([]);
  });

  it("can have a route each, which the delivery cannot change", async () => {
    const { engine, handled, request, worlds } = tenants();
    worlds.b.put("n1", "of b");
    const route = engine.webhook("notes", { connection: "b" });
    await engine.start();
    expect((await route.fetch(request("a", [event("n1")], "b"))).status).toBe(200);
    await engine.drain();
    expect(handled).toEqual(["b n1"]);
  });

  it("must be named where one is meant", async () => {
    const { engine, handled, worlds } = tenants();
    worlds.b.put("n1", "of b");
    expect(await failureOf(engine.trigger("notes.note", ["n1"]))).toMatchObject({
      code: "CONNECTION_REQUIRED",
    });
    await engine.trigger("notes.note", ["n1"], { connection: "b" });
    await engine.tick();
    expect(handled).toEqual(["b n1"]);
  });

  it("one that is rate-limited waits alone, and loses no attempt", async () => {
    const { deliver, engine, handled, refusals, tokens, worlds } = tenants();
    const paused = recorded(engine, "connection.paused");
    for (let i = 0; i < 20; i += 1) {
      worlds.a.put(`n${i}`, "of a");
      worlds.b.put(`n${i}`, "of b");
    }
    refusals.set("a", () => new RateLimitError(300, "slow down"));
    await engine.start();
    const ids = [...worlds.a.notes.keys()];
    await Promise.all(["a", "b"].map((tenant) => deliver(tenant, ...ids.map((id) => event(id)))));
    expect((await engine.drain({ timeoutMs: 100 })).counts).toMatchObject({ due: 0, leased: 0, dead: 0 });
    expect(handled.filter((line) => line.startsWith("b"))).toHaveLength(20);
    expect(handled.filter((line) => line.startsWith("a"))).toEqual([]);
    expect(paused.every(({ connection, reason }) => connection === "a" && reason === "rate-limit")).toBe(
      true,
    );
    expect(tokens.filter((line) => line.startsWith("a")).length).toBeLessThanOrEqual(20);
    refusals.clear();
    const attempts = recorded(engine, "change.handled");
    expect((await engine.drain()).idle).toBe(true);
    expect(handled).toHaveLength(40);
    expect(attempts.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  it("one whose credentials are refused is paused, probed ever less often, and goes on by hand", async () => {
    let refused = true;
    const { copy, deliver, engine, pass, seen, world } = timedEngine();
    const paused = recorded(engine, "connection.paused");
    world.before = () => {
      if (refused) throw new TrueupError("UNAUTHORIZED", "401");
    };
    world.put("n1", "text");
    await engine.start();
    await deliver(event("n1"));
    await pass(59_000);
    expect(world.fetches()).toBe(1);
    expect(paused).toMatchObject([{ provider: "notes", connection: "default", reason: "UNAUTHORIZED" }]);
    await pass(2_000);
    expect(world.fetches()).toBe(2);
    await pass(117_000);
    expect(world.fetches()).toBe(2);
    await pass(4_000);
    expect(world.fetches()).toBe(3);
    refused = false;
    await engine.resume({ provider: "notes" });
    await pass(100);
    expect(copy.size).toBe(1);
    expect(seen).toMatchObject([{ attempt: 1 }]);
    // What went well is forgotten: the next refusal begins with a short pause again.
    refused = true;
    await deliver(event("n1"));
    await pass(100);
    expect(paused.at(-1)!.until! - paused[0]!.until!).toBeLessThan(60_000 * 4.5);
  });

  it("one that is refused does not stop the others", async () => {
    const { deliver, engine, handled, refusals, worlds } = tenants();
    worlds.a.put("n1", "of a");
    worlds.b.put("n1", "of b");
    refusals.set("a", () => new TrueupError("UNAUTHORIZED", "401"));
    await engine.start();
    await deliver("a", event("n1"));
    await deliver("b", event("n1"));
    expect((await engine.drain({ timeoutMs: 1_000 })).counts).toEqual({
      dirty: 1,
      due: 0,
      later: 1,
      leased: 0,
      dead: 0,
    });
    expect(handled).toEqual(["b n1"]);
    refusals.clear();
    await engine.resume({ provider: "notes", connection: "a" });
    expect((await engine.drain()).idle).toBe(true);
    expect(handled).toEqual(["b n1", "a n1"]);
  });

  it("a pause that another process ended is made again when the API still refuses", async () => {
    const first = timedEngine({ engine: { pollMs: 1_000 } });
    const { deliver, engine, pass, path, world } = first;
    world.before = () => {
      throw new TrueupError("UNAUTHORIZED", "401");
    };
    await engine.start();
    await deliver(event("n1"));
    await pass(1_000);
    expect(world.fetches()).toBe(1);
    const other = notesEngine({ path, world, engine: { clock: first.clock } });
    await other.engine.resume({ provider: "notes" });
    await pass(3_000);
    expect((await engine.status()).pauses).toHaveLength(1);
    expect(world.fetches()).toBe(2);
  });

  it("credentials that the schema refuses pause as well, and are not repeated (I12)", async () => {
    const { deliver, engine } = tenants({
      connections: { get: (_provider, id) => ({ id, credentials: { token: 12_345_678 } }) },
    });
    const errors = recorded(engine, "error");
    const paused = recorded(engine, "connection.paused");
    const response = await deliver("a", event("n1"));
    expect(response.status).toBe(500);
    await engine.start();
    await engine.trigger("notes.note", ["n1"], { connection: "a" });
    expect((await engine.drain({ timeoutMs: 1_000 })).counts).toMatchObject({ later: 1, dead: 0 });
    expect(paused).toMatchObject([{ reason: "CREDENTIALS_INVALID" }]);
    const { routes } = await engine.status();
    expect(JSON.stringify([routes, errors.map(({ error }) => error.message)])).not.toContain("12345678");
  });
});
