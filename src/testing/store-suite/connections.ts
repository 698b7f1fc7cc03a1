/**
 * Connections: which are known, what is left to do on them, and forgetting one.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connectionKey } from "../../core/store.ts";
import type { Topic } from "./fixture.ts";
import {
  appendIds,
  claimOnly,
  claimUpTo,
  dead,
  done,
  idsOf,
  indexEntry,
  makeDead,
  makePresent,
  page,
  retry,
  SCOPE,
  scopeOf,
} from "./words.ts";

const ACME = scopeOf("acme");

export const connectionTopic: Topic = {
  name: "connections and counts",
  define(it) {
    it("should know the connections of what was appended and recorded", async ({ store }) => {
      assert.deepEqual(await store.connections("crm"), []);
      await appendIds(store, ["a"], { scope: ACME });
      await appendIds(store, ["b"], { scope: { ...ACME, resource: "deal" } });
      await makePresent(store, ["c"], scopeOf("beta"));
      await appendIds(store, ["d"], { scope: { ...ACME, provider: "shop", connection: "gamma" } });
      assert.deepEqual((await store.connections("crm")).toSorted(), ["acme", "beta"]);
      assert.deepEqual(await store.connections("shop"), ["gamma"]);
    });

    it("should count work and objects by scope", async ({ store, work, clock }) => {
      const session = await work();
      const start = clock.now();
      await appendIds(store, ["a", "b", "c", "d"]);
      await clock.advance(1_000);
      await appendIds(store, ["e"], { scope: ACME });
      const claims = await session.claim({
        provider: "crm",
        resource: "contact",
        limit: 4,
        exceptConnections: ["acme"],
      });
      const [a, b, c, d] = claims;
      assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
      await session.settle([done(a), retry(b, clock.now() + 9_000), dead(c)]);
      const counts = await store.counts();
      assert.equal(counts.length, 2);
      const { lastError, ...ours } = counts.find((one) => one.connection === "default") ?? {
        lastError: undefined,
      };
      assert.deepEqual(ours, { ...SCOPE, dirty: 1, leased: 1, dead: 1, present: 1, oldestDirtySince: start });
      assert.equal(lastError?.code, "HANDLER_FAILED");
      assert.deepEqual(
        counts.find((one) => one.connection === "acme"),
        {
          ...ACME,
          dirty: 1,
          leased: 0,
          dead: 0,
          present: 0,
          oldestDirtySince: start + 1_000,
          lastError: undefined,
        },
      );
      assert.deepEqual(await store.pending(clock.now()), { due: 1, leased: 1, later: 1, dead: 1 });
      assert.deepEqual(await store.pending(clock.now() + 9_000), { due: 2, leased: 1, later: 0, dead: 1 });
    });

    it("should forget all of a connection, and nothing else", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      for (const scope of [SCOPE, ACME]) await makeDead({ store, session }, ["dead"], { scope });
      for (const scope of [SCOPE, ACME]) {
        const key = connectionKey(scope.provider, scope.connection);
        await makePresent(store, ["present"], scope);
        await appendIds(store, ["waiting"], { scope });
        await store.setCheckpoint(`${key}pass`, "1");
      }
      await store.setCheckpoint("free", "1");
      await store.pause({ provider: "crm", connection: "acme", until: null, reason: "401" });
      await store.forget("crm", "acme");

      assert.deepEqual(await store.connections("crm"), ["default"]);
      assert.deepEqual(await store.lookup(ACME, ["dead", "present", "waiting"]), [
        undefined,
        undefined,
        undefined,
      ]);
      assert.equal(await store.countPresent(ACME), 0);
      assert.deepEqual(await store.pauses(), []);
      assert.equal(await store.getCheckpoint(`${connectionKey("crm", "acme")}pass`), undefined);
      assert.deepEqual(await store.pending(clock.now()), { due: 1, leased: 0, later: 0, dead: 1 });

      assert.equal(await store.countPresent(SCOPE), 1);
      assert.equal(await store.getCheckpoint(`${connectionKey("crm", "default")}pass`), "1");
      assert.equal(await store.getCheckpoint("free"), "1");
      assert.deepEqual(idsOf(await claimUpTo(session, 10)), ["waiting"]);
    });

    it("should end the locks of a connection that is forgotten, so that its passes write nothing more", async (test) => {
      const { store } = test;
      const session = await test.work();
      const nameOf = ({ provider, connection }: typeof ACME) => `${connectionKey(provider, connection)}lock`;
      const [theirs, others] = [await test.lock(nameOf(ACME)), await test.lock(nameOf(SCOPE))];
      const mark = await store.counter(ACME);
      await store.forget("crm", "acme");
      const late = page({ scope: ACME, lock: theirs, mark, differing: ["a"] });
      await assert.rejects(session.recordPage(late), { code: "LEASE_LOST" });
      await assert.rejects(store.endPass(ACME, "pass", theirs, "1"), { code: "LEASE_LOST" });
      assert.equal(await store.lock(theirs.name, 1_000, theirs), undefined, "nor is it renewed");
      assert.deepEqual(await store.connections("crm"), []);
      const again = await test.lock(theirs.name);
      assert.ok(again.fence > theirs.fence, "fences do not start again");
      await session.recordPage(page({ lock: others, mark, differing: ["a"] })); // the control
    });

    it("should void the leases of a connection that is forgotten", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, ["a"], { scope: ACME });
      const claim = await claimOnly(session);
      await store.forget("crm", "acme");
      assert.deepEqual(await session.settle([done(claim, indexEntry())]), ["lost"]);
      assert.deepEqual(await store.connections("crm"), []);
      await appendIds(store, ["a"], { scope: ACME });
      const fresh = await claimOnly(session);
      assert.ok(fresh.fence > claim.fence, "fences do not start again");
      assert.deepEqual(await session.settle([done(claim, indexEntry())]), ["lost"]);
      assert.deepEqual(await session.settle([done(fresh, indexEntry())]), ["settled"], "control");
    });
  },
};
