import { Keyv } from "keyv";
import { describe, expect, it, onTestFinished } from "vitest";
import { keyvStore, RejectError, SyncEngine, type Change, type Store, type SyncEvent } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { passTime, recorded, silent, temporaryDirectory } from "./notes.ts";
import { gate, notesProvider, signedRequest, World, type Note } from "./world.ts";

const event = (objectId: string, more: Partial<SyncEvent> = {}): SyncEvent => ({
  resource: "note",
  objectId,
  ...more,
});

interface VolatileOptions {
  readonly store?: Store;
  readonly world?: World;
  readonly handler?: (change: Change<Note>) => unknown;
}

/** An engine over a store that survives nothing; its time stands still until it is moved. */
function volatileEngine({ handler, store = keyvStore(), world = new World() }: VolatileOptions = {}) {
  const clock = new TestClock();
  const engine = new SyncEngine({
    providers: [notesProvider(world, {}, { ackTimeoutMs: 5_000 })],
    store,
    clock,
    random: () => 0.999,
    leaseMs: 3_600_000,
    retry: { attempts: 3, minDelayMs: 100, maxDelayMs: 100 },
    logger: silent,
  });
  const seen: Change<Note>[] = [];
  engine.handle("notes.note", async (change) => {
    seen.push(change);
    await handler?.(change);
  });
  onTestFinished(async () => {
    const stopped = engine.stop({ timeoutMs: 100 });
    await clock.advance(100);
    await stopped;
  });
  const receiver = engine.webhook("notes");
  /** An answer that can be looked for without waiting. */
  const deliver = (...events: SyncEvent[]) => {
    const delivery: { response: Response | undefined; answered: Promise<Response> } = {
      response: undefined,
      answered: receiver.fetch(signedRequest(events)),
    };
    void delivery.answered.then((response) => (delivery.response = response));
    return delivery;
  };
  return { clock, deliver, engine, pass: (ms: number) => passTime(clock, ms), seen, world };
}

