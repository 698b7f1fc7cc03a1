import { describe, expect, it } from "vitest";
import { HttpError, RejectError, RetryLaterError, type Change } from "trueup";
import type { SqliteTx } from "trueup/sqlite";
import { counting, failureOf, next, notesEngine, recorded, timedEngine } from "./notes.ts";
import { gate, type Note } from "./world.ts";

const SLOW_RETRY = { attempts: 4, minDelayMs: 1_000, maxDelayMs: 4_000 };

type NoteChange = Change<Note, SqliteTx>;

/** A handler that fails until it is told not to. */
function failing(error: () => unknown = () => new Error("no")) {
  const state = { fails: true };
  const handler = (change: NoteChange) => {
    if (state.fails) throw error();
    return change;
  };
  return { state, handler };
}

describe("a handler that throws", () => {
  it("is tried again with growing delays, and then its change is a dead letter", async () => {
    const at: number[] = [];
    const { clock, deliver, engine, pass, seen, world } = timedEngine({
      engine: { retry: SLOW_RETRY },
      handler: () => {
        at.push(clock.monotonic());
        throw new Error("no");
      },
    });
    const failed = recorded(engine, "change.failed");
    const dead = recorded(engine, "change.dead");
    world.put("n1", "poison");
    await engine.start();
    await deliver({ id: "e1", resource: "note", objectId: "n1" });
    await pass(60_000);
    expect(failed.map(({ attempt, retryInMs }) => [attempt, retryInMs])).toEqual([
      [1, 1_000],
      [2, 2_000],
      [3, 4_000],
    ]);
    const [first = 0] = at;
    expect(at.map((ms) => ms - first)).toEqual([0, 1_000, 3_000, 7_000]);
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
    expect(dead).toMatchObject([{ attempt: 4, ref: { id: "n1" }, error: { message: "no" } }]);
    const { items } = await engine.deadLetters.list();
    expect(items).toMatchObject([
      {
        route: "notes.note",
        ref: { provider: "notes", connection: "default", resource: "note", id: "n1" },
        code: "Error",
        message: "no",
        path: undefined,
        attempts: 4,
        eventCount: 1,
        events: [{ id: "e1" }],
      },
    ]);
    expect(await engine.drain()).toEqual({
      idle: true,
      counts: { dirty: 0, due: 0, later: 0, leased: 0, dead: 1 },
    });
  });

  it("and then does not is handled, with nothing left behind", async () => {
    const { copy, deliver, engine, seen, world } = notesEngine({
      handler: ({ attempt }) => {
        if (attempt < 3) throw new Error("not yet");
      },
    });
    world.put("n1", "hard");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect((await engine.drain()).counts.dead).toBe(0);
    expect(copy.get("n1")?.text).toBe("hard");
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(world.fetches()).toBe(3); // each attempt gets the state of its own moment
  });

  it("a RejectError is a dead letter at once", async () => {
    const { deliver, engine, seen, world } = notesEngine({
      handler: ({ ref }) => {
        throw ref.id === "n1" ? new RejectError("wrong currency") : new Error("wrong moon");
      },
    });
    world.put("n1", "rejected");
    world.put("n2", "the control");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" }, { resource: "note", objectId: "n2" });
    await engine.drain();
    expect(seen.filter(({ ref }) => ref.id === "n1")).toHaveLength(1);
    expect(seen.filter(({ ref }) => ref.id === "n2")).toHaveLength(3);
    const { items } = await engine.deadLetters.list({ ids: ["n1"] });
    expect(items).toMatchObject([{ code: "REJECTED", message: "wrong currency", attempts: 1 }]);
  });

  it("a RetryLaterError waits as long as it says, and uses no attempt", async () => {
    let waits = 10;
    const { copy, deliver, engine, pass, seen, world } = timedEngine({
      engine: { retry: SLOW_RETRY },
      handler: () => {
        if (waits > 0) {
          waits -= 1;
          throw new RetryLaterError(30_000);
        }
      },
    });
    world.put("n1", "busy");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await pass(299_000);
    expect(copy.size).toBe(0);
    expect(seen).toHaveLength(10);
    await pass(2_000);
    expect(copy.get("n1")?.text).toBe("busy");
    expect(seen.map(({ attempt }) => attempt)).toEqual(Array.from({ length: 11 }, () => 1));
    expect((await engine.deadLetters.list()).items).toEqual([]);
  });

  it.each([
    ["a string", "just text", "just text"],
    ["nothing", undefined, "[object Undefined]"],
    ["null", null, "[object Null]"],
    ["an object", { code: "X" }, "[object Object]"],
  ])("%s is retried, and recorded as what it is", async (_name, thrown, described) => {
    const { deliver, engine, seen, world } = notesEngine({ handler: failing(() => thrown).handler });
    world.put("n1", "odd");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(seen).toHaveLength(3);
    const { items } = await engine.deadLetters.list();
    expect(items).toMatchObject([{ code: "HANDLER_FAILED", attempts: 3 }]);
    expect(items[0]?.message).toContain(described);
  });

  it("an error without a usable message ends like any other", async () => {
    const { deliver, engine, seen, world } = notesEngine({
      handler: failing(() => Object.assign(new Error("x"), { message: undefined, code: 42 })).handler,
    });
    world.put("n1", "odd");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect((await engine.drain({ timeoutMs: 2_000 })).idle).toBe(true);
    expect(seen).toHaveLength(3);
    expect((await engine.deadLetters.list()).items).toHaveLength(1);
  });

  it("an error of the API is no deletion", async () => {
    const { deliver, engine, seen, world } = notesEngine({
      handler: () => {
        throw new HttpError(404, "the mail server does not know it");
      },
    });
    world.put("n1", "there");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(seen.map(({ kind }) => kind)).toEqual(["upsert", "upsert", "upsert"]);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ code: "HTTP_404" }]);
  });

  it("does not hold up other objects", async () => {
    const { copy, deliver, engine, world } = notesEngine({
      engine: { concurrency: 1, retry: { attempts: 1_000, minDelayMs: 60_000, maxDelayMs: 60_000 } },
      handler: ({ ref }) => {
        if (ref.id === "n0") throw new Error("poison");
      },
    });
    for (let i = 0; i < 20; i += 1) world.put(`n${i}`, "text");
    await engine.start();
    await deliver(...[...world.notes.keys()].map((objectId) => ({ resource: "note", objectId })));
    const { counts } = await engine.drain({ timeoutMs: 500 });
    expect(counts).toMatchObject({ due: 0, leased: 0, later: 1 });
    expect(copy.size).toBe(19);
  });

  it("after its commit is reported, and not tried again", async () => {
    const { deliver, engine, seen, world } = notesEngine({
      handler: async (change) => {
        await change.commit((tx) => tx.run("CREATE TABLE IF NOT EXISTS t (n)"));
        throw new Error("the mail was not sent");
      },
    });
    const errors = recorded(engine, "error");
    const handled = counting(engine, "change.handled");
    world.put("n1", "committed");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect(await engine.drain()).toMatchObject({ idle: true, counts: { dead: 0 } });
    expect(seen).toHaveLength(1);
    expect(handled()).toBe(1);
    expect(errors).toMatchObject([{ error: { message: "the mail was not sent" } }]);
    expect(errors[0]?.during).toContain("after its commit");
  });
});

