/**
 * What a claim hands on of the appends that led to it: events, hint and version, force.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { StoredEvent } from "../../core/event.ts";
import type { Claim } from "../../core/store.ts";
import { EVENT_TTL_MS, MAX_EVENTS, type Topic } from "./fixture.ts";
import { appendIds, claimOnly, dead, done, entry, retry, ROUTE } from "./words.ts";

const eventIds = (events: readonly StoredEvent[]) => events.map((event) => event.id);

export const eventTopic: Topic = {
  name: "events, hints and force",
  define(it) {
    it("should hand events on as they were given, oldest first", async ({ store, work }) => {
      const data = { amount: 12.5, tags: ["ä", null], nested: { ok: true } };
      const first = entry("a", {
        eventId: "1",
        hint: "upsert",
        version: "2030-01-01T00:00:00Z",
        data,
        receivedAt: 5,
      });
      const second = entry("a", { eventId: "2", origin: "queue" });
      await store.append([first]);
      await store.append([second]);
      const claim = await claimOnly(await work());
      assert.deepEqual(claim.events, [first.event, second.event]);
      assert.equal(claim.eventCount, 2);
    });

    it("should have them in copies of a claim as in the claim itself, whenever they are made", async (test) => {
      const given = entry("a", { eventId: "1", data: { ok: true } });
      await test.store.append([given]);
      const claim = await claimOnly(await test.work());
      assert.deepEqual((JSON.parse(JSON.stringify(claim)) as Claim).events, [given.event]);
      assert.deepEqual({ ...claim }.events, [given.event]);
      assert.equal(claim.events, claim.events);
    });

    it("should hand on only the newest, and count them all", async ({ store, work }) => {
      const ids = Array.from({ length: MAX_EVENTS + 3 }, (_, number) => `e${number}`);
      await store.append(ids.slice(0, 4).map((eventId) => entry("a", { eventId })));
      await store.append(ids.slice(4).map((eventId) => entry("a", { eventId })));
      const claim = await claimOnly(await work());
      assert.deepEqual(eventIds(claim.events), ids.slice(-MAX_EVENTS));
      assert.equal(claim.eventCount, MAX_EVENTS + 3);
    });

    it("should make an object dirty without any event", async ({ store, work }) => {
      await appendIds(store, ["a"], { event: false, origin: "trigger" });
      const claim = await claimOnly(await work());
      assert.deepEqual(claim.events, []);
      assert.equal(claim.eventCount, 0);
      assert.equal(claim.origin, "trigger");
    });

    it("should forget the events that a claim has seen once it is done, and keep later ones", async (test) => {
      const { store } = test;
      const session = await test.work();
      await store.append([entry("a", { eventId: "seen" })]);
      const claim = await claimOnly(session);
      await store.append([entry("a", { eventId: "later" })]);
      await session.settle([done(claim)]);
      const next = await claimOnly(session);
      assert.deepEqual(eventIds(next.events), ["later"]);
      assert.equal(next.eventCount, 1);
      await session.settle([done(next)]);
      await store.append([entry("a", { eventId: "last" })]);
      assert.deepEqual(eventIds((await claimOnly(session)).events), ["last"]);
    });

    it("should keep events over a retry and over death", async ({ store, work, clock }) => {
      const session = await work();
      await store.append([entry("a", { eventId: "1", hint: "delete", version: 4 })]);
      const first = await claimOnly(session);
      await store.append([entry("a", { eventId: "2" })]);
      await session.settle([retry(first, clock.now())]);
      const second = await claimOnly(session);
      assert.deepEqual(eventIds(second.events), ["1", "2"]);
      assert.deepEqual([second.hint, second.hintVersion, second.eventCount], ["delete", "n:4", 2]);
      await session.settle([dead(second)]);
      await store.append([entry("a", { eventId: "3" })]);
      const third = await claimOnly(session);
      assert.deepEqual(eventIds(third.events), ["1", "2", "3"]);
      assert.equal(third.eventCount, 3);
    });

    it("should drop events that are past their time to live, but neither their number nor the work", async (test) => {
      const { store, clock } = test;
      await store.append([entry("a", { eventId: "old", hint: "delete", version: 3 })]);
      await clock.advance(EVENT_TTL_MS - 1_000);
      await store.append([entry("a", { eventId: "young" })]);
      await clock.advance(2_000);
      await test.sweepAll();
      const claim = await claimOnly(await test.work());
      assert.deepEqual(eventIds(claim.events), ["young"]);
      assert.equal(claim.eventCount, 2);
      assert.deepEqual([claim.hint, claim.hintVersion], ["delete", "n:3"]);
    });

    it("should drop them in time also where something else of the object is to be forgotten later (I10)", async (test) => {
      const { store, clock } = test;
      const session = await test.work();
      // One of which nothing is known but that it was handled, and one that is to rest for long.
      await appendIds(store, ["handled", "resting"], { event: false });
      for (const claim of await session.claim({ ...ROUTE, limit: 2 })) {
        const notBefore = claim.ref.id === "resting" ? clock.now() + EVENT_TTL_MS + 5_000 : undefined;
        await session.settle([done(claim, null, notBefore)]);
      }
      for (const id of ["handled", "resting"]) await store.append([entry(id, { eventId: `of ${id}` })]);
      await session.release();
      await clock.advance(EVENT_TTL_MS + 1_000);
      await test.sweepAll();
      await clock.advance(5_000);
      const claims = await (await test.work()).claim({ ...ROUTE, limit: 2 });
      assert.deepEqual(
        claims.map(({ eventCount, events }) => [eventCount, eventIds(events)]),
        [
          [1, []],
          [1, []],
        ],
      );
    });

    it("should merge to the hint of the highest version, in whatever order they come", async ({
      store,
      work,
    }) => {
      await store.append([
        entry("a", { hint: "upsert", version: 9 }),
        entry("a", { hint: "delete", version: 10 }),
        entry("b", { hint: "delete", version: 10 }),
        entry("b", { hint: "upsert", version: 9 }),
      ]);
      await store.append([entry("b", { hint: "upsert", version: 8 })]);
      const session = await work();
      for (const claim of await session.claim({ provider: "crm", resource: "contact", limit: 2 })) {
        assert.deepEqual([claim.hint, claim.hintVersion], ["delete", "n:10"], claim.ref.id);
      }
    });

    it("should merge to the latest hint where no version orders them, and keep the version that was announced", async (test) => {
      const { store } = test;
      await store.append([
        entry("a", { hint: "upsert" }),
        entry("a", { hint: "delete" }),
        entry("b", { hint: "upsert", version: 3 }),
        entry("b", { hint: "delete" }),
        entry("c", { hint: "delete" }),
        entry("c", { hint: "upsert", version: 3 }),
      ]);
      const session = await test.work();
      const claims = await session.claim({ provider: "crm", resource: "contact", limit: 3 });
      assert.deepEqual(Object.fromEntries(claims.map((c) => [c.ref.id, [c.hint, c.hintVersion]])), {
        a: ["delete", undefined],
        b: ["delete", "n:3"],
        c: ["upsert", "n:3"],
      });
    });

    it("should merge only over what came since the last settling", async ({ store, work }) => {
      const session = await work();
      await store.append([entry("a", { hint: "delete", version: 9 })]);
      const claim = await claimOnly(session);
      await store.append([entry("a", { hint: "upsert", version: 2 })]);
      await session.settle([done(claim)]);
      const next = await claimOnly(session);
      assert.deepEqual([next.hint, next.hintVersion], ["upsert", "n:2"]);
      await session.settle([done(next)]);
      await appendIds(store, ["a"]);
      const last = await claimOnly(session);
      assert.deepEqual([last.hint, last.hintVersion], [undefined, undefined]);
    });

    it("should merge over the events that the cap leaves out", async ({ store, work }) => {
      await store.append([entry("a", { hint: "delete", version: 50 })]);
      for (let version = 1; version <= MAX_EVENTS + 1; version += 1) {
        await store.append([entry("a", { hint: "upsert", version })]);
      }
      const claim = await claimOnly(await work());
      assert.deepEqual([claim.hint, claim.hintVersion], ["delete", "n:50"]);
    });

    it("should keep force until it is done, and no longer", async ({ store, work, clock }) => {
      const session = await work();
      await appendIds(store, ["a"], { force: true });
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      assert.equal(claim.forced, true, "a later append takes no force away");
      await session.settle([retry(claim, clock.now())]);
      const again = await claimOnly(session);
      assert.equal(again.forced, true, "a retry does not spend it");
      await appendIds(store, ["a"]);
      await session.settle([done(again)]);
      assert.equal((await claimOnly(session)).forced, false, "done spends it");
    });

    it("should keep force that was appended after the claim", async ({ store, work }) => {
      const session = await work();
      await appendIds(store, ["a"], { force: true });
      const claim = await claimOnly(session);
      await appendIds(store, ["a"], { force: true });
      await session.settle([done(claim)]);
      const next = await claimOnly(session);
      assert.equal(next.forced, true);
      await session.settle([done(next)]);
      await appendIds(store, ["a"]);
      assert.equal((await claimOnly(session)).forced, false);
    });
  },
};
