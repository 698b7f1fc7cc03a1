import { Keyv } from "keyv";
import { describe, expect, it } from "vitest";
import type { Store } from "../../src/core/store.ts";
import { keyvStore, type KeyvStoreOptions } from "../../src/stores/keyv.ts";
import { TestClock } from "../../src/testing/index.ts";
import {
  claimOnly,
  dead,
  done,
  entry,
  indexEntry,
  SCOPE,
  scopeOf,
} from "../../src/testing/store-suite/words.ts";
import { environmentOf } from "./environment.ts";
import { FaultyAdapter } from "./faulty-adapter.ts";

const clock = new TestClock();

async function open(keyv?: Keyv, options?: KeyvStoreOptions): Promise<Store> {
  const store = keyvStore(keyv, options);
  await store.open(environmentOf(clock));
  return store;
}

const pendingOf = async (store: Store) => (await store.lookup(SCOPE, ["a"]))[0]?.pending;

describe("keyvStore and the errors of its Keyv", () => {
  it.each([
    ["without a listener", false],
    ["with a listener, to which Keyv tells what it does not tell us", true],
  ])("should reject a failed write %s", async (_, withListener) => {
    const adapter = new FaultyAdapter();
    const keyv = new Keyv({ store: adapter });
    const heard: unknown[] = [];
    if (withListener) keyv.on("error", (error: unknown) => heard.push(error));
    const store = await open(keyv);
    await store.append([entry("a", { eventId: "1" })]);

    adapter.failAfter(0, "not written", true);
    const calls = [
      store.append([entry("b", { eventId: "2" })]),
      store.setCheckpoint("cursor", "1"),
      store.record(SCOPE, [{ id: "c", index: indexEntry() }]),
      store.forget("crm", "default"), // only deletes, of which Keyv says too little
    ];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect(heard.length > 0).toBe(withListener);
    expect(await store.lookup(SCOPE, ["b", "c"])).toEqual([undefined, undefined]);
    expect(await pendingOf(store)).toBe(true);

    adapter.failAfter(Number.POSITIVE_INFINITY, "not written", false);
    const [again] = await store.append([entry("b", { eventId: "2" })]);
    expect(again?.status, "what was refused is no duplicate").toBe("accepted");
    expect(keyv.listenerCount("error"), "it leaves no listener behind").toBe(withListener ? 1 : 0);
  });

  it("should notice errors that Keyv is told to keep to itself", async () => {
    const adapter = new FaultyAdapter();
    const keyv = new Keyv({ store: adapter });
    keyv.throwOnEmptyListeners = false;
    const store = await open(keyv);
    adapter.failAfter(0, "not written", true);
    await expect(store.append([entry("a")])).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect(await pendingOf(store)).toBe(undefined);
  });

  it("should not open on half of what is stored", async () => {
    const map = new Map<string, unknown>();
    const first = await open(new Keyv({ store: new FaultyAdapter(map) }));
    await first.append([entry("a"), entry("b")]);
    for (const key of map.keys()) if (key.startsWith("trueup:o")) map.set(key, "{ not JSON");
    const keyv = new Keyv({ store: new FaultyAdapter(map) });
    await expect(open(keyv)).rejects.toMatchObject({ code: "STORE_FAILED" });
    keyv.on("error", () => {});
    await expect(open(keyv)).rejects.toMatchObject({ code: "STORE_FAILED" });
  });

  it("should refuse a Keyv that cannot be iterated", async () => {
    const map = new Map<string, unknown>();
    const notIterable = {
      get: (key: string) => map.get(key),
      set: (key: string, value: unknown) => map.set(key, value),
      delete: (key: string) => map.delete(key),
      has: (key: string) => map.has(key),
      clear: () => map.clear(),
    };
    const opening = open(new Keyv({ store: notIterable }));
    await expect(opening).rejects.toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
    await expect(open(new Keyv({ store: notIterable }))).rejects.toThrow(/can be iterated/);
  });

  it("should refuse what a newer trueup wrote", async () => {
    const keyv = new Keyv();
    await keyv.set("trueup:m", { format: 2, counter: 1 });
    await expect(open(keyv)).rejects.toMatchObject({ code: "STORE_VERSION" });
  });
});