describe("a handler that takes too long", () => {
  it("is a failure: its signal aborts, and its late commit writes nothing (I3)", async () => {
    const late = gate();
    const outcomes: Error[] = [];
    const ended = gate();
    const { deliver, engine, seen, world } = notesEngine({
      handling: { timeoutMs: 30 },
      handler: async (change) => {
        const write = (tx: SqliteTx) => {
          tx.run("CREATE TABLE IF NOT EXISTS effect (attempt)");
          tx.run("INSERT INTO effect VALUES (?)", change.attempt);
        };
        if (change.attempt > 1) return change.commit(write);
        await late.opened;
        outcomes.push(await failureOf(change.commit(write)));
        ended.open();
      },
    });
    const failed = recorded(engine, "change.failed");
    world.put("n1", "slow");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect((await engine.drain()).idle).toBe(true);
    expect(seen[0]?.signal.aborted).toBe(true);
    expect(seen[0]?.signal.reason).toMatchObject({ code: "HANDLER_TIMEOUT" });
    expect(failed).toMatchObject([{ attempt: 1, error: { code: "HANDLER_TIMEOUT" } }]);
    expect(seen[1]?.signal.aborted).toBe(false);
    late.open();
    await ended.opened;
    expect(outcomes).toMatchObject([{ code: "LEASE_LOST" }]);
    let rows: unknown;
    await engine.trigger("notes.note", ["n1"]);
    await engine.drain();
    await seen
      .at(-1)
      ?.commit((tx) => (rows = tx.all("SELECT * FROM effect")))
      .catch(() => {});
    expect(rows).toBeUndefined(); // that handler has ended, too
  });

  it("cannot commit any more from the moment on at which it is given up (I3)", async () => {
    const outcome = Promise.withResolvers<Error>();
    const { deliver, engine, world } = notesEngine({
      handling: { timeoutMs: 20 },
      handler: async (change) => {
        if (change.attempt > 1) return;
        change.signal.addEventListener("abort", () => {
          outcome.resolve(failureOf(change.commit((tx) => tx.run("CREATE TABLE late (n)"))));
        });
        await new Promise(() => {});
      },
    });
    const handled = next(engine, "change.handled");
    world.put("n1", "slow");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect(await outcome.promise).toMatchObject({ code: "LEASE_LOST" });
    expect(await handled).toMatchObject({ attempt: 2 });
  });

  it("for ever holds up neither the others nor stop", async () => {
    const hung = gate();
    const { copy, deliver, engine, world } = notesEngine({
      engine: { concurrency: 2 },
      handler: async ({ ref }) => {
        if (ref.id !== "n0") return;
        hung.open();
        await new Promise(() => {});
      },
    });
    for (let i = 0; i < 20; i += 1) world.put(`n${i}`, "text");
    await engine.start();
    await deliver({ resource: "note", objectId: "n0" });
    await hung.opened;
    await deliver(...[...world.notes.keys()].slice(1).map((objectId) => ({ resource: "note", objectId })));
    let handled = 0;
    while (handled < 19) {
      if (copy.size === 19) break;
      await next(engine, "change.handled");
      handled = copy.size;
    }
    expect((await engine.drain({ timeoutMs: 1 })).counts).toMatchObject({ due: 0, leased: 1 });
    await engine.stop({ timeoutMs: 20 });
    expect(copy.has("n0")).toBe(false);
  });
});

