import { describe, expect, it } from "vitest";
import { TrueupError, type Store, type WorkSession } from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { recorded, temporaryDirectory, timedEngine, type NotesOptions } from "./notes.ts";

type Call = keyof Store<SqliteTx> | keyof WorkSession<SqliteTx>;

/** A store whose calls of some names fail while it is told to, as one does whose disk is full or whose server is away. */
function failingStore(path: string) {
  const failing = new Set<Call>();
  const wrap = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(_target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          if (failing.has(name as Call))
            return Promise.reject(new TrueupError("STORE_FAILED", `${String(name)} fails`));
          const result: unknown = Reflect.apply(value, target, args);
          return name === "work" ? (result as Promise<object>).then(wrap) : result;
        };
      },
    });
  return { failing, store: wrap(sqliteStore({ path })) };
}

function brittleNotes(options: NotesOptions = {}) {
  const path = `${temporaryDirectory()}/sync.db`;
  const { failing, store } = failingStore(path);
  const made = timedEngine({
    path,
    ...options,
    engine: {
      leaseMs: 30_000,
      pollMs: 1_000,
      retry: { attempts: 3, minDelayMs: 1_000, maxDelayMs: 1_000 },
      ...options.engine,
      store,
    },
  });
  const errors = recorded(made.engine, "error");
  return { ...made, errors, failing };
}

const event = (objectId: string, id?: string) => ({ resource: "note", objectId, id });

describe("a store that fails for a while", () => {
  it("while taking in: 503, nothing is recorded, and the repetition is no duplicate (I1)", async () => {
    const { copy, deliver, engine, failing, pass, world } = brittleNotes();
    world.put("n1", "text");
    await engine.start();
    failing.add("append");
    const refused = await deliver(event("n1", "e1"));
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).not.toBeNull();
    failing.clear();
    expect(await (await deliver(event("n1", "e1"))).json()).toMatchObject({ status: "accepted" });
    await pass(100);
    expect(copy.size).toBe(1);
  });

  it("while claiming: it is told of, and work goes on by itself", async () => {
    const { copy, deliver, engine, errors, failing, pass, world } = brittleNotes();
    world.put("n1", "text");
    await engine.start();
    await pass(0); // a claim under way may take what comes in its transaction
    failing.add("claim").add("nextDue");
    await deliver(event("n1"));
    await pass(10_000);
    expect(copy.size).toBe(0);
    expect(errors.length).toBeGreaterThan(3);
    expect(errors.length).toBeLessThan(50); // with growing pauses
    failing.clear();
    await pass(2_000);
    expect(copy.size).toBe(1);
  });

  it("for however long, and is told once to answer again, when it does", async () => {
    const { deliver, engine, errors, failing, pass, world } = brittleNotes();
    const warned = recorded(engine, "warning");
    world.put("n1", "text");
    await engine.start();
    failing.add("settle");
    await deliver(event("n1"));
    await pass(60_000);
    expect([errors.length > 3, warned]).toEqual([true, []]);
    failing.clear();
    await pass(60_000);
    expect(warned).toMatchObject([{ code: "STORE_ANSWERS", message: "the store answers again" }]);
    failing.add("heartbeat");
    await pass(15_000);
    failing.clear();
    await pass(60_000);
    expect(warned).toHaveLength(2);
  });

  it("while settling: what is done is not done again", async () => {
    const { copy, deliver, engine, errors, failing, pass, seen, world } = brittleNotes();
    world.put("n1", "text");
    await engine.start();
    failing.add("settle");
    await deliver(event("n1"));
    await pass(1_000);
    expect(errors.length).toBeGreaterThan(1);
    failing.clear();
    await pass(5_000);
    expect(copy.size).toBe(1);
    expect(seen).toHaveLength(1);
    expect(await engine.status()).toMatchObject({ backlog: 0, routes: [{ objects: 1 }] });
  });

  it("while settling, for longer than a lease: the work is not forgotten (I2, I5)", async () => {
    const { deliver, engine, failing, pass, world } = brittleNotes();
    world.put("n1", "text");
    await engine.start();
    failing.add("settle");
    await deliver(event("n1"));
    await pass(40_000);
    failing.clear();
    await pass(600_000);
    expect(await engine.status()).toMatchObject({ backlog: 0, routes: [{ objects: 1, leased: 0 }] });
  });

  it("while a failure is recorded: the work is not forgotten (I2, I5)", async () => {
    const { copy, deliver, engine, failing, pass, world } = brittleNotes();
    let refused = true;
    world.before = () => {
      if (refused) throw new TrueupError("UNAUTHORIZED", "401");
    };
    world.put("n1", "text");
    await engine.start();
    failing.add("pause").add("pauses");
    await deliver(event("n1"));
    await pass(2_000);
    failing.clear();
    refused = false;
    await pass(130_000);
    expect(await engine.status()).toMatchObject({ backlog: 0, routes: [{ leased: 0 }] });
    expect(copy.size).toBe(1);
  });

  it("while it says that it lives: it goes on as long as nobody takes over", async () => {
    const { copy, deliver, engine, errors, failing, pass, world } = brittleNotes();
    world.put("n1", "text");
    await engine.start();
    failing.add("heartbeat");
    await pass(25_000);
    expect(errors.map(({ during }) => during)).toEqual(["the heartbeat", "the heartbeat"]);
    failing.clear();
    await deliver(event("n1"));
    await pass(1_000);
    expect(copy.size).toBe(1);
  });

  it("while it is opened: start rejects, and another start tries again", async () => {
    const { copy, deliver, engine, failing, pass, world } = brittleNotes();
    world.put("n1", "text");
    failing.add("open");
    await expect(engine.start()).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect((await deliver(event("n1"))).status).toBe(503);
    failing.clear();
    await engine.start();
    expect((await deliver(event("n1"))).status).toBe(200);
    await pass(100);
    expect(copy.size).toBe(1);
  });

  it("while it is closed: stop is told of it, and ends", async () => {
    const { engine, errors, failing } = brittleNotes();
    await engine.start();
    failing.add("close").add("release");
    await engine.stop();
    expect(errors.map(({ during }) => during)).toEqual(["releasing the store", "closing the store"]);
  });
});
