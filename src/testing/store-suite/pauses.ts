/**
 * Pauses: a connection's claims are stopped until a moment, or until it is resumed.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Pause, Store } from "../../core/store.ts";
import type { Topic } from "./fixture.ts";
import { appendIds, claimOnly, claimUpTo, idsOf, ROUTE, retry, SCOPE, scopeOf } from "./words.ts";

const CONNECTION = SCOPE.connection;

function pauseUntil(until: number | null, connection = CONNECTION): Pause {
  return { provider: SCOPE.provider, connection, until, reason: "429" };
}

async function untilOf<Tx>(store: Store<Tx>): Promise<number | null | undefined> {
  return (await store.pauses()).find((pause) => pause.connection === CONNECTION)?.until;
}

export const pauseTopic: Topic = {
  name: "pauses",
  define(it) {
    it("should pass a paused connection over, in all its resources, until the pause ends", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      await appendIds(store, ["paused"]);
      await appendIds(store, ["paused deal"], { scope: { ...SCOPE, resource: "deal" } });
      await appendIds(store, ["free"], { scope: scopeOf("acme") });
      await appendIds(store, ["foreign"], { scope: { ...SCOPE, provider: "shop" } });
      await store.pause(pauseUntil(clock.now() + 5_000));
      assert.deepEqual(idsOf(await claimUpTo(session, 10)), ["free"]);
      assert.deepEqual(await session.claim({ provider: "crm", resource: "deal", limit: 10 }), []);
      const foreign = await session.claim({ provider: "shop", resource: "contact", limit: 10 });
      assert.deepEqual(idsOf(foreign), ["foreign"], "the connection of another provider is another one");
      await clock.advance(4_999);
      assert.deepEqual(await claimUpTo(session, 10), []);
      await clock.advance(1);
      assert.deepEqual(idsOf(await claimUpTo(session, 10)), ["paused"]);
    });

    it("should hold back what is appended or becomes due during the pause", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["retried"]);
      await session.settle([retry(await claimOnly(session), clock.now() + 1_000)]);
      await store.pause(pauseUntil(clock.now() + 5_000));
      await appendIds(store, ["appended"]);
      await clock.advance(2_000);
      assert.deepEqual(await claimUpTo(session, 10), []);
      await clock.advance(3_000);
      assert.deepEqual(idsOf(await claimUpTo(session, 10)).toSorted(), ["appended", "retried"]);
    });

    it("should leave open claims to their holders", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await store.pause(pauseUntil(null));
      assert.deepEqual(await session.settle([retry(claim, clock.now())]), ["settled"]);
      assert.deepEqual(await claimUpTo(session, 10), []);
    });

    it("should resume, whatever the pause", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      await store.pause(pauseUntil(null));
      await clock.advance(1_000_000_000);
      assert.deepEqual(await claimUpTo(session, 10), [], "paused until resumed");
      await store.resume(SCOPE.provider, "another");
      assert.deepEqual(await claimUpTo(session, 10), [], "control: another connection was resumed");
      await store.resume(SCOPE.provider, CONNECTION);
      assert.deepEqual(idsOf(await claimUpTo(session, 10)), ["a"]);
      assert.deepEqual(await store.pauses(), []);
    });

    it("should not let a pause shorten the one in force", async ({ store, clock }) => {
      const now = clock.now();
      await store.pause(pauseUntil(now + 5_000));
      await store.pause({ ...pauseUntil(now + 1_000), reason: "shorter" });
      assert.deepEqual(await store.pauses(), [pauseUntil(now + 5_000)]);
      await store.pause({ ...pauseUntil(now + 9_000), reason: "longer" });
      assert.deepEqual(await store.pauses(), [{ ...pauseUntil(now + 9_000), reason: "longer" }]);
      await store.pause(pauseUntil(null));
      await store.pause(pauseUntil(now + 20_000));
      assert.equal(await untilOf(store), null, "no moment is later than until resumed");
    });

    it("should list the pauses in force only", async ({ store, clock }) => {
      assert.deepEqual(await store.pauses(), []);
      await store.pause(pauseUntil(clock.now() + 5_000));
      await store.pause(pauseUntil(null, "acme"));
      assert.equal((await store.pauses()).length, 2);
      await clock.advance(5_001);
      assert.deepEqual(await store.pauses(), [pauseUntil(null, "acme")]);
      await store.pause(pauseUntil(clock.now() + 1_000));
      assert.equal((await store.pauses()).length, 2, "one that has ended can be followed by any other");
    });

    it("should not count paused work as the next due, nor as due before the pause ends", async ({
      store,
      clock,
    }) => {
      const now = clock.now();
      await appendIds(store, ["a", "b"]);
      assert.equal(await store.nextDue([ROUTE]), now);
      assert.deepEqual(await store.pending(now), { due: 2, leased: 0, later: 0, dead: 0 });
      await store.pause(pauseUntil(null));
      assert.equal(await store.nextDue([ROUTE]), undefined);
      assert.deepEqual(await store.pending(now + 1_000_000), { due: 0, leased: 0, later: 2, dead: 0 });
      await store.resume(SCOPE.provider, CONNECTION);
      await store.pause(pauseUntil(now + 5_000));
      assert.deepEqual(await store.pending(now + 4_000), { due: 0, leased: 0, later: 2, dead: 0 });
      assert.deepEqual(await store.pending(now + 6_000), { due: 2, leased: 0, later: 0, dead: 0 });
    });
  },
};
