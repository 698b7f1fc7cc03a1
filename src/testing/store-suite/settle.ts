/**
 * Settling: done, retry, dead; dirty when something was appended meanwhile; lost on a stale fence.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Settlement } from "../../core/store.ts";
import { encodeVersion } from "../../core/version.ts";
import type { Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  claimUpTo,
  dead,
  done,
  entry,
  expectNothingDue,
  failure,
  indexEntry,
  ROUTE,
  retry,
  SCOPE,
} from "./words.ts";

export const settleTopic: Topic = {
  name: "settle",
  define(it) {
    it("should write what done says into the index, and clear the mark", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      const index = indexEntry({ hash: "new", evidence: claim.fence });
      assert.deepEqual(await session.settle([done(claim, index)]), ["settled"]);
      const [lookup] = await store.lookup(SCOPE, ["a"]);
      assert.deepEqual(lookup?.index, index);
      assert.equal(lookup?.pending, false);
      assert.deepEqual(await store.pending(clock.now()), { due: 0, leased: 0, later: 0, dead: 0 });
      await expectNothingDue(session, "it is done");
      await appendIds(store, ["a"]);
      assert.deepEqual((await claimOnly(session)).index, index, "the next claim knows it");
    });

    it("should keep versions with a NUL or a lone surrogate, and go on working with their objects", async ({
      store,
      work,
    }) => {
      const session = await work();
      const versions = ["v\0", "\ud800", "\udc00v", 'v"\\', "v"];
      const ids = versions.map((_, i) => `v${i}`);
      for (const round of ["first", "second"]) {
        const entries = versions.map((version, i) => entry(`v${i}`, { version, eventId: round }));
        const appended = await store.append(entries);
        assert.deepEqual(new Set(appended.map(({ status }) => status)), new Set(["accepted"]));
        const claims = await claimUpTo(session, versions.length);
        assert.equal(claims.length, versions.length);
        const settled = await session.settle(
          claims.map((claim) => done(claim, indexEntry({ version: claim.hintVersion ?? null }))),
        );
        assert.deepEqual(new Set(settled), new Set(["settled"]));
      }
      const found = await store.lookup(SCOPE, ids);
      assert.deepEqual(
        found.map((lookup) => lookup?.index?.version),
        versions.map((version) => encodeVersion(version)),
      );
    });

    it("should keep a tombstone, and not count it as present", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      await session.settle([done(await claimOnly(session), indexEntry())]);
      assert.equal(await store.countPresent(SCOPE), 1);
      await appendIds(store, ["a"]);
      const tombstone = indexEntry({ state: "gone", hash: null });
      await session.settle([done(await claimOnly(session), tombstone)]);
      assert.deepEqual((await store.lookup(SCOPE, ["a"]))[0]?.index, tombstone);
      assert.equal(await store.countPresent(SCOPE), 0);
    });

    it("should settle a lease once, whatever else of its object comes between", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const before = await claimOnly(session);
      await session.settle([retry(before, clock.now())]);
      const claim = await claimOnly(session);
      await appendIds(store, ["a"]);
      const outcomes = await session.settle([done(claim), done(before), done(claim)]);
      assert.deepEqual(outcomes, ["dirty", "lost", "lost"]);
    });

    it("should leave an object without an entry that is done with `null`", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, ["a", "b"]);
      await session.settle((await claimUpTo(session, 2)).map((claim) => done(claim, null)));
      await appendIds(store, ["b"]);
      await session.settle([done(await claimOnly(session))]);
      const [a, b] = await store.lookup(SCOPE, ["a", "b"]);
      assert.equal(a?.index, undefined);
      assert.notEqual(b?.index, undefined, "control");
      assert.equal(await store.countPresent(SCOPE), 1);
    });

    it("should answer for each settlement in its place", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a", "b", "c", "d"]);
      const [a, b, c, d] = await claimUpTo(session, 4);
      assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
      await appendIds(store, [b.ref.id]);
      assert.deepEqual(await session.settle([done(a)]), ["settled"]);
      const settlements: Settlement[] = [done(b), done(a), retry(c, clock.now() + 1_000), dead(d)];
      assert.deepEqual(await session.settle(settlements), ["dirty", "lost", "settled", "settled"]);
      assert.deepEqual(await store.pending(clock.now()), { due: 1, leased: 0, later: 1, dead: 1 });
      assert.deepEqual(await session.settle([]), []);
    });

    it("should make an object due again that was appended to meanwhile, as fresh work", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      await appendIds(store, ["a"]);
      await session.settle([retry(await claimOnly(session), clock.now(), { lags: 2 })]);
      const claim = await claimOnly(session);
      const generation = await appendIds(store, ["a"], { origin: "poll" });
      const index = indexEntry({ hash: "recorded" });
      assert.deepEqual(await session.settle([done(claim, index)]), ["dirty"]);
      const next = await claimOnly(session);
      assert.deepEqual(next.index, index, "what the claim brought is recorded all the same");
      assert.deepEqual([next.attempt, next.lags, next.generation], [1, 0, generation]);
      assert.deepEqual(
        await session.settle([done(next)]),
        ["settled"],
        "control: nothing was appended this time",
      );
      await expectNothingDue(session, "it is done");
    });

    it("should refuse a claim that was settled before, whatever it says", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await session.settle([done(claim, indexEntry({ hash: "first" }))]);
      const stale = [done(claim, indexEntry({ hash: "stale" })), retry(claim, clock.now()), dead(claim)];
      for (const settlement of stale) {
        assert.deepEqual(await session.settle([settlement]), ["lost"]);
        assert.equal((await store.lookup(SCOPE, ["a"]))[0]?.index?.hash, "first");
      }
      assert.deepEqual(await store.pending(clock.now()), { due: 0, leased: 0, later: 0, dead: 0 });
    });

    it("should refuse the claim of before while a later one is open", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const old = await claimOnly(session);
      await session.settle([retry(old, clock.now())]);
      const live = await claimOnly(session);
      const stale = [done(old, indexEntry({ hash: "stale" })), retry(old, clock.now()), dead(old)];
      for (const settlement of stale) assert.deepEqual(await session.settle([settlement]), ["lost"]);
      await expectNothingDue(session, "the later lease holds");
      assert.deepEqual(await session.settle([done(live, indexEntry({ hash: "live" }))]), ["settled"]);
      assert.equal((await store.lookup(SCOPE, ["a"]))[0]?.index?.hash, "live");
    });

    it("should tell the claim of before from a later one that is settled with it", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      for (const order of ["old first", "live first"]) {
        await appendIds(store, [order]);
        const old = await claimOnly(session);
        await session.settle([retry(old, clock.now())]);
        const live = await claimOnly(session);
        const settlements = [
          done(old, indexEntry({ hash: "stale" })),
          done(live, indexEntry({ hash: "live" })),
        ];
        const outcomes = ["lost", "settled"];
        if (order === "live first") for (const list of [settlements, outcomes]) list.reverse();
        assert.deepEqual(await session.settle(settlements), outcomes, order);
        assert.equal((await store.lookup(SCOPE, [order]))[0]?.index?.hash, "live", order);
      }
      assert.equal(await store.countPresent(SCOPE), 2);
    });

    it("should hold work back that comes before `notBefore`", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a", "b"]);
      const notBefore = clock.now() + 5_000;
      const a = await claimId(session, "a");
      await session.settle([done(a, indexEntry(), notBefore)]);
      await appendIds(store, ["a"]);
      await expectNothingDue(session, "b is leased, and a is to rest");
      assert.equal(await store.nextDue([ROUTE]), notBefore);
      await clock.advance(5_000);
      assert.equal((await claimOnly(session)).ref.id, "a");
    });

    it("should hold work back that came meanwhile until `notBefore`", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await appendIds(store, ["a"]);
      assert.deepEqual(await session.settle([done(claim, indexEntry(), clock.now() + 5_000)]), ["dirty"]);
      await clock.advance(4_999);
      await expectNothingDue(session, "a is to rest");
      await clock.advance(1);
      await claimOnly(session);
    });

    it("should not hold work back after `notBefore`", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      await session.settle([done(await claimOnly(session), indexEntry(), clock.now() + 5_000)]);
      assert.equal(await store.nextDue([ROUTE]), undefined, "an object that needs no work is never due");
      await clock.advance(6_000);
      await appendIds(store, ["a"]);
      await claimOnly(session);
    });

    it("should keep the due date of a retry over an append meanwhile", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await appendIds(store, ["a"]);
      const [outcome] = await session.settle([retry(claim, clock.now() + 5_000)]);
      assert.notEqual(outcome, "lost");
      await clock.advance(4_999);
      await expectNothingDue(session, "the backoff holds");
      await clock.advance(1);
      const next = await claimOnly(session);
      assert.deepEqual([next.attempt, next.eventCount], [2, 2]);
    });

    it("should make fresh work of a death that something was appended to meanwhile", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await clock.advance(1_000);
      const since = clock.now();
      await appendIds(store, ["a"], { origin: "poll" });
      assert.deepEqual(await session.settle([dead(claim)]), ["dirty"]);
      assert.deepEqual(await store.pending(clock.now()), { due: 1, leased: 0, later: 0, dead: 0 });
      const next = await claimOnly(session);
      assert.deepEqual([next.attempt, next.eventCount], [1, 2]);
      assert.deepEqual([next.origin, next.dirtySince], ["poll", since], "it is dirty by what came meanwhile");
      assert.deepEqual(
        await session.settle([dead(next)]),
        ["settled"],
        "control: this time nothing was appended",
      );
      assert.equal((await store.pending(clock.now())).dead, 1);
    });

    it("should record the last failure of a scope", async ({ store, work, clock }) => {
      const session = await work();
      await store.append([entry("a")]);
      const error = { ...failure("SCHEMA_MISMATCH", clock.now()), path: "items[2].price" };
      await session.settle([retry(await claimOnly(session), clock.now(), { error: failure("NETWORK", 1) })]);
      await session.settle([dead(await claimOnly(session), { error })]);
      const [counts] = await store.counts();
      assert.deepEqual(counts?.lastError, error);
    });
  },
};