describe("with a store that survives nothing", () => {
  it("a delivery is answered once it is handled, and not before (I1)", async () => {
    const goOn = gate();
    const { deliver, engine, pass, seen, world } = volatileEngine({ handler: () => goOn.opened });
    world.put("n1", "text");
    await engine.start();
    const delivery = deliver(event("n1"));
    await pass(4_900);
    expect(seen).toHaveLength(1);
    expect(delivery.response).toBeUndefined();
    goOn.open();
    const response = await delivery.answered;
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "accepted", accepted: 1, duplicates: 0, ignored: 0 });
  });

  it("one with a durable store is answered before (the control)", async () => {
    const world = new World();
    const engine = new SyncEngine({
      providers: [notesProvider(world)],
      store: sqliteStore({ path: `${temporaryDirectory()}/sync.db` }),
      logger: silent,
    });
    onTestFinished(() => engine.stop({ timeoutMs: 1 }));
    engine.handle("notes.note", () => new Promise(() => {}));
    world.put("n1", "text");
    await engine.start();
    expect((await engine.webhook("notes").fetch(signedRequest([event("n1")]))).status).toBe(200);
  });

  it("a delivery is answered with 503 when that takes too long, and its event is kept", async () => {
    const goOn = gate();
    const { deliver, engine, pass, seen, world } = volatileEngine({ handler: () => goOn.opened });
    world.put("n1", "text");
    await engine.start();
    const delivery = deliver(event("n1", { id: "e1" }));
    await pass(5_100);
    expect(delivery.response?.status).toBe(503);
    expect(delivery.response?.headers.get("retry-after")).toBe("5");
    expect(await delivery.response?.json()).toMatchObject({ error: { code: "ACK_TIMEOUT" } });
    goOn.open();
    await pass(100);
    expect((await engine.status()).backlog).toBe(0);
    expect(seen).toHaveLength(1);
  });

  it("a repetition of what waits waits as well; one of what is handled does not", async () => {
    const goOn = gate();
    const { deliver, engine, pass, seen, world } = volatileEngine({ handler: () => goOn.opened });
    world.put("n1", "text");
    await engine.start();
    const first = deliver(event("n1", { id: "e1" }));
    await pass(5_100);
    expect(first.response?.status).toBe(503);
    const second = deliver(event("n1", { id: "e1" }));
    await pass(1_000);
    expect(second.response).toBeUndefined();
    goOn.open();
    expect(await (await second.answered).json()).toMatchObject({ status: "duplicate", duplicates: 1 });
    const third = await deliver(event("n1", { id: "e1" })).answered;
    expect(third.status).toBe(200);
    expect(seen).toHaveLength(1);
  });

  it("an event that comes during a handling waits for the next one", async () => {
    const gates = [gate(), gate()];
    const { deliver, engine, pass, seen, world } = volatileEngine({
      handler: () => gates[seen.length - 1]?.opened,
    });
    world.put("n1", "one");
    await engine.start();
    const first = deliver(event("n1"));
    await pass(100);
    world.put("n1", "two");
    const second = deliver(event("n1"));
    await pass(100);
    gates[0]!.open();
    expect((await first.answered).status).toBe(200);
    await pass(100);
    expect(seen.map(({ object }) => object?.text)).toEqual(["one", "two"]);
    expect(second.response).toBeUndefined();
    gates[1]!.open();
    expect((await second.answered).status).toBe(200);
  });

  it("a delivery of several events waits for all of them", async () => {
    const goOn = gate();
    const { deliver, engine, pass, seen, world } = volatileEngine({
      handler: ({ ref }) => (ref.id === "n2" ? goOn.opened : undefined),
    });
    for (const id of ["n1", "n2", "n3"]) world.put(id, "text");
    await engine.start();
    const delivery = deliver(event("n1"), event("n2"), event("n3"));
    await pass(100);
    expect(seen).toHaveLength(3);
    expect(delivery.response).toBeUndefined();
    goOn.open();
    expect(await (await delivery.answered).json()).toMatchObject({ accepted: 3 });
  });

  it("work that fails is waited for through its retries, and a dead letter is an answer too (I2)", async () => {
    const { deliver, engine, pass, seen, world } = volatileEngine({
      handler: ({ attempt, ref }) => {
        if (ref.id === "n2") throw new RejectError("never");
        if (attempt < 3) throw new Error("not yet");
      },
    });
    world.put("n1", "text");
    world.put("n2", "text");
    await engine.start();
    const delivery = deliver(event("n1"));
    await pass(150);
    expect(delivery.response).toBeUndefined();
    await pass(100);
    expect((await delivery.answered).status).toBe(200);
    expect(seen).toHaveLength(3);
    expect((await deliver(event("n2")).answered).status).toBe(200);
    expect((await engine.deadLetters.list()).items).toHaveLength(1);
  });

  it("what turns out unchanged is an answer, and so is what nobody wants", async () => {
    const { deliver, engine, seen, world } = volatileEngine();
    world.put("n1", "text");
    await engine.start();
    await deliver(event("n1")).answered;
    expect((await deliver(event("n1")).answered).status).toBe(200);
    expect(seen).toHaveLength(1);
    expect(await (await deliver({ resource: "task", objectId: "t1" }).answered).json()).toMatchObject({
      ignored: 1,
    });
  });

  it("an event of a whole resource waits for its pass", async () => {
    const { deliver, engine, seen, world } = volatileEngine();
    world.put("n1", "text");
    world.put("n2", "text");
    await engine.start();
    expect((await deliver({ resource: "note" }).answered).status).toBe(200);
    expect(seen).toHaveLength(2);
  });

  it("before start nobody works: 503, and the event is handled after", async () => {
    const { deliver, engine, pass, seen, world } = volatileEngine();
    world.put("n1", "text");
    const delivery = deliver(event("n1"));
    await pass(5_100);
    expect(delivery.response?.status).toBe(503);
    expect(seen).toEqual([]);
    await engine.start();
    await pass(100);
    expect(seen).toHaveLength(1);
  });

  it("a stop leaves no delivery waiting, and no timer", async () => {
    const { clock, deliver, engine, pass, world } = volatileEngine({
      handler: () => {
        throw new Error("not now");
      },
    });
    world.put("n1", "text");
    await engine.start();
    const delivery = deliver(event("n1"));
    await pass(50);
    expect(delivery.response).toBeUndefined();
    await engine.stop();
    expect((await delivery.answered).status).toBe(503);
    await clock.advance(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it("a stop waits for what is at work, and that is answered still", async () => {
    const goOn = gate();
    const { deliver, engine, pass, world } = volatileEngine({ handler: () => goOn.opened });
    world.put("n1", "text");
    await engine.start();
    const delivery = deliver(event("n1"));
    await pass(50);
    const stopping = engine.stop();
    goOn.open();
    expect((await delivery.answered).status).toBe(200);
    await stopping;
  });

  it("start warns, and does not where the store is durable", async () => {
    const { engine } = volatileEngine();
    const warnings = recorded(engine, "warning");
    await engine.start();
    expect(warnings).toMatchObject([{ code: "STORE_VOLATILE" }]);
    const durable = new SyncEngine({
      providers: [notesProvider(new World())],
      store: sqliteStore({ path: `${temporaryDirectory()}/sync.db` }),
      logger: silent,
    });
    onTestFinished(() => durable.stop());
    const none = recorded(durable, "warning");
    durable.handle("notes.note", () => {});
    await durable.start();
    expect(none).toEqual([]);
  });

  it("what a Keyv kept is found again by the next engine", async () => {
    const keyv = new Keyv();
    const world = new World();
    world.put("n1", "text");
    const first = volatileEngine({ world, store: keyvStore(keyv) });
    const delivery = first.deliver(event("n1"));
    await first.pass(5_100);
    expect(delivery.response?.status).toBe(503);
    await first.engine.stop();
    const second = volatileEngine({ world, store: keyvStore(keyv) });
    await second.engine.start();
    await second.pass(100);
    expect(second.seen).toMatchObject([{ ref: { id: "n1" }, eventCount: 1 }]);
  });
});