describe("an API that answers wrongly", () => {
  it("an object that the schema refuses is a dead letter with its path, at once", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    world.notes.set("n1", { id: "n1", text: 5 as unknown as string, rev: 1 });
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(world.fetches()).toBe(1);
    expect(seen).toEqual([]);
    const { items } = await engine.deadLetters.list();
    expect(items).toMatchObject([{ code: "SCHEMA_MISMATCH", path: "text", attempts: 1 }]);
    expect(items[0]?.message).toMatch(/^text: /);
  });

  it.each([
    ["text", "<html>"],
    ["a list", [{ id: "n1", text: "t", rev: 1 }]],
    ["a number", 7],
    ["null", null],
  ])("%s instead of an object is a dead letter", async (_name, answer) => {
    const { deliver, engine, seen } = notesEngine({ resource: { fetch: () => Promise.resolve(answer) } });
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(seen).toEqual([]);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ code: "SCHEMA_MISMATCH", path: "" }]);
  });

  it("another object than the one asked for is a dead letter, at once", async () => {
    const { deliver, engine, seen, world } = notesEngine();
    world.notes.set("n1", { id: "n2", text: "moved", rev: 1 });
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(seen).toEqual([]);
    const { items } = await engine.deadLetters.list();
    expect(items).toMatchObject([{ ref: { id: "n1" }, code: "ID_MISMATCH", attempts: 1 }]);
  });

  it("an object whose id is none does not stop the others of its batch", async () => {
    const { copy, deliver, engine, pass, world } = timedEngine({
      engine: { retry: SLOW_RETRY },
      resource: { fetchMany: (ids) => world.fetchMany(ids), batchSize: 10, idOf: (note) => note.id.trim() },
    });
    world.notes.set("n1", { id: " ", text: "nameless", rev: 1 });
    world.put("n2", "well");
    world.put("n3", "well");
    await deliver(...["n1", "n2", "n3"].map((objectId) => ({ resource: "note", objectId })));
    await engine.start();
    await pass(60_000);
    expect([...copy.keys()].toSorted()).toEqual(["n2", "n3"]);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ ref: { id: "n1" } }]);
  });

  it("rows of a batch that are wrong cost themselves alone", async () => {
    const { copy, deliver, engine, world } = notesEngine({
      resource: {
        batchSize: 10,
        fetchMany: async (ids) => [
          null,
          "text",
          { id: "n9", text: "unasked", rev: 1 },
          ...(await world.fetchMany(ids)),
        ],
      },
    });
    world.notes.set("n1", { id: "n1", text: 5 as unknown as string, rev: 1 });
    world.put("n2", "well");
    world.put("n3", "well");
    await deliver(...["n1", "n2", "n3"].map((objectId) => ({ resource: "note", objectId })));
    await engine.start();
    await engine.drain();
    expect([...copy.keys()].toSorted()).toEqual(["n2", "n3"]);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ ref: { id: "n1" }, path: "text" }]);
  });

  it("something that is no batch is retried", async () => {
    let wrong = true;
    const { copy, deliver, engine, world } = notesEngine({
      resource: {
        batchSize: 10,
        fetchMany: async (ids) => (wrong ? ({ data: [] } as unknown as unknown[]) : world.fetchMany(ids)),
      },
    });
    const failed = recorded(engine, "change.failed");
    engine.on("change.failed", () => (wrong = false));
    world.put("n1", "one");
    world.put("n2", "two");
    await deliver({ resource: "note", objectId: "n1" }, { resource: "note", objectId: "n2" });
    await engine.start();
    await engine.drain();
    expect(failed.map(({ error }) => error)).toMatchObject([
      { code: "RESPONSE_INVALID" },
      { code: "RESPONSE_INVALID" },
    ]);
    expect(copy).toEqual(world.notes);
  });

  it("an error is retried, and its status is the dead letter's code", async () => {
    const { deliver, engine, world } = notesEngine();
    world.before = () => {
      throw new HttpError(500, "down");
    };
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(world.fetches()).toBe(3);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ code: "HTTP_500", attempts: 3 }]);
  });

  it("no answer at all ends after fetchTimeoutMs", async () => {
    const signals: AbortSignal[] = [];
    const { copy, deliver, engine, world } = notesEngine({
      engine: { fetchTimeoutMs: 30 },
      resource: {
        fetch: (id, { signal }) => {
          signals.push(signal);
          return signals.length === 1 ? new Promise(() => {}) : world.fetch(id);
        },
      },
    });
    const failed = recorded(engine, "change.failed");
    world.put("n1", "at last");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect(failed).toMatchObject([{ error: { code: "API_TIMEOUT" } }]);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
    expect(copy.get("n1")?.text).toBe("at last");
  });

  it("a fetch that throws at once is retried like one that rejects", async () => {
    const { deliver, engine } = notesEngine({
      resource: {
        fetch: () => {
          throw new TypeError("cannot read properties of undefined");
        },
      },
    });
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    expect((await engine.deadLetters.list()).items).toMatchObject([{ code: "TypeError", attempts: 3 }]);
  });
});

