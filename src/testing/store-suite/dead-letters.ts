/**
 * Dead letters: listed, retried and discarded by filter.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { DeadLetterFilter, Store } from "../../core/store.ts";
import type { Topic } from "./fixture.ts";
import {
  appendIds,
  claimOnly,
  claimUpTo,
  dead,
  entry,
  expectNothingDue,
  failure,
  idsOf,
  indexEntry,
  makeDead,
  SCOPE,
  scopeOf,
  sortedIds,
} from "./words.ts";

const ACME = scopeOf("acme");
const DEALS = { ...SCOPE, resource: "deal" };

async function listAll<Tx>(store: Store<Tx>, filter: DeadLetterFilter, limit = 100): Promise<string[]> {
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const { items, next } = await store.listDead(filter, { cursor, limit });
    assert.ok(items.length <= limit, "a page has at most `limit` items");
    found.push(...items.map(({ ref }) => `${ref.connection}/${ref.resource}/${ref.id}`));
    cursor = next;
  } while (cursor !== undefined);
  return found;
}

const filters: readonly (readonly [DeadLetterFilter, readonly string[]])[] = [
  [{}, ["acme/contact/a", "default/contact/a", "default/contact/b", "default/deal/a"]],
  [{ provider: "crm" }, ["acme/contact/a", "default/contact/a", "default/contact/b", "default/deal/a"]],
  [{ provider: "shop" }, []],
  [{ resource: "deal" }, ["default/deal/a"]],
  [{ connection: "acme" }, ["acme/contact/a"]],
  [{ resource: "contact", connection: "default", ids: ["b", "c"] }, ["default/contact/b"]],
  [{ ids: ["a"] }, ["acme/contact/a", "default/contact/a", "default/deal/a"]],
  [{ ids: [] }, []],
];

export const deadLetterTopic: Topic = {
  name: "dead letters",
  define(it) {
    it("should keep what is known of dead work", async ({ store, work, clock }) => {
      const session = await work();
      const since = clock.now();
      const event = entry("a", { eventId: "1", data: { n: 1 } });
      await store.append([event]);
      await clock.advance(1_000);
      const error = { code: "SCHEMA_MISMATCH", message: "no", path: "a.b", at: clock.now() };
      await session.settle([dead(await claimOnly(session), { error })]);
      const { items, next } = await store.listDead({}, { cursor: undefined, limit: 10 });
      assert.equal(next, undefined);
      assert.deepEqual(items, [
        { ref: event.ref, error, attempts: 1, eventCount: 1, events: [event.event], dirtySince: since },
      ]);
      await expectNothingDue(session, "dead work is not claimed");
      assert.equal(await store.nextDue([{ provider: "crm", resource: "contact" }]), undefined);
    });

    it("should list, retry and discard what the filter says, and nothing else", async ({ store, work }) => {
      const session = await work();
      const makeAll = async () => {
        await makeDead({ store, session }, ["a", "b"]);
        await makeDead({ store, session }, ["a"], { scope: ACME });
        await makeDead({ store, session }, ["a"], { scope: DEALS });
      };
      await makeAll();
      for (const [filter, expected] of filters) {
        assert.deepEqual((await listAll(store, filter)).toSorted(), expected, JSON.stringify(filter));
      }
      assert.equal(await store.retryDead({ provider: "shop" }), 0);
      assert.equal(await store.retryDead({ resource: "deal" }), 1);
      assert.equal(await store.discardDead({ connection: "acme" }), 1);
      assert.equal(await store.discardDead({ ids: [] }), 0, "no ids are none, not all");
      assert.deepEqual((await listAll(store, {})).toSorted(), ["default/contact/a", "default/contact/b"]);
      assert.equal((await store.pending(0)).dead, 2);
    });

    it("should page through them in a stable order, each once", async ({ store, work }) => {
      const session = await work();
      const ids = Array.from({ length: 11 }, (_, n) => `o${n}`);
      await makeDead({ store, session }, ids);
      await makeDead({ store, session }, ["x"], { scope: ACME });
      const all = await listAll(store, {}, 3);
      assert.equal(all.length, 12);
      assert.equal(new Set(all).size, 12, "each comes once");
      assert.deepEqual(await listAll(store, {}, 5), all);
      const first = await store.listDead({}, { cursor: undefined, limit: 3 });
      await store.discardDead({ ids: idsOf(first.items) });
      const second = await store.listDead({}, { cursor: first.next, limit: 100 });
      const rest = second.items.map(({ ref }) => `${ref.connection}/${ref.resource}/${ref.id}`);
      assert.ok(
        all.slice(3).every((id) => rest.includes(id)),
        "a cursor goes on behind what was discarded",
      );
    });

    it("should make retried dead objects fresh work, due now, with their events", async ({
      store,
      work,
      clock,
    }) => {
      const session = await work();
      await makeDead({ store, session }, ["a", "b"]);
      assert.equal(await store.retryDead({}), 2);
      assert.deepEqual(await store.pending(clock.now()), { due: 2, leased: 0, later: 0, dead: 0 });
      const claims = await claimUpTo(session, 10);
      assert.deepEqual(sortedIds(claims), ["a", "b"]);
      for (const claim of claims) assert.deepEqual([claim.attempt, claim.eventCount], [1, 1]);
    });

    it("should keep the index entry of what is discarded", async ({ store, work, clock }) => {
      const session = await work();
      const index = indexEntry({ hash: "kept" });
      await store.record(SCOPE, [{ id: "a", index }]);
      await makeDead({ store, session }, ["a"]);
      assert.equal(await store.discardDead({}), 1);
      const [found] = await store.lookup(SCOPE, ["a"]);
      assert.deepEqual(found?.index, index);
      assert.equal(found?.pending, false);
      assert.deepEqual(await store.pending(clock.now()), { due: 0, leased: 0, later: 0, dead: 0 });
      assert.deepEqual(await listAll(store, {}), []);
      await appendIds(store, ["a"]);
      const claim = await claimOnly(session);
      assert.deepEqual(
        [claim.attempt, claim.eventCount, claim.begun],
        [1, 1, false],
        "its old events are dropped",
      );
    });

    it("should know nothing of the content of what is discarded where a handler may have begun", async ({
      store,
      work,
    }) => {
      const session = await work();
      await makeDead({ store, session }, ["begun"], { begun: true });
      await makeDead({ store, session }, ["not begun"], { begun: false });
      assert.equal(await store.discardDead({}), 2);
      const [begun, notBegun] = await store.lookup(SCOPE, ["begun", "not begun"]);
      assert.equal(begun?.index?.state, "present");
      assert.deepEqual(
        [begun?.index?.version, begun?.index?.hash, begun?.index?.rowHash],
        [null, null, null],
        "the user's copy may hold anything",
      );
      assert.equal(notBegun?.index, undefined);
      assert.equal(await store.countPresent(SCOPE), 1);
    });

    it("should tell the latest failure where work dies again", async ({ store, work }) => {
      const session = await work();
      await makeDead({ store, session }, ["a"]);
      await store.retryDead({});
      await session.settle([dead(await claimOnly(session), { error: failure("REJECTED", 7) })]);
      const { items } = await store.listDead({}, { cursor: undefined, limit: 10 });
      assert.deepEqual(
        items.map((item) => item.error),
        [failure("REJECTED", 7)],
      );
    });
  },
};
