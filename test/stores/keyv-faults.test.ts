import { Keyv } from "keyv";
import { describe, expect, it } from "vitest";
import type { Claim, Store, WorkSession } from "../../src/core/store.ts";
import { keyvStore } from "../../src/stores/keyv.ts";
import { done, entry, indexEntry, page, retry, dead, SCOPE } from "../../src/testing/store-suite/words.ts";
import { TestClock } from "../../src/testing/index.ts";
import { FaultyAdapter, type Fault } from "./faulty-adapter.ts";
import { environmentOf } from "./environment.ts";

const PASS = "pass";

/** A store over a Keyv over the adapter, as one process has it. */
async function start(adapter: FaultyAdapter, options: { listener?: boolean } = {}) {
  const keyv = new Keyv({ store: adapter });
  const heard: unknown[] = [];
  if (options.listener === true) keyv.on("error", (error: unknown) => heard.push(error));
  const clock = new TestClock();
  const store = keyvStore(keyv);
  await store.open(environmentOf(clock));
  return { store, clock, heard };
}

/** What a process has been told so far: only of this may it be sure. */
interface Told {
  /** Event ids that were accepted, by object. */
  readonly appended: Map<string, string[]>;
  readonly done: Set<string>;
  highest: number;
}

/** A life in steps, each one call of the store; what `told` holds afterwards was answered for. */
function life(store: Store, clock: TestClock, told: Told): readonly (() => Promise<void>)[] {
  let session: WorkSession;
  let claims = new Map<string, Claim>();
  const append = (id: string, eventId: string) => async () => {
    const [result] = await store.append([entry(id, { eventId })]);
    told.appended.set(id, [...(told.appended.get(id) ?? []), eventId]);
    told.highest = Math.max(told.highest, result?.generation ?? 0);
  };
  const claimed = (found: readonly Claim[]) => {
    claims = new Map([...claims, ...found.map((claim) => [claim.ref.id, claim] as const)]);
    for (const claim of found) told.highest = Math.max(told.highest, claim.fence);
  };
  const claimOf = (id: string) => {
    const claim = claims.get(id);
    if (claim === undefined) throw new Error(`${id} was not claimed`);
    return claim;
  };
  const lock = { name: PASS, fence: 0 };
  return [
    async () => void (session = await store.work({ leaseMs: 1_000 })),
    append("a", "a1"),
    append("b", "b1"),
    async () => claimed(await session.claim({ ...SCOPE, limit: 10 })),
    append("b", "b2"),
    async () => {
      await session.settle([done(claimOf("a"), indexEntry({ hash: "a" })), retry(claimOf("b"), clock.now())]);
      told.done.add("a");
    },
    async () => void Object.assign(lock, await store.lock(PASS, 60_000)),
    async () => {
      const mark = told.highest + 10;
      const given = { lock, mark, pass: PASS, seen: ["a", "c", "d"], differing: ["c", "d"], checkpoint: "1" };
      claimed(await session.recordPage(page(given)));
    },
    async () => {
      await session.settle([done(claimOf("c"), indexEntry({ hash: "c" }))]);
      told.done.add("c");
    },
    append("a", "a2"),
    async () => claimed(await session.claim({ ...SCOPE, limit: 10 })),
    async () =>
      void (await session.settle([dead(claimOf("b")), done(claimOf("a"), indexEntry({ hash: "a" }))])),
    () => store.setCheckpoint("cursor", "7"),
    () => store.endPass(SCOPE, PASS, lock, null),
    async () => void (await store.discardDead({})),
    append("e", "e1"),
    () => session.release(),
  ];
}

const told = (): Told => ({ appended: new Map(), done: new Set(), highest: 0 });

/** How many keys a whole life writes, from after the store is open. */
async function writesOfALife(): Promise<number> {
  const adapter = new FaultyAdapter();
  const { store, clock } = await start(adapter);
  const before = adapter.writes;
  for (const step of life(store, clock, told())) await step();
  return adapter.writes - before;
}

/** What can be seen of a store, but for numbers that differ from run to run. */
async function visible(store: Store) {
  const ids = ["a", "b", "c", "d", "e"];
  const found = await store.lookup(SCOPE, ids);
  return {
    objects: found.map((one, i) => [ids[i], one?.index?.hash, one?.pending]),
    pending: await store.pending(Number.MAX_SAFE_INTEGER),
    present: await store.countPresent(SCOPE),
    checkpoints: [await store.getCheckpoint(PASS), await store.getCheckpoint("cursor")],
    unseen: (
      await store.unseen(SCOPE, PASS, { mark: Number.MAX_SAFE_INTEGER, after: undefined, limit: 10 })
    ).map((one) => one.id),
    ledger: (
      await store.append(["a1", "a2", "b1", "b2"].map((eventId) => entry(eventId[0]!, { eventId })))
    ).map((result) => result.status),
    dead: (await store.listDead({}, { cursor: undefined, limit: 10 })).items.map((item) => item.ref.id),
  };
}

