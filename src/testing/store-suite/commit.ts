/**
 * Committing the user's writes and the settling in one transaction; for transactional stores.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { WorkSession } from "../../core/store.ts";
import type { StoreTest, Topic } from "./fixture.ts";
import {
  appendIds,
  claimId,
  claimOnly,
  claimUpTo,
  done,
  idsOf,
  indexEntry,
  inTime,
  rejectsWith,
  retry,
  SCOPE,
} from "./words.ts";

const TIMEOUT_MS = 5_000;

interface CommitTest<Tx> {
  readonly session: WorkSession<Tx>;
  readonly commit: NonNullable<WorkSession<Tx>["commit"]>;
  readonly write: (tx: Tx, line: string) => void | Promise<void>;
  /** Fails unless exactly these lines are committed. */
  readonly lines: (expected: readonly string[], why: string) => Promise<void>;
}

async function begin<Tx>(test: StoreTest<Tx>): Promise<CommitTest<Tx>> {
  const { transaction } = test.options;
  if (transaction === undefined) throw new Error("the store is transactional: give testStore `transaction`");
  const session = await test.work();
  if (session.commit === undefined)
    throw new Error("the store says it is transactional, and has no `commit`");
  await transaction.prepare?.(test.store);
  return {
    session,
    commit: session.commit.bind(session),
    write: (tx, line) => transaction.write(tx, line),
    async lines(expected, why) {
      assert.deepEqual([...(await transaction.read(test.store))].toSorted(), expected, why);
    },
  };
}

export const commitTopic: Topic = {
  name: "commit",
  define(it) {
    it("should exist exactly where the store says that it is transactional", async ({ store, work }) => {
      const session = await work();
      assert.equal(typeof session.commit === "function", store.guarantees.transactional);
    });

    it(
      "should write the user's lines and the settling together",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(session);
        const index = indexEntry({ hash: "committed" });
        const outcomes = await commit(
          [done(claim, index)],
          async (tx, live) => {
            assert.deepEqual(live, [true]);
            await write(tx, "a");
          },
          { timeoutMs: TIMEOUT_MS },
        );
        assert.deepEqual(outcomes, ["settled"]);
        await lines(["a"], "the user's line is committed");
        assert.deepEqual((await test.store.lookup(SCOPE, ["a"]))[0]?.index, index);
        assert.deepEqual(await session.settle([retry(claim, test.clock.now())]), ["lost"], "it is settled");
        assert.deepEqual(await claimUpTo(session, 1), []);
      },
      "transactional",
    );

    it(
      "should answer dirty when something was appended meanwhile",
      async (test) => {
        const { session, commit, write } = await begin(test);
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(session);
        await appendIds(test.store, ["a"]);
        const outcomes = await commit([done(claim)], (tx) => write(tx, "a"), { timeoutMs: TIMEOUT_MS });
        assert.deepEqual(outcomes, ["dirty"]);
        await claimOnly(session);
      },
      "transactional",
    );

    it(
      "should write nothing when the callback rejects, and leave the lease",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(session);
        const failed = commit(
          [done(claim)],
          async (tx) => {
            await write(tx, "a");
            throw new Error("the user's own");
          },
          { timeoutMs: TIMEOUT_MS },
        );
        await assert.rejects(failed, /the user's own/);
        await lines([], "what was written before the error is rolled back");
        assert.equal((await test.store.lookup(SCOPE, ["a"]))[0]?.index, undefined);
        const outcomes = await commit([done(claim)], (tx) => write(tx, "again"), { timeoutMs: TIMEOUT_MS });
        assert.deepEqual(outcomes, ["settled"], "control: the lease is still held, and a second try commits");
        await lines(["again"], "control");
      },
      "transactional",
    );

    it(
      "should roll back a callback that takes too long",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        await appendIds(test.store, ["a"]);
        const claim = await claimOnly(session);
        let release = () => {};
        const held = new Promise<void>((resolve) => {
          release = resolve;
        });
        const begun = Promise.withResolvers<void>();
        const slow = commit(
          [done(claim)],
          async (tx) => {
            await write(tx, "a");
            begun.resolve();
            await held;
          },
          { timeoutMs: TIMEOUT_MS },
        );
        slow.catch(() => {});
        await inTime(begun.promise, "the callback should be called");
        await test.clock.advance(TIMEOUT_MS + 1);
        const why = "a callback over its time must be rolled back";
        await rejectsWith("COMMIT_TIMEOUT", inTime(slow, why), why);
        release();
        await test.clock.settle();
        await lines([], "what was written before the timeout is rolled back");
        assert.equal((await test.store.lookup(SCOPE, ["a"]))[0]?.index, undefined);
        const outcomes = await commit([done(claim)], (tx) => write(tx, "again"), { timeoutMs: TIMEOUT_MS });
        assert.deepEqual(outcomes, ["settled"], "control: a quick one commits");
      },
      "transactional",
    );

    it(
      "should refuse a lost lease without calling back",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        await appendIds(test.store, ["a"]);
        const old = await claimOnly(session);
        await session.settle([retry(old, test.clock.now())]);
        const live = await claimOnly(session);
        const stale = commit([done(old)], (tx) => write(tx, "stale"), { timeoutMs: TIMEOUT_MS });
        await rejectsWith("LEASE_LOST", stale, "a stale claim must not commit");
        await lines([], "nothing was written");
        await commit([done(live)], (tx) => write(tx, "live"), { timeoutMs: TIMEOUT_MS });
        await lines(["live"], "control: the live claim commits");
      },
      "transactional",
    );

    it(
      "should tell which of several leases are live, and settle those",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        await appendIds(test.store, ["a", "b"]);
        const claims = await claimUpTo(session, 2);
        const [lost, live] = claims;
        assert.ok(lost !== undefined && live !== undefined, "both should be claimable");
        await session.settle([retry(lost, test.clock.now())]);
        const outcomes = await commit(
          [done(lost), done(live)],
          async (tx, leases) => {
            assert.deepEqual(leases, [false, true]);
            await write(tx, live.ref.id);
          },
          { timeoutMs: TIMEOUT_MS },
        );
        assert.deepEqual(outcomes, ["lost", "settled"]);
        await lines([live.ref.id], "only the live one's line");
        assert.deepEqual(idsOf([await claimId(session, lost.ref.id)]), [lost.ref.id]);
      },
      "transactional",
    );

    it(
      "should keep overlapping commits apart, and apply each once",
      async (test) => {
        const { session, commit, write, lines } = await begin(test);
        const ids = ["a", "b", "c", "d", "e", "f"];
        await appendIds(test.store, ids);
        const claims = await claimUpTo(session, 10);
        const results = await Promise.allSettled(
          claims.map((claim, i) =>
            commit(
              [done(claim)],
              async (tx) => {
                await write(tx, claim.ref.id);
                if (i % 3 === 0) throw new Error("rolled back");
              },
              { timeoutMs: TIMEOUT_MS },
            ),
          ),
        );
        const committed = claims.filter((_, i) => results[i]?.status === "fulfilled");
        assert.equal(committed.length, 4, "every third was to fail");
        await lines(idsOf(committed).toSorted(), "each that succeeded is there once, and no other");
        assert.equal(await test.store.countPresent(SCOPE), 4);
      },
      "transactional",
    );
  },
};
