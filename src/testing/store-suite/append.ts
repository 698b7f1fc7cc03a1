/**
 * Appending: what is new, what is a duplicate, and when the object becomes due.
 *
 * @module
 */

import assert from "node:assert/strict";
import { WHOLE_RESOURCE } from "../../core/event.ts";
import { EVENT_TTL_MS, type Topic } from "./fixture.ts";
import {
  appendIds,
  claimOnly,
  claimUpTo,
  dead,
  done,
  entry,
  expectNothingDue,
  idsOf,
  ROUTE,
  refOf,
  retry,
  SCOPE,
  scopeOf,
} from "./words.ts";

export const appendTopic: Topic = {
  name: "append",
  define(it) {
    it("should make a new object due at once", async ({ store, work, clock }) => {
      const session = await work();
      await expectNothingDue(session, "nothing was appended yet");
      const [result] = await store.append([entry("a", { eventId: "1", hint: "upsert", version: 7 })]);
      assert.equal(result?.status, "accepted");
      assert.ok(result.generation >= 1, "the counter starts at 1");
      assert.equal(await store.nextDue([ROUTE]), clock.now());
      const claim = await claimOnly(session);
      assert.deepEqual(claim.ref, refOf("a"));
      assert.equal(claim.generation, result.generation);
      assert.equal(claim.origin, "webhook");
      assert.equal(claim.lane, "live");
      assert.equal(claim.dirtySince, clock.now());
      assert.equal(claim.index, undefined);
      assert.equal(claim.forced, false);
      assert.equal(claim.lags, 0);
    });

    it("should answer with one result per entry, in their order, each with a later generation", async ({
      store,
    }) => {
      const results = await store.append([
        entry("a"),
        entry("b"),
        entry("a"),
        entry("c", { scope: scopeOf("acme") }),
      ]);
      assert.deepEqual(
        results.map((result) => result.status),
        ["accepted", "accepted", "accepted", "accepted"],
      );
      assert.ok(
        (results[2]?.generation ?? 0) > (results[0]?.generation ?? 0),
        "the second append of a is later",
      );
      assert.deepEqual(await store.append([]), []);
    });

    it("should take an event id once, in one call and in several", async ({ store, work }) => {
      const first = await store.append([entry("a", { eventId: "1" }), entry("a", { eventId: "1" })]);
      assert.deepEqual(
        first.map((result) => result.status),
        ["accepted", "duplicate"],
      );
      const again = await store.append([entry("a", { eventId: "1" }), entry("a", { eventId: "2" })]);
      assert.deepEqual(
        again.map((result) => result.status),
        ["duplicate", "accepted"],
      );
      const claim = await claimOnly(await work());
      assert.equal(claim.eventCount, 2, "duplicates add no event");
      assert.equal(claim.generation, again[1]?.generation);
    });

    it("should not take equal event ids of different objects or connections for duplicates", async ({
      store,
    }) => {
      const results = await store.append([
        entry("a", { eventId: "1" }),
        entry("b", { eventId: "1" }),
        entry("a", { eventId: "1", scope: scopeOf("acme") }),
        entry("a", { eventId: "1" }),
      ]);
      assert.deepEqual(
        results.map((result) => result.status),
        ["accepted", "accepted", "accepted", "duplicate"],
      );
    });

    it("should never take an entry without a dedupe key for a duplicate", async ({ store, work }) => {
      const results = await store.append([entry("a"), entry("a")]);
      const again = await store.append([entry("a")]);
      assert.deepEqual(
        [...results, ...again].map((result) => result.status),
        ["accepted", "accepted", "accepted"],
      );
      assert.equal((await claimOnly(await work())).eventCount, 3);
    });

    it("should answer a duplicate with the generation that the pending object is at", async ({
      store,
      work,
    }) => {
      const event = entry("a", { eventId: "1" });
      await store.append([event]);
      const later = await appendIds(store, ["a"]);
      assert.deepEqual(await store.append([event]), [{ status: "duplicate", generation: later }]);
      const session = await work();
      const claim = await claimOnly(session);
      assert.equal((await store.append([event]))[0]?.generation, later, "a leased object is pending");
      await session.settle([done(claim)]);
      assert.deepEqual(await store.append([event]), [{ status: "duplicate", generation: 0 }]);
      await expectNothingDue(session, "a duplicate makes no work");
    });

    it("should keep an event id for its time to live, and forget it by sweeping", async (test) => {
      const { store, clock } = test;
      await store.append([entry("a", { eventId: "old" })]);
      await clock.advance(EVENT_TTL_MS - 1_000);
      await store.append([entry("a", { eventId: "young" })]);
      await test.sweepAll();
      assert.equal(
        (await store.append([entry("a", { eventId: "old" })]))[0]?.status,
        "duplicate",
        "not expired yet",
      );
      await clock.advance(2_000);
      await test.sweepAll();
      assert.equal((await store.append([entry("a", { eventId: "old" })]))[0]?.status, "accepted", "expired");
      assert.equal(
        (await store.append([entry("a", { eventId: "young" })]))[0]?.status,
        "duplicate",
        "not expired yet",
      );
    });

    it("should not shorten a backoff, and keep the attempts of one", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const due = clock.now() + 10_000;
      await session.settle([retry(await claimOnly(session), due)]);
      await appendIds(store, ["a"]);
      await clock.advance(9_000);
      await expectNothingDue(session, "an event must not shorten a backoff");
      assert.equal(await store.nextDue([ROUTE]), due);
      await clock.advance(1_000);
      const claim = await claimOnly(session);
      assert.equal(claim.attempt, 2);
      assert.equal(
        claim.eventCount,
        2,
        "the event of before the retry, and the one that came while it waited",
      );
    });

    it("should leave a leased object with its holder", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      await appendIds(store, ["a"]);
      await expectNothingDue(session, "the object is leased");
      assert.deepEqual(await session.settle([done(claim)]), ["dirty"]);
      assert.deepEqual(idsOf([await claimOnly(session)]), ["a"]);
    });

    it("should revive a dead object as fresh work, due now", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"]);
      await session.settle([retry(await claimOnly(session), clock.now())]);
      await session.settle([dead(await claimOnly(session), { begun: true })]);
      await expectNothingDue(session, "a dead object is not claimed");
      const generation = await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      assert.equal(claim.attempt, 1, "fresh work has no attempts");
      assert.equal(claim.generation, generation);
      assert.equal(claim.begun, true, "that a handler may have begun is not forgotten");
      assert.equal((await store.pending(clock.now())).dead, 0);
    });

    it("should move an object from the repair lane to the live one, and not back", async ({
      store,
      work,
    }) => {
      const session = await work();
      await appendIds(store, ["a", "b", "c"], { lane: "repair", origin: "reconcile" });
      await appendIds(store, ["b"]);
      await appendIds(store, ["b"], { lane: "repair" });
      const claims = await claimUpTo(session, 10);
      assert.deepEqual(idsOf(claims).slice(0, 1), ["b"], "live work goes first");
      assert.deepEqual(Object.fromEntries(claims.map((claim) => [claim.ref.id, claim.lane])), {
        a: "repair",
        b: "live",
        c: "repair",
      });
      assert.equal(
        claims[0]?.origin,
        "reconcile",
        "the origin is that of the append that made the object dirty",
      );
    });

    it("should move an object to the live lane that is appended while it is leased", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await appendIds(store, ["a"], { lane: "repair" });
      const claim = await claimOnly(session);
      await appendIds(store, ["a"]);
      await session.settle([retry(claim, clock.now())]);
      assert.equal((await claimOnly(session)).lane, "live");
    });

    it("should queue a resource as a whole like an object that no index holds", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, [WHOLE_RESOURCE]);
      await appendIds(store, [WHOLE_RESOURCE]);
      const claim = await claimOnly(session);
      assert.equal(claim.ref.id, WHOLE_RESOURCE);
      assert.equal(claim.eventCount, 2);
      assert.deepEqual(await session.settle([done(claim, null)]), ["settled"]);
      assert.equal(await store.countPresent(SCOPE), 0);
    });

    it("should take overlapping calls for one object, and lose none", async ({ store, work }) => {
      const calls = Array.from({ length: 20 }, (_, call) =>
        store.append([entry("a", { eventId: `${call % 10}` })]),
      );
      const statuses = (await Promise.all(calls)).flat().map((result) => result.status);
      assert.equal(statuses.filter((status) => status === "accepted").length, 10, "each of ten ids once");
      assert.equal((await claimOnly(await work())).eventCount, 10);
    });
  },
};
