/**
 * The object index: looking up, recording without handling, counting; and the counter.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  done,
  indexEntry,
  makeDead,
  makePresent,
  page,
  SCOPE,
  scopeOf,
} from "./words.ts";

export const indexTopic: Topic = {
  name: "object index",
  define(it) {
    it("should look objects up in the order asked, and not know others", async ({ store }) => {
      const [a, b] = [indexEntry({ hash: "a" }), indexEntry({ hash: "b", state: "gone", version: null })];
      await store.record(SCOPE, [
        { id: "a", index: a },
        { id: "b", index: b },
      ]);
      const found = await store.lookup(SCOPE, ["b", "unknown", "a", "b"]);
      assert.deepEqual(
        found.map((one) => one?.index),
        [b, undefined, a, b],
      );
      assert.equal(found[1], undefined);
      assert.equal(found[0]?.key, found[3]?.key);
      assert.notEqual(found[0]?.key, found[2]?.key);
      assert.deepEqual(
        await store.lookup(scopeOf("acme"), ["a"]),
        [undefined],
        "another connection's objects",
      );
      assert.deepEqual(await store.lookup(SCOPE, []), []);
    });

    it("should say of an object whether it is pending: waiting, leased or dead", async ({ store, work }) => {
      const session = await work();
      const pending = async () => (await store.lookup(SCOPE, ["a"]))[0]?.pending;
      await makePresent(store, ["a"]);
      assert.equal(await pending(), false);
      await appendIds(store, ["a"]);
      assert.equal(await pending(), true, "waiting");
      const claim = await claimOnly(session);
      assert.equal(await pending(), true, "leased");
      await session.settle([done(claim)]);
      assert.equal(await pending(), false);
      await makeDead({ store, session }, ["a"]);
      assert.equal(await pending(), true, "dead");
    });

    it("should move `touched` with each append, lease and settling", async ({ store, work }) => {
      const session = await work();
      const touched = async () => (await store.lookup(SCOPE, ["a"]))[0]?.touched ?? 0;
      await makePresent(store, ["a"]);
      assert.ok((await touched()) <= (await store.counter(SCOPE)), "recording touches nothing");
      const moved = async (step: () => Promise<unknown>, why: string) => {
        const mark = await store.counter(SCOPE);
        await step();
        const now = await touched();
        assert.ok(now > mark, `${why}: touched is ${now}, the counter was ${mark} before`);
        assert.ok(now <= (await store.counter(SCOPE)), "nothing is touched later than the counter");
      };
      await moved(() => appendIds(store, ["a"]), "append");
      await moved(() => claimOnly(session), "lease");
      await session.release();
      const next = await work();
      const claim = await claimOnly(next);
      await moved(() => next.settle([done(claim)]), "settling");
    });

    it("should record entries, except of objects that are pending", async ({ store, work }) => {
      const session = await work();
      await makePresent(store, ["known", "waiting", "leased"]);
      await makeDead({ store, session }, ["dead"]);
      await appendIds(store, ["leased"]);
      await claimOnly(session);
      await appendIds(store, ["waiting"]);
      const index = indexEntry({ hash: "adopted" });
      const entries = ["known", "new", "waiting", "leased", "dead"].map((id) => ({ id, index }));
      assert.equal(await store.record(SCOPE, entries), 2);
      const found = await store.lookup(SCOPE, ["known", "new", "waiting", "leased", "dead"]);
      assert.deepEqual(
        found.map((one) => one?.index?.hash),
        ["adopted", "adopted", "h1", "h1", undefined],
      );
      assert.equal((await claimId(session, "waiting")).index?.hash, "h1");
    });

    it("should not record what an object was before it was handled last", async ({ store, work }) => {
      const session = await work();
      const handled = async (id: string) => {
        await appendIds(store, [id]);
        const claim = await claimOnly(session);
        await session.settle([done(claim, indexEntry({ hash: "handled", evidence: claim.fence }))]);
        return claim.fence;
      };
      const older = (await handled("a")) - 1;
      const same = await handled("b");
      const entries = [
        { id: "a", index: indexEntry({ hash: "earlier", evidence: older, state: "gone" }) },
        { id: "b", index: indexEntry({ hash: "handled", rowHash: "learned", evidence: same }) },
      ];
      assert.equal(await store.record(SCOPE, entries), 1);
      const found = await store.lookup(SCOPE, ["a", "b"]);
      assert.deepEqual(
        found.map((one) => [one?.index?.state, one?.index?.hash, one?.index?.rowHash]),
        [
          ["present", "handled", null],
          ["present", "handled", "learned"],
        ],
      );
      assert.equal(await store.countPresent(SCOPE), 2);
    });

    it("should not touch what it records, so that a page may still lease it", async (test) => {
      const { store } = test;
      const session = await test.work();
      const mark = await store.counter(SCOPE);
      await makePresent(store, ["a"]);
      const claims = await session.recordPage(
        page({ lock: await test.lock("pass"), mark, differing: ["a"] }),
      );
      assert.equal(claims.length, 1);
    });

    it("should count what is present, scope by scope", async ({ store }) => {
      assert.equal(await store.countPresent(SCOPE), 0);
      await makePresent(store, ["a", "b", "c"]);
      await makePresent(store, ["a"], scopeOf("acme"));
      await store.record(SCOPE, [{ id: "b", index: indexEntry({ state: "gone" }) }]);
      await store.record(SCOPE, [{ id: "a", index: indexEntry({ hash: "again" }) }]);
      assert.equal(await store.countPresent(SCOPE), 2);
      assert.equal(await store.countPresent(scopeOf("acme")), 1);
      const counts = await store.counts();
      assert.equal(counts.find((one) => one.connection === "default")?.present, 2);
    });

    it("should never turn its counter back", async ({ store, work }) => {
      const session = await work();
      let last = await store.counter(SCOPE);
      const later = async (value: number, why: string) => {
        assert.ok(value > last, `${why}: ${value} should be above ${last}`);
        const counter = await store.counter(SCOPE);
        assert.ok(counter >= value, `the counter (${counter}) has passed ${value}`);
        last = counter;
      };
      for (let round = 0; round < 5; round += 1) {
        await later(await appendIds(store, ["a"]), "a generation");
        const claim = await claimOnly(session);
        await later(claim.fence, "a fence");
        await session.settle([done(claim)]);
        const [found] = await store.lookup(SCOPE, ["a"]);
        await later(found?.touched ?? 0, "a settling");
      }
    });
  },
};