describe("keyvStore and others on the same Keyv", () => {
  it("should touch no key but its own, and read none", async () => {
    const keyv = new Keyv({ namespace: "app" });
    await keyv.set("theirs", 1);
    await keyv.set("trueup-but-not-ours", 2);
    const store = await open(keyv);
    await store.append([entry("a")]);
    await store.forget("crm", "default");
    expect([await keyv.get("theirs"), await keyv.get("trueup-but-not-ours")]).toEqual([1, 2]);
    const ours: string[] = [];
    for await (const [key] of keyv.iterator()) if (!key.startsWith("theirs")) ours.push(key);
    expect(
      ours.filter((key) => key !== "trueup-but-not-ours").every((key) => key.startsWith("trueup:")),
    ).toBe(true);
  });

  it("should keep two stores with prefixes of their own apart", async () => {
    const keyv = new Keyv();
    const [one, two] = [await open(keyv), await open(keyv, { prefix: "second:" })];
    await one.append([entry("a", { eventId: "1" })]);
    expect(await pendingOf(two)).toBe(undefined);
    expect((await two.append([entry("a", { eventId: "1" })]))[0]?.status).toBe("accepted");
    expect(() => keyvStore(keyv, { prefix: "" })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID" }),
    );
  });

  it("should outlast the time to live that the Keyv gives by default", async () => {
    const map = new Map<string, unknown>();
    const store = await open(new Keyv({ store: map, ttl: 1 }));
    await store.append([entry("a", { eventId: "1" })]);
    await store.close();
    const until = performance.now() + 5;
    while (performance.now() < until) await new Promise((resolve) => setImmediate(resolve));
    expect(await pendingOf(await open(new Keyv({ store: map, ttl: 1 })))).toBe(true);
  });

  it("should show two stores of one process the same state", async () => {
    const keyv = new Keyv();
    const [one, two] = [await open(keyv), await open(keyv)];
    await one.append([entry("a")]);
    const session = await two.work({ leaseMs: 1_000 });
    expect(await session.settle([done(await claimOnly(session))])).toEqual(["settled"]);
    expect(await one.countPresent(SCOPE)).toBe(1);
    await two.close();
    expect(await pendingOf(one), "closing one leaves the other open").toBe(false);
    await expect(two.append([entry("b")])).rejects.toMatchObject({ code: "STORE_FAILED" });
  });

  it("should tell a process that another one has begun to work", async () => {
    const map = new Map<string, unknown>();
    const one = await open(new Keyv({ store: map }));
    const two = await open(new Keyv({ store: map }));
    const first = await one.work({ leaseMs: 1_000 });
    expect(await first.heartbeat()).toBe(true);
    await one.append([entry("a")]);
    const lost = await claimOnly(first);
    const second = await two.work({ leaseMs: 1_000 });
    const claim = await claimOnly(second);
    expect([claim.ref.id, claim.attempt, claim.begun], "what came after it was opened is read").toEqual([
      "a",
      2,
      true,
    ]);
    expect(await first.heartbeat()).toBe(false);
    expect(await first.settle([done(lost)])).toEqual(["lost"]);
    await expect(first.claim({ ...SCOPE, limit: 1 })).rejects.toMatchObject({ code: "STORE_LOST" });
    expect(await second.heartbeat()).toBe(true);
  });
});

describe("keyvStore and its limits", () => {
  const isFull = { code: "STORE_FULL" };

  it("should hold no more pending objects than it may, dead ones included", async () => {
    const store = await open(undefined, { maxPendingObjects: 2 });
    const session = await store.work({ leaseMs: 1_000 });
    await store.append([entry("a")]);
    await session.settle([dead(await claimOnly(session))]);
    await store.append([entry("b")]);
    await expect(store.append([entry("b"), entry("c")])).rejects.toMatchObject(isFull);
    await store.append([entry("b")]);
    const claim = await claimOnly(session);
    expect(claim.eventCount, "a call that is refused has done nothing").toBe(2);
    await session.settle([done(claim)]);
    await store.append([entry("c")]);
  });

  it("should hold no more events than it may", async () => {
    const store = await open(undefined, { maxPendingEvents: 3 });
    const session = await store.work({ leaseMs: 1_000 });
    await store.append([entry("a"), entry("b"), entry("b")]);
    await expect(store.append([entry("a")])).rejects.toMatchObject(isFull);
    await store.append([entry("a", { event: false })]);
    const claims = await session.claim({ ...SCOPE, limit: 2 });
    await session.settle(claims.map((claim) => done(claim)));
    await store.append([entry("a")]);
  });

  it("should hold no more event ids than it may, and never drop one early to make room", async () => {
    const store = await open(undefined, { maxLedgerKeys: 2 });
    await store.append([entry("a", { eventId: "1" }), entry("a", { eventId: "2" })]);
    await expect(store.append([entry("a", { eventId: "3" })])).rejects.toMatchObject(isFull);
    expect((await store.append([entry("a", { eventId: "1" })]))[0]?.status).toBe("duplicate");
    await clock.advance(60_001);
    while (await store.sweep());
    await store.append([entry("a", { eventId: "3" })]);
  });

  it("should refuse limits that are none", () => {
    for (const limit of [0, -1, 1.5, Number.NaN]) {
      expect(() => keyvStore(undefined, { maxLedgerKeys: limit })).toThrow(/maxLedgerKeys/);
    }
  });

  it("should leave nothing in the Keyv of what has expired", async () => {
    const map = new Map<string, unknown>();
    const store = await open(new Keyv({ store: map }));
    const session = await store.work({ leaseMs: 1_000 });
    const keys = () => [...map.keys()].filter((key) => !/^trueup:[mw]$/.test(key)).length;
    for (let n = 0; n < 50; n += 1)
      await store.append([entry(`o${n}`, { eventId: "1", scope: scopeOf(`c${n}`) })]);
    await store.pause({ provider: "crm", connection: "c1", until: clock.now() + 1, reason: "429" });
    await clock.advance(10);
    const claims = await session.claim({ ...SCOPE, limit: 50 });
    expect(claims.length).toBe(50);
    await session.settle(claims.map((claim) => done(claim, null)));
    expect(keys()).toBeGreaterThan(100);
    await clock.advance(3_600_001);
    while (await store.sweep());
    expect(keys()).toBe(0);
  });
});
