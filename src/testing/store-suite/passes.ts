/**
 * Pages of passes over lists: recorded with their checkpoint, leased where untouched, and remembered.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Lock } from "../../core/store.ts";
import { LEASE_MS, type StoreTest, type Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  claimUpTo,
  dead,
  done,
  expectNothingDue,
  idsOf,
  indexEntry,
  makeDead,
  makePresent,
  PASS,
  page,
  rejectsWith,
  SCOPE,
  scopeOf,
  sortedIds,
} from "./words.ts";

/** Lets the lock run out and another take it. */
async function loseLock<Tx>(test: StoreTest<Tx>, lock: Lock): Promise<Lock> {
  await test.clock.advance(LEASE_MS + 1);
  const other = await test.store.lock(lock.name, LEASE_MS);
  assert.ok(other !== undefined, "a lock that has run out can be taken");
  return other;
}

async function unseenIds<Tx>({ store }: StoreTest<Tx>, mark: number, pass = PASS): Promise<string[]> {
  const found = await store.unseen(SCOPE, pass, { mark, after: undefined, limit: 100 });
  return found.map((one) => one.id).toSorted();
}

export const passTopic: Topic = {
  name: "passes",
  define(it) {
    it("should lease the differing objects of a page that nobody touched", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      const index = indexEntry({ hash: "stale" });
      await store.record(SCOPE, [{ id: "known", index }]);
      const lock = await test.lock("pass");
      const mark = await store.counter(SCOPE);
      const claims = await session.recordPage(
        page({
          lock,
          mark,
          differing: ["known", "new"],
          seen: ["known", "new", "same"],
          checkpoint: '{"page":1}',
        }),
      );
      assert.deepEqual(sortedIds(claims), ["known", "new"]);
      for (const claim of claims) {
        assert.ok(claim.fence > mark, "the lease is later than the mark");
        assert.deepEqual(
          [claim.attempt, claim.eventCount, claim.lane, claim.origin],
          [1, 0, "repair", "reconcile"],
        );
        assert.deepEqual(claim.index, claim.ref.id === "known" ? index : undefined);
        assert.equal(claim.dirtySince, clock.now());
      }
      assert.equal(await store.getCheckpoint(PASS), '{"page":1}', "the checkpoint goes by the pass's name");
      await expectNothingDue(session, "they are leased");
      assert.deepEqual(await session.settle(claims.map((claim) => done(claim))), ["settled", "settled"]);
      assert.equal(await store.countPresent(SCOPE), 2);
    });

    it("should only mark dirty where it is not to lease", async (test) => {
      const session = await test.work();
      const lock = await test.lock("pass");
      const mark = await test.store.counter(SCOPE);
      assert.deepEqual(
        await session.recordPage(page({ lock, mark, differing: ["a", "b"], lease: false })),
        [],
      );
      const claims = await claimUpTo(session, 10);
      assert.deepEqual(sortedIds(claims), ["a", "b"]);
      for (const claim of claims) assert.deepEqual([claim.lane, claim.origin], ["repair", "reconcile"]);
    });

    it("should leave what was touched after the mark to the normal road", async (test) => {
      const { store } = test;
      const session = await test.work();
      const mark = await store.counter(SCOPE);
      await appendIds(store, ["handled", "forgotten", "leased", "waiting"]);
      for (const claim of await claimUpTo(session, 10)) {
        if (claim.ref.id === "handled") await session.settle([done(claim)]);
        if (claim.ref.id === "forgotten") await session.settle([done(claim, null)]);
        if (claim.ref.id === "waiting") await session.settle([done(claim)]);
      }
      await appendIds(store, ["waiting"]);
      const lock = await test.lock("pass");
      const differing = ["handled", "forgotten", "leased", "waiting", "untouched"];
      const leased = await session.recordPage(page({ lock, mark, differing }));
      assert.deepEqual(idsOf(leased), ["untouched"], "only what nobody touched is leased from the page");
      const claims = await claimUpTo(session, 10);
      assert.deepEqual(sortedIds(claims), ["forgotten", "handled", "waiting"], "the others are due as usual");
      assert.equal(
        claims.find((claim) => claim.ref.id === "waiting")?.lane,
        "live",
        "what waits keeps its lane",
      );
      assert.equal(claims.find((claim) => claim.ref.id === "handled")?.lane, "repair");
    });

    it("should mark an object dirty that another has leased", async (test) => {
      const { store } = test;
      const session = await test.work();
      await appendIds(store, ["a", "b"]);
      const claims = await claimUpTo(session, 2);
      const mark = await store.counter(SCOPE);
      const lock = await test.lock("pass");
      assert.deepEqual(await session.recordPage(page({ lock, mark, differing: ["a"] })), []);
      const outcomes = await session.settle(claims.map((claim) => done(claim)));
      const byId = Object.fromEntries(claims.map((claim, i) => [claim.ref.id, outcomes[i]]));
      assert.deepEqual(byId, { a: "dirty", b: "settled" });
      assert.equal((await claimOnly(session)).ref.id, "a");
    });

    it("should leave what is dead dead, whether it leases or marks (I10)", async (test) => {
      const { store } = test;
      const session = await test.work();
      await makeDead({ store, session }, ["a", "b"]);
      const lock = await test.lock("pass");
      for (const lease of [true, false]) {
        const mark = await store.counter(SCOPE);
        const differing = lease ? ["a", "b", "c"] : ["b", "c"];
        const leased = await session.recordPage(page({ lock, mark, differing, lease }));
        assert.deepEqual(
          idsOf(leased),
          lease ? ["c"] : [],
          "only an event or `retryDead` revives what is dead",
        );
        if (lease) await session.settle(leased.map((claim) => done(claim)));
        else assert.equal((await claimOnly(session)).ref.id, "c", "control: one that lives is marked");
      }
      const { items } = await store.listDead({}, { cursor: undefined, limit: 10 });
      assert.deepEqual(items.map(({ ref }) => ref.id).toSorted(), ["a", "b"]);
    });

    it("should leave what is to rest to the normal road, until `notBefore`", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      await appendIds(store, ["resting", "rested"]);
      for (const claim of await claimUpTo(session, 2)) {
        const notBefore = clock.now() + (claim.ref.id === "resting" ? 5_000 : 0);
        await session.settle([done(claim, indexEntry(), notBefore)]);
      }
      const lock = await test.lock("pass");
      const mark = await store.counter(SCOPE);
      const leased = await session.recordPage(page({ lock, mark, differing: ["resting", "rested"] }));
      assert.deepEqual(idsOf(leased), ["rested"]);
      await expectNothingDue(session, "it rests");
      await clock.advance(5_000);
      assert.equal((await claimOnly(session)).ref.id, "resting");
    });

    it("should take an object once that is twice on a page", async (test) => {
      const session = await test.work();
      const mark = await test.store.counter(SCOPE);
      const differing = ["a", "a"];
      const claims = await session.recordPage(page({ lock: await test.lock("pass"), mark, differing }));
      assert.deepEqual(idsOf(claims), ["a"]);
      assert.deepEqual(await session.settle(claims.map((claim) => done(claim))), ["settled"]);
    });

    it("should lease again under a later mark what was handled before it", async (test) => {
      const { store } = test;
      const session = await test.work();
      await appendIds(store, ["a"]);
      await session.settle([done(await claimOnly(session))]);
      const mark = await store.counter(SCOPE);
      const claims = await session.recordPage(
        page({ lock: await test.lock("pass"), mark, differing: ["a"] }),
      );
      assert.deepEqual(idsOf(claims), ["a"]);
    });

    it("should write nothing when the lock is lost", async (test) => {
      const { store } = test;
      const session = await test.work();
      await makePresent(store, ["present"]);
      const lock = await test.lock("pass");
      const mark = await store.counter(SCOPE);
      await session.recordPage(page({ lock, mark, checkpoint: "before" }));
      const other = await loseLock(test, lock);
      const lost = page({ lock, mark, differing: ["a"], seen: ["present"], checkpoint: "after" });
      await rejectsWith("LEASE_LOST", session.recordPage(lost), "the lock has another holder");
      await rejectsWith("LEASE_LOST", store.endPass(SCOPE, PASS, lock, null), "the lock has another holder");
      assert.equal(await store.getCheckpoint(PASS), "before");
      await expectNothingDue(session, "nothing was marked dirty");
      assert.deepEqual(await unseenIds(test, mark), ["present"], "nothing was remembered as seen");
      const kept = await session.recordPage({ ...lost, lock: other });
      assert.deepEqual(idsOf(kept), ["a"], "control: under the live lock it is recorded");
      assert.equal(await store.getCheckpoint(PASS), "after");
    });

    it("should tell what a pass has not seen", async (test) => {
      const { store } = test;
      const session = await test.work();
      await makePresent(store, ["a", "b", "c", "d", "e", "f"]);
      await makePresent(store, ["elsewhere"], scopeOf("acme"));
      await store.record(SCOPE, [{ id: "gone", index: indexEntry({ state: "gone" }) }]);
      const lock = await test.lock("pass");
      const mark = await store.counter(SCOPE);
      await session.recordPage(page({ lock, mark, seen: ["a", "new"] }));
      await session.recordPage(page({ lock, mark, seen: ["b"] }));
      await appendIds(store, ["c", "d", "e"]);
      const claims = await claimUpTo(session, 10);
      for (const claim of claims) {
        if (claim.ref.id === "d") await session.settle([done(claim)]);
        if (claim.ref.id === "e") await session.settle([dead(claim)]);
      }
      assert.deepEqual(
        await unseenIds(test, mark),
        ["f"],
        "seen, pending, dead and touched ones are left out",
      );
      const later = await store.counter(SCOPE);
      assert.deepEqual(await unseenIds(test, later), ["d", "f"], "d was not touched after this mark");
      assert.deepEqual(
        await unseenIds(test, mark, "another pass"),
        ["a", "b", "f"],
        "passes see for themselves",
      );
    });

    it("should hand out what was not seen window by window", async (test) => {
      const { store } = test;
      const ids = Array.from({ length: 25 }, (_, n) => `o${n}`);
      await makePresent(store, ids);
      const mark = await store.counter(SCOPE);
      const session = await test.work();
      await session.recordPage(
        page({ lock: await test.lock("pass"), mark, seen: ids.filter((_, n) => n % 5 === 0) }),
      );
      const found: string[] = [];
      let after: string | undefined;
      for (;;) {
        const window = await store.unseen(SCOPE, PASS, { mark, after, limit: 7 });
        assert.ok(window.length <= 7, "a window has at most `limit` objects");
        found.push(...window.map((one) => one.id));
        after = window.at(-1)?.position;
        if (after === undefined) break;
        if (found.length === 7) await appendIds(store, [found[0] ?? ""]); // what is behind the window moves nothing
      }
      assert.deepEqual(found.toSorted(), ids.filter((_, n) => n % 5 !== 0).toSorted());
      assert.equal(new Set(found).size, found.length, "none comes twice");
    });

    it("should forget at its end what a pass has seen, with its checkpoint", async (test) => {
      const { store } = test;
      const session = await test.work();
      await makePresent(store, ["a"]);
      const lock = await test.lock("pass");
      const mark = await store.counter(SCOPE);
      await session.recordPage(page({ lock, mark, seen: ["a"], checkpoint: "1" }));
      await session.recordPage(page({ lock, mark, pass: "other", seen: ["a"], checkpoint: "2" }));
      assert.deepEqual(await unseenIds(test, mark), [], "control");
      await store.endPass(SCOPE, PASS, lock, "since");
      assert.deepEqual(await unseenIds(test, mark), ["a"]);
      assert.equal(await store.getCheckpoint(PASS), "since");
      await store.endPass(SCOPE, PASS, lock, null);
      assert.equal(await store.getCheckpoint(PASS), undefined);
      assert.deepEqual(await unseenIds(test, mark, "other"), [], "another pass is not ended");
      assert.equal(await store.getCheckpoint("other"), "2");
    });

    it("should return a page's claims to the normal road when the session is released", async (test) => {
      const session = await test.work();
      const mark = await test.store.counter(SCOPE);
      const claims = await session.recordPage(
        page({ lock: await test.lock("pass"), mark, differing: ["a"] }),
      );
      await session.release();
      const next = await test.work();
      assert.equal((await claimId(next, "a")).attempt, 1);
      assert.deepEqual(await next.settle(claims.map((claim) => done(claim))), ["lost"]);
    });
  },
};
