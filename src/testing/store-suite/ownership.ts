/**
 * The right to work: who has it, for how long, and what becomes of leases when it changes hands.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Store, WorkSession } from "../../core/store.ts";
import { LEASE_MS, type StoreTest, type Topic } from "./fixture.ts";
import {
  appendIds,
  claimOnly,
  claimUpTo,
  done,
  idsOf,
  indexEntry,
  inTime,
  rejectsWith,
  SCOPE,
} from "./words.ts";

/** Asks for the right to work, and lets the time pass that asking may take. */
async function askInTime<Tx>(test: StoreTest<Tx>, store: Store<Tx>): Promise<WorkSession<Tx>> {
  const asked = store.work({ leaseMs: LEASE_MS });
  // Unless it is handled at once, a rejection during the wait would count as unhandled.
  asked.catch(() => {});
  await test.clock.advance(LEASE_MS * 2);
  return await inTime(asked, "asking for the right to work should end after `leaseMs`");
}

export const ownershipTopic: Topic = {
  name: "the right to work",
  define(it) {
    it("should live as long as its session is held", async (test) => {
      const session = await test.work();
      assert.equal(await session.heartbeat(), true);
      await test.clock.advance(LEASE_MS / 2);
      assert.equal(await session.heartbeat(), true);
      await session.release();
      const next = await test.work();
      assert.equal(await next.heartbeat(), true);
    });

    it(
      "should be given to one session at a time",
      async (test) => {
        const first = await test.work();
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(first);
        const beating = keepAlive(test, first);
        await rejectsWith("STORE_IN_USE", askInTime(test, test.store), "a living session holds the store");
        beating.stop();
        assert.equal(await first.heartbeat(), true, "asking takes nothing from the holder");
        assert.deepEqual(await first.settle([done(claim)]), ["settled"]);
        await first.release();
        await (await askInTime(test, test.store)).release();
      },
      "exclusive",
    );

    it(
      "should pass to one who waits when it is released",
      async (test) => {
        const first = await test.work();
        await appendIds(test.store, ["a"]);
        await claimOnly(first);
        const asked = test.store.work({ leaseMs: LEASE_MS });
        asked.catch(() => {});
        await test.clock.advance(1_000);
        await first.release();
        await test.clock.advance(LEASE_MS);
        const second = await inTime(asked, "the right to work should pass to one who waits");
        assert.equal((await claimOnly(second)).attempt, 1);
      },
      "exclusive",
    );

    it(
      "should stop waiting when it is told to",
      async (test) => {
        const first = await test.work();
        const stop = new AbortController();
        const asked = test.store.work({ leaseMs: LEASE_MS, signal: stop.signal });
        asked.catch(() => {});
        await test.clock.advance(1_000);
        stop.abort(new Error("enough"));
        await assert.rejects(inTime(asked, "work should stop waiting when its signal aborts"), /enough/);
        assert.equal(await first.heartbeat(), true);
      },
      "exclusive",
    );

    it(
      "should be refused to another instance while it is held",
      async (test) => {
        const first = await test.work();
        await appendIds(test.store, ["a"]);
        const second = await test.reopen();
        const beating = keepAlive(test, first);
        await rejectsWith("STORE_IN_USE", askInTime(test, second), "another instance works on the store");
        beating.stop();
        await appendIds(second, ["b"]); // who may not work may still append and look
        assert.equal((await second.lookup(SCOPE, ["a"]))[0]?.pending, true);
        assert.deepEqual(idsOf(await claimUpTo(first, 10)).toSorted(), ["a", "b"]);
        await first.release();
        const next = await askInTime(test, second);
        assert.equal(await next.heartbeat(), true);
      },
      "reopen",
      "exclusive",
    );

    it(
      "should be taken over from a dead holder, whose leases are void",
      async (test) => {
        const first = await test.work();
        await appendIds(test.store, ["a"]);
        const old = await claimOnly(first);
        await test.crash();
        const second = await test.reopen();
        assert.equal((await second.lookup(SCOPE, ["a"]))[0]?.pending, true);
        const next = await askInTime(test, second);
        const claim = await claimOnly(next);
        assert.ok(claim.fence > old.fence);
        assert.deepEqual(await next.settle([done(old, indexEntry({ hash: "stale" }))]), ["lost"]);
        assert.deepEqual(await next.settle([done(claim, indexEntry({ hash: "live" }))]), ["settled"]);
        assert.equal((await second.lookup(SCOPE, ["a"]))[0]?.index?.hash, "live");
      },
      "reopen",
      "exclusive",
    );

    it(
      "should be taken over with the dead holder's locks, which bind nobody any more",
      async (test) => {
        await test.work();
        const old = await test.store.lock("pass", LEASE_MS * 10);
        assert.ok(old);
        assert.equal(
          await test.store.lock("pass", LEASE_MS),
          undefined,
          "control: a held lock is not given twice",
        );
        await test.crash();
        const second = await test.reopen();
        await askInTime(test, second);
        const next = await second.lock("pass", LEASE_MS);
        assert.ok(next, "nobody waits for the lock of the dead");
        assert.ok(next.fence > old.fence);
      },
      "reopen",
      "exclusive",
    );

    it(
      "should be shared by several sessions, which never lease one object twice",
      async (test) => {
        const second = await test.reopen();
        const [one, two] = [await test.work(), await test.work(second)];
        await appendIds(
          test.store,
          Array.from({ length: 20 }, (_, n) => `o${n}`),
        );
        const batches = await Promise.all([one, two, one, two].map((session) => claimUpTo(session, 5)));
        const ids = idsOf(batches.flat());
        assert.equal(new Set(ids).size, ids.length, "an object was leased twice");
        assert.equal(ids.length, 20, "control: everything was claimed");
      },
      "reopen",
      "shared",
    );

    it(
      "should pass a dead session's leases to the living",
      async (test) => {
        const second = await test.reopen();
        const [one, two] = [await test.work(), await test.work(second)];
        await appendIds(test.store, ["a"]);
        const old = await claimOnly(one);
        await test.crash();
        const beating = keepAlive(test, two);
        await test.clock.advance(LEASE_MS * 2);
        const claim = await claimOnly(two);
        beating.stop();
        assert.ok(claim.fence > old.fence);
        assert.equal(claim.attempt, 2, "a crash counts as an attempt");
      },
      "reopen",
      "shared",
    );
  },
};

/** Beats for a session as the engine does, three times a lease, by the test's clock. */
function keepAlive<Tx>(test: StoreTest<Tx>, session: WorkSession<Tx>): { stop(): void } {
  let cancel = () => {};
  const beat = () => {
    cancel = test.clock.setTimer(() => {
      session.heartbeat().then(beat, beat);
    }, LEASE_MS / 3);
  };
  beat();
  return { stop: () => cancel() };
}
