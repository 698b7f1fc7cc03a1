import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import type { Claim, Settlement, Store, WorkSession } from "../../src/core/store.ts";
import { migrations } from "../../src/stores/sqlite/schema.ts";
import { appendEntry, doneWith, environment, ROUTE, SCOPE, temporaryDirectory } from "./sqlite-fixture.ts";

let directory: ReturnType<typeof temporaryDirectory>;
let clock: TestClock;
let store: Store<SqliteTx>;
let session: WorkSession<SqliteTx>;
/** As another process has it: it does not work, but it may append and look. */
let beside: Store<SqliteTx>;
let outside: DatabaseSync;

beforeEach(async () => {
  directory = temporaryDirectory();
  clock = new TestClock();
  [store, beside] = [await open(), await open()];
  session = await store.work({ leaseMs: 30_000 });
  outside = new DatabaseSync(directory.file("sync.db"));
});

afterEach(async () => {
  outside.close();
  await beside.close();
  await store.close();
  directory[Symbol.dispose]();
});

async function open(): Promise<Store<SqliteTx>> {
  const opened = sqliteStore({ path: directory.file("sync.db") });
  await opened.open(environment(clock));
  return opened;
}

async function claimOf(...ids: string[]): Promise<Claim[]> {
  await store.append(ids.map((id) => appendEntry(id)));
  return await session.claim({ ...ROUTE, limit: ids.length });
}

/** The same object again. */
const again = (id: string, event: string) => ({ ...appendEntry(event), ref: { ...SCOPE, id } });

const byId = (claims: readonly Claim[], what: (claim: Claim) => unknown) =>
  Object.fromEntries(claims.map((claim) => [claim.ref.id, what(claim)]));

const retryOf = (claim: Claim): Settlement => {
  return { claim, kind: "retry", due: clock.now(), attempts: claim.attempt, lags: 0, begun: false };
};

/** What the log holds: numbers of open claims, and of leased objects with appends. */
const logged = () =>
  ["trueup_claim", "trueup_since"].map(
    (table) => outside.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.["n"],
  );

describe("the claim log", () => {
  test("should have one row a claim, until its last object is settled", async () => {
    const [a, b, c] = await claimOf("a", "b", "c");
    expect(logged()).toEqual([1, 0]);
    await session.settle([doneWith(a!), retryOf(b!)]);
    expect(logged()).toEqual([1, 0]);
    await session.settle([doneWith(c!)]);
    expect(logged()).toEqual([0, 0]);
  });

  test("should tell who comes after a crash what was in hand, and nothing else", async () => {
    const [done, retried, appendedTo, untouched] = await claimOf(
      "done",
      "retried",
      "appendedTo",
      "untouched",
    );
    await session.settle([doneWith(done!), retryOf(retried!)]);
    await store.append([again("appendedTo", "e2")]);
    expect(logged()).toEqual([1, 1]);
    expect([appendedTo!.attempt, untouched!.attempt]).toEqual([1, 1]);
    await store.close(); // as a crash: nothing was released
    store = await open();
    session = await store.work({ leaseMs: 30_000 });
    expect(logged()).toEqual([0, 0]);
    clock.setWallClock(clock.now() + 60_000); // attempts may be spread
    const claims = await session.claim({ ...ROUTE, limit: 10 });
    expect(byId(claims, ({ attempt, begun }) => [attempt, begun])).toEqual({
      appendedTo: [2, true],
      retried: [2, false],
      untouched: [2, true],
    });
  });

  test("should tell it of what a page leased", async () => {
    const lock = await store.lock("pass", 60_000);
    const [claim] = await session.recordPage({
      scope: SCOPE,
      pass: "pass",
      lock: lock!,
      mark: await store.counter(SCOPE),
      seen: [],
      differing: ["a"],
      lease: true,
      checkpoint: "{}",
    });
    expect(claim!.attempt).toBe(1);
    await store.close();
    store = await open();
    session = await store.work({ leaseMs: 30_000 });
    expect(await session.claim({ ...ROUTE, limit: 10 })).toMatchObject([{ attempt: 2, begun: true }]);
  });

  test("should know an object by its last claim, where an earlier one is still open", async () => {
    const [a, b] = await claimOf("a", "b");
    await session.settle([retryOf(a!)]);
    const [second] = await session.claim({ ...ROUTE, limit: 1 });
    await store.append([again("a", "e2")]);
    expect(logged()).toEqual([2, 1]);
    expect((await beside.lookup(SCOPE, ["a"]))[0]?.touched).toBeGreaterThan(second!.fence);
    await store.close();
    store = await open();
    session = await store.work({ leaseMs: 30_000 });
    clock.setWallClock(clock.now() + 60_000);
    const claims = await session.claim({ ...ROUTE, limit: 10 });
    expect(byId(claims, ({ attempt }) => attempt)).toEqual({ a: 3, b: 2 });
    expect(await session.settle([doneWith(second!), doneWith(b!)])).toEqual(["lost", "lost"]);
  });

  test("should take over the leases that an earlier version kept in rows", async () => {
    await claimOf("kept");
    const path = directory.file("old.db");
    const old = new DatabaseSync(path);
    old.exec(migrations[0]!);
    old.exec(`
      CREATE TABLE trueup_schema (version INTEGER NOT NULL);
      INSERT INTO trueup_schema VALUES (1);
      UPDATE trueup_store SET counter = 9, owner_epoch = 1, owner_locked = 1;
      INSERT INTO trueup_scope (n, provider, connection, resource) VALUES (1, 'crm', 'default', 'contact');
      INSERT INTO trueup_lane (n, provider, connection, resource, repair) VALUES
        (2, 'crm', 'default', 'contact', 0), (3, 'crm', 'default', 'contact', 1);
      INSERT INTO trueup_object (n, scope, id, touched, lane, due, dirty_since, generation, origin) VALUES
        (1, 1, 'a', 3, 2, 0, 0, 3, 'webhook'), (2, 1, 'b', 6, 3, 0, 0, 6, 'reconcile'), (3, 1, 'c', 8, 2, 0, 0, 8, 'webhook');
      INSERT INTO trueup_lease (n, fence) VALUES (1, 5), (2, 5);
      INSERT INTO trueup_lease (n, fence, since, since_origin, since_hint) VALUES (3, 7, 0, 'webhook', 'delete');
    `);
    old.close();
    const migrated = sqliteStore({ path });
    await migrated.open(environment(clock));
    const { leased } = await migrated.pending(clock.now());
    expect(leased).toBe(3);
    const next = await migrated.work({ leaseMs: 1_000 });
    const claims = await next.claim({ ...ROUTE, limit: 10 });
    expect(byId(claims, ({ attempt, begun, hint }) => [attempt, begun, hint])).toEqual({
      a: [2, true, undefined],
      b: [2, true, undefined],
      c: [2, true, "delete"],
    });
    await migrated.close();
  });
});

