/**
 * Reopening: what a durable store has answered for is there when it is opened again.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  claimUpTo,
  done,
  entry,
  indexEntry,
  makeDead,
  makePresent,
  page,
  PASS,
  retry,
  SCOPE,
} from "./words.ts";

export const reopeningTopic: Topic = {
  name: "reopening",
  define(it) {
    it("should close twice without complaint", async ({ store }) => {
      await appendIds(store, ["a"]);
      await store.close();
      await store.close();
    });

    it(
      "should keep pending work, its events and its attempts",
      async (test) => {
        const session = await test.work();
        const event = entry("a", {
          eventId: "1",
          hint: "delete",
          version: 8,
          force: true,
          lane: "repair",
          data: [1],
        });
        await test.store.append([event]);
        const due = test.clock.now() + 5_000;
        await session.settle([retry(await claimOnly(session), due, { lags: 2, begun: true })]);
        await session.release();
        const second = await test.restart();
        assert.equal(
          await second.nextDue([{ provider: "crm", resource: "contact" }]),
          due,
          "the backoff is kept",
        );
        await test.clock.advance(5_000);
        const claim = await claimOnly(await test.work(second));
        assert.deepEqual(claim.events, [event.event]);
        assert.deepEqual([claim.attempt, claim.lags, claim.begun, claim.forced], [2, 2, true, true]);
        assert.deepEqual([claim.hint, claim.hintVersion, claim.lane], ["delete", "n:8", "repair"]);
      },
      "durable",
    );

    it(
      "should keep the ledger",
      async (test) => {
        const event = entry("a", { eventId: "1" });
        const [first] = await test.store.append([event]);
        const second = await test.restart();
        const results = await second.append([event, entry("a", { eventId: "2" })]);
        assert.deepEqual(results[0], { status: "duplicate", generation: first?.generation });
        assert.equal(results[1]?.status, "accepted", "control");
      },
      "durable",
    );

    it(
      "should keep the index, and what a pass has seen",
      async (test) => {
        const { store } = test;
        const session = await test.work();
        await makePresent(store, ["a", "b"]);
        await appendIds(store, ["c"]);
        const index = indexEntry({ hash: "c" });
        await session.settle([done(await claimOnly(session), index)]);
        const before = await store.lookup(SCOPE, ["a", "b", "c"]);
        const lock = await test.lock("pass");
        const mark = await store.counter(SCOPE);
        await session.recordPage(page({ lock, mark, seen: ["a"], checkpoint: "page 1" }));
        await session.release();
        const second = await test.restart();
        assert.deepEqual(await second.lookup(SCOPE, ["a", "b", "c"]), before);
        assert.equal(await second.countPresent(SCOPE), 3);
        assert.equal(await second.getCheckpoint(PASS), "page 1");
        const unseen = await second.unseen(SCOPE, PASS, { mark, after: undefined, limit: 10 });
        assert.deepEqual(unseen.map((one) => one.id).toSorted(), ["b", "c"]);
        assert.ok((await second.lock("pass", 1_000, lock)) !== undefined, "the lock is still its holder's");
      },
      "durable",
    );

    it(
      "should keep dead letters, pauses, checkpoints and connections",
      async (test) => {
        const { store } = test;
        const session = await test.work();
        await makeDead({ store, session }, ["a"], { begun: true });
        await store.pause({ provider: "crm", connection: "paused", until: null, reason: "401" });
        await store.setCheckpoint("cursor", "17");
        await session.release();
        const [counts, letters] = [
          await store.counts(),
          await store.listDead({}, { cursor: undefined, limit: 9 }),
        ];
        const second = await test.restart();
        assert.deepEqual(await second.listDead({}, { cursor: undefined, limit: 9 }), letters);
        assert.deepEqual(await second.counts(), counts);
        assert.equal((await second.pauses()).length, 1);
        assert.equal(await second.getCheckpoint("cursor"), "17");
        assert.ok((await second.connections("crm")).includes("default"));
      },
      "durable",
    );

    it(
      "should never start its counter again",
      async (test) => {
        const { store } = test;
        const session = await test.work();
        await appendIds(store, ["a"]);
        await session.settle([done(await claimOnly(session), null)]);
        const lock = await test.lock("pass");
        await session.release();
        const before = await store.counter(SCOPE);
        const second = await test.restart();
        assert.ok((await second.counter(SCOPE)) >= before, "the counter survives");
        const [result] = await second.append([entry("b")]);
        assert.ok((result?.generation ?? 0) > before);
        const claim = await claimOnly(await test.work(second));
        assert.ok(claim.fence > before);
        await second.unlock(lock);
        const next = await second.lock("pass", 1_000);
        assert.ok(next !== undefined && next.fence > lock.fence, "nor the fences of locks");
      },
      "durable",
    );

    it(
      "should keep all that was answered for when it crashes",
      async (test) => {
        const { store } = test;
        const session = await test.work();
        await appendIds(store, ["waiting", "leased", "handled"]);
        const claims = await claimUpTo(session, 3);
        for (const claim of claims) {
          if (claim.ref.id === "handled")
            await session.settle([done(claim, indexEntry({ hash: "handled" }))]);
          if (claim.ref.id === "waiting") await session.settle([retry(claim, test.clock.now())]);
        }
        await test.crash();
        const second = await test.reopen();
        await test.clock.advance(120_000);
        const next = await test.work(second);
        assert.equal((await second.lookup(SCOPE, ["handled"]))[0]?.index?.hash, "handled");
        const again = await claimUpTo(next, 10);
        assert.deepEqual(again.map((claim) => claim.ref.id).toSorted(), ["leased", "waiting"]);
        for (const claim of claims) {
          assert.deepEqual(await next.settle([done(claim, indexEntry({ hash: "stale" }))]), ["lost"]);
        }
        assert.equal((await second.lookup(SCOPE, ["handled"]))[0]?.index?.hash, "handled");
        await appendIds(second, ["handled"]);
        await claimId(next, "handled");
      },
      "durable",
    );
  },
};
