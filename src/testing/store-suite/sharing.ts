/**
 * Sharing: what several instances over the same data, each with its sessions, owe to each other.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RateBudget, Store, WorkSession } from "../../core/store.ts";
import { seededRandom } from "../seeded-random.ts";
import { type DefineTest, LEASE_MS, type StoreTest, type Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  claimUpTo,
  done,
  entry,
  expectNothingDue,
  idsOf,
  indexEntry,
  inTime,
  page,
  rejectsWith,
  ROUTE,
  SCOPE,
  scopeOf,
  sortedIds,
} from "./words.ts";

const BUDGET: RateBudget = { provider: "crm", connection: "default", requests: 10, perMs: 1_000 };

/** Lets the lease of every session run out but that of one, which beats on. */
async function outlive<Tx>(test: StoreTest<Tx>, session: WorkSession<Tx>): Promise<void> {
  for (let beat = 0; beat < 4; beat += 1) {
    await test.clock.advance(LEASE_MS / 3);
    assert.equal(await session.heartbeat(), true, "a session that beats lives on");
  }
}

async function take<Tx>(store: Store<Tx>, wanted: number, budget = BUDGET): Promise<number> {
  const grant = await store.takePermits?.(budget, wanted);
  assert.ok(grant !== undefined, "a shared store hands out permits");
  const { permits, retryInMs } = grant;
  assert.ok(permits >= 0 && permits <= wanted, `${permits} permits of ${wanted} that were wanted`);
  if (permits < wanted)
    assert.ok(retryInMs > 0 && retryInMs <= budget.perMs, `asking again in ${retryInMs} ms`);
  else assert.equal(retryInMs, 0);
  return permits;
}