const faults: readonly Fault[] = ["not written", "written and not answered for"];
const writes = await writesOfALife();
const everyWrite = Array.from({ length: writes }, (_, k) => k);

describe("keyvStore over a Keyv that fails", () => {
  it("should write more than a few keys in the life that is tested", () => {
    expect(writes).toBeGreaterThan(25);
  });

  describe.each(faults)("for good, its write %s", (fault) => {
    it.each(everyWrite)("should lose nothing that it answered for, after %i writes", async (k) => {
      const map = new Map<string, unknown>();
      const adapter = new FaultyAdapter(map);
      const first = await start(adapter);
      const known = told();
      adapter.failAfter(k, fault, true);
      const crash = async () => {
        for (const step of life(first.store, first.clock, known)) await step();
      };
      await expect(crash()).rejects.toMatchObject({ code: "STORE_FAILED" });

      const { store } = await start(new FaultyAdapter(map));
      expect(await store.counter(SCOPE)).toBeGreaterThanOrEqual(known.highest);
      const session = await store.work({ leaseMs: 1_000 });
      const pendingOrDone = async (id: string) => {
        const [found] = await store.lookup(SCOPE, [id]);
        return found?.pending === true || found?.index !== undefined;
      };
      for (const id of known.appended.keys()) {
        // b dies of what is done to it, and is discarded: then nothing is left of it, as was asked for.
        if (id !== "b") expect(await pendingOrDone(id), `${id} is pending or handled`).toBe(true);
      }
      for (const id of known.done) {
        expect((await store.lookup(SCOPE, [id]))[0]?.index?.hash, `${id} stays handled`).toBe(id);
      }
      if ((await store.getCheckpoint(PASS)) === "1") {
        for (const id of ["c", "d"]) expect(await pendingOrDone(id), `${id} of the page`).toBe(true);
      }
      // What was not answered for comes again. It must not meet its own id in the ledger and an object without work.
      for (const [id, eventId] of [
        ["a", "a1"],
        ["b", "b1"],
        ["b", "b2"],
        ["a", "a2"],
        ["e", "e1"],
      ] as const) {
        if (known.appended.get(id)?.includes(eventId) === true) continue;
        const [result] = await store.append([entry(id, { eventId })]);
        expect(result?.generation, `${eventId} is ${result?.status}`).toBeGreaterThan(0);
      }
      for (const claim of await session.claim({ ...SCOPE, limit: 10 })) {
        expect(await session.settle([done(claim)])).toEqual(["settled"]);
      }
    });
  });

  describe.each(faults)("once, its write %s", (fault) => {
    it.each(everyWrite)(
      "should take the call for not made, and the next try for made, after %i",
      async (k) => {
        const unharmed = await start(new FaultyAdapter());
        for (const step of life(unharmed.store, unharmed.clock, told())) await step();
        const expected = await visible(unharmed.store);

        const map = new Map<string, unknown>();
        const adapter = new FaultyAdapter(map);
        const { store, clock } = await start(adapter);
        adapter.failAfter(k, fault, false);
        let failures = 0;
        for (const step of life(store, clock, told())) {
          await step().catch(async (error: unknown) => {
            expect(error).toMatchObject({ code: "STORE_FAILED" });
            failures += 1;
            await step();
          });
        }
        expect(failures).toBe(1);
        expect(await visible(store)).toEqual(expected);
        await store.close();
        const { store: reopened } = await start(new FaultyAdapter(map));
        expect(await visible(reopened)).toEqual(expected);
      },
    );
  });
});

describe("a session whose release cannot be written", () => {
  it("is over all the same: the process can work again, and finds its work", async () => {
    const adapter = new FaultyAdapter();
    const { store } = await start(adapter);
    const first = await store.work({ leaseMs: 1_000 });
    await store.append([entry("1")]);
    expect((await first.claim({ ...SCOPE, limit: 1 })).length).toBe(1);
    adapter.failAfter(0, "not written", false);
    await expect(first.release()).rejects.toMatchObject({ code: "STORE_FAILED" });
    const second = await store.work({ leaseMs: 1_000 }); // and waits for nobody: no time passes here
    expect(await first.heartbeat()).toBe(false);
    expect((await second.claim({ ...SCOPE, limit: 1 })).map(({ attempt, ref }) => [ref.id, attempt])).toEqual(
      [["1", 2]],
    );
  });
});
