/**
 * Claiming: what, in which order, and never twice at once.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Claim, REPAIR_AGING_MS } from "../../core/store.ts";
import { LEASE_MS, type Topic } from "./fixture.ts";
import {
  appendIds,
  claimOnly,
  claimUpTo,
  done,
  entry,
  expectNothingDue,
  idsOf,
  indexEntry,
  ROUTE,
  retry,
  SCOPE,
  scopeOf,
  sortedIds,
} from "./words.ts";

const numbered = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}${n}`);
const connectionsOf = (claims: readonly Claim[]) => claims.map((claim) => claim.ref.connection);

export const claimTopic: Topic = {
  name: "claim",
  define(it) {
    it("should lease at most `limit` objects of the route, and each once", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, numbered("a", 5));
      await appendIds(store, ["other"], { scope: { ...SCOPE, resource: "deal" } });
      await appendIds(store, ["foreign"], { scope: { ...SCOPE, provider: "shop" } });
      const first = await claimUpTo(session, 3);
      assert.equal(first.length, 3);
      const second = await claimUpTo(session, 3);
      assert.deepEqual(sortedIds([...first, ...second]), numbered("a", 5));
      await expectNothingDue(session, "all of the route is leased");
      assert.deepEqual(idsOf(await session.claim({ provider: "crm", resource: "deal", limit: 9 })), [
        "other",
      ]);
    });

    it("should never give one object to two claims at once", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, numbered("a", 30));
      const batches = await Promise.all(Array.from({ length: 10 }, () => claimUpTo(session, 5)));
      const claims = batches.flat();
      assert.equal(new Set(idsOf(claims)).size, claims.length, "an object was leased twice");
      assert.equal(claims.length, 30, "control: everything was claimed");
    });

    it("should claim what was appended first, first", async ({ store, work, clock }) => {
      const session = await work();
      for (const id of ["first", "second", "third"]) {
        await appendIds(store, [id]);
        await clock.advance(1_000);
      }
      const claimed = [await claimUpTo(session, 1), await claimUpTo(session, 1), await claimUpTo(session, 1)];
      assert.deepEqual(idsOf(claimed.flat()), ["first", "second", "third"]);
    });

    it("should give connections turns within one claim", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, numbered("big", 100), { scope: scopeOf("big") });
      await appendIds(store, ["s0"], { scope: scopeOf("small") });
      await appendIds(store, ["t0"], { scope: scopeOf("tiny") });
      const connections = connectionsOf(await claimUpTo(session, 6));
      assert.equal(connections.length, 6);
      assert.ok(
        connections.includes("small") && connections.includes("tiny"),
        `no turn in ${connections.join(", ")}`,
      );
    });

    it("should give connections turns from claim to claim", async ({ store, work }) => {
      const session = await work();
      for (const name of ["one", "two", "three"]) {
        await appendIds(store, numbered(name, 10), { scope: scopeOf(name) });
      }
      const seen = new Map<string, number>();
      for (let turn = 0; turn < 9; turn += 1) {
        const [connection = ""] = connectionsOf(await claimUpTo(session, 1));
        seen.set(connection, (seen.get(connection) ?? 0) + 1);
      }
      for (const name of ["one", "two", "three"]) {
        assert.ok((seen.get(name) ?? 0) >= 2, `${name} had ${seen.get(name) ?? 0} of nine turns`);
      }
    });

    it("should take live work before repair work", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["repair"], { lane: "repair" });
      await clock.advance(REPAIR_AGING_MS - 1_000);
      await appendIds(store, ["live", "live of another"], { scope: scopeOf("acme") });
      await appendIds(store, ["live here"]);
      const claims = await claimUpTo(session, 3);
      assert.deepEqual(sortedIds(claims), ["live", "live here", "live of another"]);
      assert.deepEqual(idsOf(await claimUpTo(session, 3)), ["repair"], "control: it was due all the same");
    });

    it("should take repair work first that has waited longer than the aging time", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["repair"], { lane: "repair" });
      await clock.advance(REPAIR_AGING_MS + 1_000);
      await appendIds(store, ["live"]);
      assert.deepEqual(idsOf(await claimUpTo(session, 1)), ["repair"]);
      assert.deepEqual(idsOf(await claimUpTo(session, 1)), ["live"]);
    });

    it("should pass connections over that it is told to", async ({ store, work }) => {
      const session = await work();
      for (const name of ["a", "b", "c"]) await appendIds(store, [name], { scope: scopeOf(name) });
      const claims = await session.claim({ ...ROUTE, limit: 10, exceptConnections: ["a", "c", "unknown"] });
      assert.deepEqual(idsOf(claims), ["b"]);
      assert.deepEqual(sortedIds(await claimUpTo(session, 10)), ["a", "c"], "they keep their work");
    });

    it("should claim nothing before it is due", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a", "b"]);
      const claims = await claimUpTo(session, 2);
      const now = clock.now();
      await session.settle(claims.map((claim, i) => retry(claim, now + (i + 1) * 5_000)));
      assert.equal(await store.nextDue([ROUTE]), now + 5_000);
      assert.equal(
        await store.nextDue([{ provider: "crm", resource: "deal" }]),
        undefined,
        "another route has none",
      );
      await clock.advance(4_999);
      await expectNothingDue(session, "one millisecond early");
      await clock.advance(1);
      assert.equal((await claimUpTo(session, 2)).length, 1);
      await clock.advance(5_000);
      assert.equal((await claimUpTo(session, 2)).length, 1);
      assert.equal(await store.nextDue([ROUTE]), undefined, "leased objects are not waiting");
    });

    it("should say what is due next also where a connection's work was called away to the front", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      const now = clock.now();
      const [first, second] = [scopeOf("a"), scopeOf("b")];
      await appendIds(store, ["later", "called"], { scope: first, lane: "repair" });
      const claims = await claimUpTo(session, 1);
      await session.settle(claims.map((claim) => retry(claim, now + 5_000)));
      const [id] = idsOf(claims);
      await appendIds(store, [id === "later" ? "called" : "later"], { scope: first }); // live
      assert.equal((await claimUpTo(session, 1)).length, 1);
      await appendIds(store, ["now"], { scope: second, lane: "repair" });
      assert.equal(await store.nextDue([ROUTE]), now);
    });

    it("should raise the fence with each lease", async ({ store, work, clock }) => {
      const session = await work();
      const generation = await appendIds(store, ["a"]);
      let last = generation;
      for (let round = 0; round < 4; round += 1) {
        const claim = await claimOnly(session);
        assert.ok(claim.fence > last, `fence ${claim.fence} should be above ${last}`);
        last = claim.fence;
        if (round === 1) last = Math.max(last, await appendIds(store, ["a"]));
        await session.settle([round === 1 ? done(claim) : retry(claim, clock.now())]);
      }
    });

    it("should count attempts as the last retry says", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const first = await claimOnly(session);
      assert.equal(first.attempt, 1);
      await session.settle([retry(first, clock.now(), { lags: 3, begun: true })]);
      const second = await claimOnly(session);
      assert.deepEqual([second.attempt, second.lags, second.begun], [2, 3, true]);
      await session.settle([retry(second, clock.now(), { attempts: second.attempt - 1, begun: true })]);
      const third = await claimOnly(session);
      assert.equal(third.attempt, 2, "what was no attempt does not count");
      await appendIds(store, ["a"]);
      await session.settle([done(third)]);
      const fresh = await claimOnly(session);
      assert.deepEqual(
        [fresh.attempt, fresh.lags, fresh.begun],
        [1, 0, false],
        "after done it is fresh work",
      );
    });

    it("should make released claims due at once, their attempt not counted", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      await session.settle([retry(await claimOnly(session), clock.now())]);
      const claim = await claimOnly(session);
      assert.equal(claim.attempt, 2);
      await session.release();
      const next = await work();
      const again = await claimOnly(next);
      assert.equal(again.attempt, 2);
      assert.ok(again.fence > claim.fence);
      assert.deepEqual(await next.settle([done(claim, indexEntry({ hash: "stale" }))]), ["lost"]);
      assert.deepEqual(await next.settle([done(again)]), ["settled"], "control: the live claim settles");
    });

    it(
      "should count the attempts of a crash, and say that a handler may have begun",
      async (test) => {
        const { store } = test;
        const session = await test.work();
        await appendIds(store, ["a"]);
        const claim = await claimOnly(session);
        assert.deepEqual([claim.attempt, claim.begun], [1, false]);
        await test.crash();
        const second = await test.reopen();
        await test.clock.advance(LEASE_MS + 1);
        const again = await claimOnly(await test.work(second));
        assert.deepEqual([again.attempt, again.begun], [2, true]);
        assert.equal(again.eventCount, 1, "its event is still there");
        assert.ok(again.fence > claim.fence);
      },
      "durable",
      "exclusive",
    );

    it("should give what the index knows along with the claim", async ({ store, work }) => {
      const session = await work();
      const index = indexEntry({ version: "s:etag", hash: "h9", rowHash: "r9", revision: 4, evidence: 12 });
      await store.record(SCOPE, [{ id: "a", index }]);
      await store.append([entry("a"), entry("b")]);
      const claims = await claimUpTo(session, 2);
      const [lookup] = await store.lookup(SCOPE, ["a"]);
      const claim = claims.find((one) => one.ref.id === "a");
      assert.deepEqual(claim?.index, index);
      assert.equal(claim?.key, lookup?.key);
      assert.equal(claims.find((one) => one.ref.id === "b")?.index, undefined);
    });
  },
};