describe("dead letters", () => {
  async function withDead(ids: readonly string[]) {
    const { state, handler } = failing(() => new RejectError("no"));
    const made = notesEngine({ handler });
    for (const id of ids) made.world.put(id, "text");
    await made.engine.start();
    for (const objectId of ids) {
      await made.deliver({ id: `e-${objectId}`, resource: "note", objectId });
      await made.engine.drain();
    }
    made.seen.length = 0;
    return { ...made, state };
  }

  it("are listed page by page, and by what one asks for", async () => {
    const { engine } = await withDead(["n1", "n2", "n3", "n4", "n5"]);
    const found: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = await engine.deadLetters.list({ route: "notes.note" }, { cursor, limit: 2 });
      found.push(...page.items.map(({ ref }) => ref.id));
      cursor = page.next;
      pages += 1;
    } while (cursor !== undefined);
    expect(found).toEqual(["n1", "n2", "n3", "n4", "n5"]);
    expect(pages).toBe(3);
    expect((await engine.deadLetters.list({ ids: ["n4", "n9"] })).items.map(({ ref }) => ref.id)).toEqual([
      "n4",
    ]);
    expect((await engine.deadLetters.list({ connection: "other" })).items).toEqual([]);
    expect((await engine.deadLetters.list({ provider: "notes", connection: "default" })).items).toHaveLength(
      5,
    );
    await expect(engine.deadLetters.list({ route: "notes.task" })).rejects.toMatchObject({
      code: "ROUTE_UNKNOWN",
    });
    const nobodys = { route: "notes.note", provider: "crm" };
    expect((await engine.deadLetters.list(nobodys)).items).toEqual([]);
    expect(await engine.deadLetters.discard(nobodys)).toBe(0);
    expect(await engine.deadLetters.discard({ ids: [] })).toBe(0);
    for (const limit of [0, -1, 1.5, Number.NaN])
      await expect(engine.deadLetters.list({}, { limit })).rejects.toMatchObject({ code: "OPTION_INVALID" });
    expect(await engine.status()).toMatchObject({
      backlog: 0,
      deadLetters: 5,
      routes: [{ deadLetters: 5, backlog: 0, lastError: { code: "REJECTED" } }],
    });
  });

  it("are tried again with all their attempts, and keep their events", async () => {
    const { copy, engine, seen, state } = await withDead(["n1", "n2"]);
    state.fails = false;
    expect(await engine.deadLetters.retry({ ids: ["n1"] })).toBe(1);
    await engine.drain();
    expect([...copy.keys()]).toEqual(["n1"]);
    expect(seen).toMatchObject([{ attempt: 1, eventCount: 1, events: [{ id: "e-n1" }] }]);
    expect((await engine.deadLetters.list()).items.map(({ ref }) => ref.id)).toEqual(["n2"]);
  });

  it("are dropped, and the next event begins from what the index knows", async () => {
    const { copy, deliver, engine, seen, state } = await withDead(["n1"]);
    expect(await engine.deadLetters.discard()).toBe(1);
    expect(await engine.deadLetters.discard()).toBe(0);
    expect((await engine.deadLetters.list()).items).toEqual([]);
    expect((await engine.drain()).idle).toBe(true);
    expect(seen).toEqual([]);
    state.fails = false;
    await deliver({ id: "later", resource: "note", objectId: "n1" });
    await engine.drain();
    expect(copy.has("n1")).toBe(true);
    expect(seen[0]?.events.map(({ id }) => id)).toEqual(["later"]);
  });

  it("are revived by a new event, with fresh attempts; by a duplicate they are not", async () => {
    const { copy, deliver, engine, seen, state } = await withDead(["n1"]);
    state.fails = false;
    const again = await deliver({ id: "e-n1", resource: "note", objectId: "n1" });
    expect(await again.json()).toMatchObject({ status: "duplicate" });
    await engine.drain();
    expect(seen).toEqual([]);
    await deliver({ id: "new", resource: "note", objectId: "n1" });
    await engine.drain();
    expect(copy.has("n1")).toBe(true);
    expect(seen).toMatchObject([{ attempt: 1, eventCount: 2, events: [{ id: "e-n1" }, { id: "new" }] }]);
    expect((await engine.deadLetters.list()).items).toEqual([]);
  });

  it("hold no secret of the connection (I12)", async () => {
    const logged: string[] = [];
    const log = (fields: object, message: string) => logged.push(message + JSON.stringify(fields));
    const token = "token-0123456789";
    const { deliver, engine, world } = notesEngine({
      engine: {
        connections: { get: (_provider, id) => ({ id, credentials: { nested: { token } } }) },
        logger: { debug: log, info: log, warn: log, error: log },
      },
      handler: failing(() => new RejectError(`refused: Bearer ${token}`)).handler,
    });
    world.put("n1", "text");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    const { items } = await engine.deadLetters.list();
    expect(items[0]?.message).toBe("refused: Bearer [redacted]");
    expect(JSON.stringify(await engine.status())).not.toContain(token);
    expect(logged.join("\n")).not.toContain(token);
  });

  it("are made also where credentials refer to themselves", async () => {
    const client: Record<string, unknown> = { token: "token-0123456789" };
    client["self"] = client;
    const { deliver, engine, world } = notesEngine({
      engine: { connections: { get: (_provider, id) => ({ id, credentials: { client } }) } },
      handler: failing(() => new RejectError("refused: token-0123456789")).handler,
    });
    world.put("n1", "text");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    expect((await engine.drain({ timeoutMs: 2_000 })).idle).toBe(true);
    const { items } = await engine.deadLetters.list();
    expect(items).toHaveLength(1);
    expect(items[0]?.message).not.toContain("token-0123456789");
  });
});

describe("a backoff", () => {
  it("is not shortened by a new event, which is handled with the retry", async () => {
    const { copy, deliver, engine, pass, seen, world } = timedEngine({
      engine: { retry: { attempts: 10, minDelayMs: 60_000, maxDelayMs: 60_000 } },
      handler: ({ attempt }) => {
        if (attempt === 1) throw new Error("no");
      },
    });
    world.put("n1", "one");
    world.put("n2", "the control");
    await engine.start();
    await deliver({ id: "e1", resource: "note", objectId: "n1" });
    await pass(1_000);
    expect(seen).toHaveLength(1);
    world.put("n1", "two");
    await deliver(
      { id: "e2", resource: "note", objectId: "n1" },
      { id: "e3", resource: "note", objectId: "n2" },
    );
    await pass(57_000);
    expect(seen.map(({ ref }) => ref.id)).toEqual(["n1", "n2"]);
    await pass(3_000);
    expect(seen[2]).toMatchObject({ ref: { id: "n1" }, attempt: 2, eventCount: 2, object: { text: "two" } });
    expect(copy.get("n1")?.text).toBe("two");
  });
});