export const sharingTopic: Topic = {
  name: "sharing",
  define<Tx>(it: DefineTest<Tx>) {
    it(
      "should show one instance what another appended, with duplicates over both",
      async (test) => {
        const other = await test.reopen();
        const event = entry("a", { eventId: "1" });
        const [first] = await test.store.append([event]);
        assert.deepEqual(await other.append([event]), [
          { status: "duplicate", generation: first?.generation },
        ]);
        const [second] = await other.append([entry("a", { eventId: "2" })]);
        assert.ok((second?.generation ?? 0) > (first?.generation ?? 0), "one counter for both");
        assert.ok((await test.store.counter(SCOPE)) >= (second?.generation ?? 0));
        const claim = await claimOnly(await test.work());
        assert.deepEqual([claim.eventCount, claim.generation], [2, second?.generation]);
        await expectNothingDue(await test.work(other), "what one has leased is not the other's");
      },
      "reopen",
      "shared",
    );

    it(
      "should let a session settle under an append of another instance, which makes it dirty",
      async (test) => {
        const other = await test.reopen();
        const [one, two] = [await test.work(), await test.work(other)];
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(one);
        await appendIds(other, ["a"]);
        assert.deepEqual(await one.settle([done(claim)]), ["dirty"]);
        const next = await claimOnly(two);
        assert.ok(next.fence > claim.fence);
        assert.deepEqual(await two.settle([done(next)]), ["settled"]);
      },
      "reopen",
      "shared",
    );

    it(
      "should take the work from a session that gives no sign of life, which finds out",
      async (test) => {
        const other = await test.reopen();
        const [silent, alive] = [await test.work(), await test.work(other)];
        await appendIds(test.store, ["a"]);
        const old = await claimOnly(silent);
        const lock = await test.lock("pass", LEASE_MS * 10);
        await outlive(test, alive);
        const claim = await claimOnly(alive);
        assert.deepEqual([claim.attempt, claim.begun], [2, true], "it counts as a crash");
        assert.ok(claim.fence > old.fence);

        assert.equal(await silent.heartbeat(), false);
        await rejectsWith("STORE_LOST", claimUpTo(silent, 1), "its session was taken over");
        const late = page({ lock, mark: await test.store.counter(SCOPE), differing: ["b"] });
        await rejectsWith("STORE_LOST", silent.recordPage(late), "its session was taken over");
        assert.deepEqual(await silent.settle([done(old, indexEntry({ hash: "stale" }))]), ["lost"]);
        await silent.release(); // nothing is left to give up, and nothing of others' is given up
        assert.deepEqual(await alive.settle([done(claim, indexEntry({ hash: "live" }))]), ["settled"]);
        assert.equal((await other.lookup(SCOPE, ["a"]))[0]?.index?.hash, "live");
        assert.equal((await other.lookup(SCOPE, ["b"]))[0], undefined, "nothing of the late page is there");

        const again = await test.work();
        await appendIds(other, ["c"]);
        await claimId(again, "c"); // control: the same instance works on with a session of its own
      },
      "reopen",
      "shared",
    );

    it(
      "should leave its work to a session that beats, however long it takes",
      async (test) => {
        const other = await test.reopen();
        const [slow, idle] = [await test.work(), await test.work(other)];
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(slow);
        for (let beat = 0; beat < 9; beat += 1) {
          await test.clock.advance(LEASE_MS / 3);
          assert.deepEqual([await slow.heartbeat(), await idle.heartbeat()], [true, true]);
        }
        await expectNothingDue(idle, "its holder lives");
        assert.deepEqual(await slow.settle([done(claim)]), ["settled"]);
      },
      "reopen",
      "shared",
    );

    it(
      "should give up the leases of the session that is released, and no others",
      async (test) => {
        const other = await test.reopen();
        const [one, two] = [await test.work(), await test.work(other)];
        await appendIds(test.store, ["a", "b"]);
        const [first] = await claimUpTo(one, 1);
        const [second] = await claimUpTo(two, 1);
        assert.ok(first !== undefined && second !== undefined);
        await one.release();
        const again = await claimOnly(two);
        assert.deepEqual([again.ref.id, again.attempt], [first.ref.id, 1]);
        assert.deepEqual(await one.settle([done(first)]), ["lost"]);
        await rejectsWith("STORE_LOST", claimUpTo(one, 1), "it was released");
        assert.deepEqual(await two.settle([done(second), done(again)]), ["settled", "settled"]);
      },
      "reopen",
      "shared",
    );

    it(
      "should hold locks, pauses and checkpoints against all instances",
      async (test) => {
        const other = await test.reopen();
        const lock = await test.lock("pass", LEASE_MS);
        assert.equal(await other.lock("pass", LEASE_MS), undefined);
        assert.ok(
          await other.lock("pass", LEASE_MS, lock),
          "control: with the lock in hand, any may renew it",
        );
        await test.store.pause({ ...BUDGET, until: null, reason: "401" });
        await appendIds(other, ["paused"]);
        await appendIds(other, ["free"], { scope: scopeOf("acme") });
        assert.deepEqual(idsOf(await claimUpTo(await test.work(other), 10)), ["free"]);
        await test.store.setCheckpoint("cursor", "17");
        assert.equal(await other.getCheckpoint("cursor"), "17");
      },
      "reopen",
      "shared",
    );

    it(
      "should append to a connection anew that another instance has forgotten",
      async (test) => {
        const other = await test.reopen();
        await appendIds(test.store, ["a"]);
        await appendIds(test.store, ["b"]);
        await other.forget("crm", "default");
        await appendIds(test.store, ["c"]);
        assert.deepEqual(await other.lookup(SCOPE, ["a", "b"]), [undefined, undefined]);
        assert.deepEqual(sortedIds(await claimUpTo(await test.work(other), 10)), ["c"]);
      },
      "reopen",
      "shared",
    );

    it(
      "should give out no more permits in any span than the budget has, over all instances",
      async (test) => {
        const stores = [test.store, await test.reopen()];
        const asked = await Promise.all(
          Array.from({ length: 8 }, (_, i) => take(stores[i % 2] as Store<Tx>, 3)),
        );
        assert.equal(
          asked.reduce((sum, permits) => sum + permits, 0),
          10,
          "all of the budget, and no more",
        );
        await test.clock.advance(999);
        assert.equal(await take(test.store, 1), 0, "the span is not over");
        await test.clock.advance(1);
        assert.equal(await take(stores[1] as Store<Tx>, 4), 4, "now it is");
        await test.clock.advance(500);
        assert.equal(await take(test.store, 10), 6);
        await test.clock.advance(500);
        assert.equal(await take(test.store, 10), 4, "each permit comes back when its own span is over");
      },
      "reopen",
      "shared",
    );

    it(
      "should keep the budgets of connections apart, and say when to ask again",
      async (test) => {
        const { store } = test;
        assert.equal(await take(store, 10), 10);
        assert.equal(await take(store, 10, { ...BUDGET, connection: "acme" }), 10);
        assert.equal(await take(store, 10, { ...BUDGET, provider: "shop" }), 10);
        const grant = await store.takePermits?.(BUDGET, 1);
        assert.equal(grant?.permits, 0);
        await test.clock.advance(grant?.retryInMs ?? 0);
        assert.ok((await take(store, 1)) === 1, "when it said, there are permits");
      },
      "shared",
    );

    it(
      "should give out no more in any span, wherever it begins, whoever asks for how long",
      async (test) => {
        const stores = [test.store, await test.reopen()];
        const random = seededRandom(7);
        const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
        for (const requests of [1, 5, 200]) {
          const budget = { ...BUDGET, connection: `of ${requests}`, requests };
          const given: { readonly at: number; readonly until: number; readonly permits: number }[] = [];
          let wanted = 0;
          for (let turn = 0; turn < 150; turn += 1) {
            await test.clock.advance(pick([0, 1, 9, 40, 160, 990]));
            const perMs = pick([1_000, 1_000, 1_050, 1_700]);
            const count = Math.ceil(random() * requests);
            const permits = await take(pick(stores), count, { ...budget, perMs });
            const at = test.clock.now();
            given.push({ at, until: at + perMs, permits });
            wanted += count;
            // All that count now were given in one span that ends now, so this is every span that there is.
            const counting = given.filter(({ until }) => until > at);
            const used = counting.reduce((sum, one) => sum + one.permits, 0);
            assert.ok(used <= requests, `${used} of ${requests} permits count at once`);
          }
          const all = given.reduce((sum, { permits }) => sum + permits, 0);
          assert.ok(
            all < wanted && all > 10 * requests,
            "control: many were given, and not all that were wanted",
          );
        }
      },
      "reopen",
      "shared",
    );

    it(
      "should count permits no longer than their span when the clock is set back",
      async (test) => {
        assert.equal(await take(test.store, 10), 10);
        test.clock.setWallClock(test.clock.now() - 3_600_000);
        assert.equal(await take(test.store, 1), 0, "they count, whatever the clock says");
        await test.clock.advance(1_100);
        assert.equal(await take(test.store, 1), 1, "but no longer than they would have");
      },
      "shared",
    );

    it(
      "should hold a budget of many permits too",
      async (test) => {
        const many = { ...BUDGET, requests: 1_000 };
        let given = 0;
        for (let step = 0; step < 100; step += 1) {
          given += await take(test.store, 7, many);
          await test.clock.advance(7);
        }
        assert.equal(given, 700, "control: below the budget, all are given");
        assert.ok((await take(test.store, 1_000, many)) <= 300);
        await test.clock.advance(2_000);
        assert.equal(await take(test.store, 2_000, many), 1_000);
      },
      "shared",
    );

    it(
      "should tell subscribers of work that another instance brings, until they undo it",
      async (test) => {
        const { store } = test;
        const other = await test.reopen();
        const listen = () => {
          const told = { times: 0, next: Promise.withResolvers<void>() };
          const undo = store.subscribe?.(() => {
            told.times += 1;
            told.next.resolve();
          });
          return { told, undo };
        };
        const [first, second] = [listen(), listen()];
        await appendIds(other, ["a"]);
        await inTime(first.told.next.promise, "a subscriber should be told of an append elsewhere");
        await claimOnly(await test.work());
        first.undo?.();
        const { times } = first.told;
        second.told.next = Promise.withResolvers();
        await appendIds(other, ["b"], { scope: { ...SCOPE, connection: "acme" } });
        await inTime(second.told.next.promise, "control: another subscriber is told");
        assert.equal(first.told.times, times, "who undid it is told no more");
        assert.equal(await store.nextDue([ROUTE]), test.clock.now());
      },
      "reopen",
      "shared",
      "notifies",
    );
  },
};