describe("leases beside another process", () => {
  test("should be seen by it", async () => {
    const [a, b] = await claimOf("a", "b");
    expect(await beside.pending(clock.now())).toMatchObject({ due: 0, leased: 2 });
    expect((await beside.lookup(SCOPE, ["a"]))[0]?.touched).toBe(a!.fence);
    await session.settle([retryOf(b!)]);
    expect(await beside.pending(clock.now())).toMatchObject({ due: 1, leased: 1 });
    expect(await beside.nextDue([ROUTE])).toBe(clock.now());
    expect(await beside.counts()).toMatchObject([{ dirty: 1, leased: 1 }]);
  });

  test("should have what it appends after them", async () => {
    const [a] = await claimOf("a");
    await beside.append([again("a", "e2")]);
    await beside.append([again("a", "e3")]);
    expect(await session.settle([doneWith(a!)])).toEqual(["dirty"]);
    const [fresh] = await session.claim({ ...ROUTE, limit: 1 });
    expect(fresh!.events.map(({ id }) => id)).toEqual(["e2", "e3"]);
    await beside.append([again("b", "b1")]);
    const [b] = await session.claim({ ...ROUTE, limit: 1 });
    await beside.append([again("b", "b2")]); // under a lease that was not there when it appended before
    expect(await session.settle([doneWith(fresh!), doneWith(b!)])).toEqual(["settled", "dirty"]);
  });

  test("should be lost when it forgets the connection, and no others", async () => {
    await store.append([appendEntry("a", "one"), appendEntry("b", "two")]);
    const claims = await session.claim({ ...ROUTE, limit: 2 });
    const [one, two] = ["one", "two"].map((name) => claims.find(({ ref }) => ref.connection === name)!);
    await beside.append([{ ...again("a", "e2"), ref: one!.ref }]);
    await beside.forget("crm", "one");
    expect(await store.pending(clock.now())).toMatchObject({ due: 0, leased: 1 });
    expect(await session.settle([doneWith(one!), doneWith(two!)])).toEqual(["lost", "settled"]);
  });

  test("should be lost when it took over", async () => {
    await session.release();
    session = await store.work({ leaseMs: 1_000 }); // and no heartbeat
    const [a] = await claimOf("a");
    const taking = beside.work({ leaseMs: 1_000 });
    for (let passed = 0; passed <= 1_000; passed += 50) await clock.advance(50);
    const next = await taking;
    const [theirs] = await next.claim({ ...ROUTE, limit: 1 });
    expect(await session.settle([doneWith(a!)])).toEqual(["lost"]);
    expect(await store.pending(clock.now())).toMatchObject({ due: 0, leased: 1 });
    expect(await next.settle([doneWith(theirs!)])).toEqual(["settled"]);
  });
});

describe("a lease whose transaction is undone", () => {
  /** Takes the transaction with it that it comes with; the others are then run again. */
  const failing = () =>
    expect(store.setCheckpoint("key", { not: "text" } as never)).rejects.toMatchObject({
      code: "STORE_FAILED",
    });

  test("should be granted once", async () => {
    await store.append([appendEntry("a")]);
    const [claims] = await Promise.all([session.claim({ ...ROUTE, limit: 10 }), failing()]);
    expect(claims).toHaveLength(1);
    expect(await store.pending(clock.now())).toMatchObject({ due: 0, leased: 1 });
    expect(await session.settle([doneWith(claims[0]!)])).toEqual(["settled"]);
    expect(logged()).toEqual([0, 0]);
  });

  test("should not have ended", async () => {
    const [a] = await claimOf("a");
    const [outcomes] = await Promise.all([session.settle([doneWith(a!)]), failing()]);
    expect(outcomes).toEqual(["settled"]);
    expect(logged()).toEqual([0, 0]);
  });

  test("should not have ended where only its commit was undone", async () => {
    const [a, b] = await claimOf("a", "b");
    const broken = { ...doneWith(b!), index: { state: "present", hash: {} } } as unknown as Settlement;
    const others = store.append([appendEntry("c")]);
    await expect(session.commit!([doneWith(a!), broken], () => {}, { timeoutMs: 1_000 })).rejects.toThrow(
      /cannot be bound/,
    );
    await others;
    expect(await session.settle([doneWith(a!), doneWith(b!)])).toEqual(["settled", "settled"]);
  });
});
