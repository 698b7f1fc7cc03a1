import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { sqliteStore } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { systemClock } from "../../src/core/clock.ts";
import { appendEntry, environment, ROUTE, SCOPE, doneWith, temporaryDirectory } from "./sqlite-fixture.ts";
import { StoreProcess } from "./store-process.ts";

async function openStore(path: string, clock: Parameters<typeof environment>[0] = systemClock) {
  const store = sqliteStore({ path });
  await store.open(environment(clock));
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}

function expectIntact(path: string): void {
  const db = new DatabaseSync(path);
  expect(db.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  db.close();
}

test("should keep every append that was answered when the process is killed", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using child = await StoreProcess.start(path);
  await child.call("open");
  child.begin("appendForever");
  await child.toldOf(300);
  await child.kill();
  await using store = await openStore(path);
  const found = await store.lookup(SCOPE, child.told);
  expect(found.filter((object) => object?.pending !== true)).toEqual([]);
  const again = await store.append(child.told.map((id) => appendEntry(id)));
  expect(again.every(({ status }) => status === "duplicate")).toBe(true);
  expectIntact(path);
});

test("should lose no object when the process is killed amid claims and settlements", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using store = await openStore(path);
  const ids = Array.from({ length: 5_000 }, (_, n) => `o${n}`);
  await store.append(ids.map((id) => appendEntry(id)));
  await using child = await StoreProcess.start(path);
  await child.call("open");
  await child.call("work", { leaseMs: 60_000, beat: false });
  child.begin("workForever", 40);
  await child.toldOf(400);
  await child.kill();

  const session = await store.work({ leaseMs: 60_000 });
  const settled = await store.lookup(SCOPE, child.told);
  expect(settled.every((object) => object?.index?.state === "present")).toBe(true);
  for (;;) {
    const claims = await session.claim({ ...ROUTE, limit: 500 });
    if (claims.length === 0) break;
    await session.settle(claims.map(doneWith));
  }
  expect(await store.countPresent(SCOPE)).toBe(ids.length);
  expect(await store.pending(systemClock.now())).toEqual({ due: 0, leased: 0, later: 0, dead: 0 });
  await session.release();
  expectIntact(path);
});

test("should be taken over at once from a process that was killed, however long its lease", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using child = await StoreProcess.start(path);
  await child.call("open");
  await child.call("append", ["a"]);
  await child.call("work", { leaseMs: 3_600_000, beat: false });
  const [lost] = await child.call<{ attempt: number; fence: number }[]>("claim", 1);
  // The clock stands still: whoever waited for the lease would wait for ever.
  await using store = await openStore(path, new TestClock(systemClock.now()));
  await child.kill();
  const session = await store.work({ leaseMs: 3_600_000 });
  const [claim] = await session.claim({ ...ROUTE, limit: 1 });
  expect(claim).toMatchObject({ attempt: 2, begun: true, ref: { id: "a" } });
  expect(claim!.fence).toBeGreaterThan(lost!.fence);
});

test("should not be taken from a process that works", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using child = await StoreProcess.start(path);
  await child.call("open");
  await child.call("work", { leaseMs: 400, beat: true });
  await using store = await openStore(path);
  await expect(store.work({ leaseMs: 800 })).rejects.toMatchObject({ code: "STORE_IN_USE" });
  expect(await child.call("heartbeat")).toBe(true);
});

test("should be taken from a process that is suspended, which finds out when it wakes", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using child = await StoreProcess.start(path);
  await child.call("open");
  await child.call("append", ["a"]);
  await child.call("work", { leaseMs: 300, beat: true });
  await child.call("claim", 1);
  child.signal("SIGSTOP");
  await using store = await openStore(path);
  const session = await store.work({ leaseMs: 10_000 });
  const [claim] = await session.claim({ ...ROUTE, limit: 1 });
  expect(claim?.ref.id).toBe("a");
  child.signal("SIGCONT");
  expect(await child.call("settle")).toEqual(["lost"]);
  await expect(child.call("claim", 1)).rejects.toMatchObject({ code: "STORE_LOST" });
  expect(await child.call("heartbeat")).toBe(false);
  expect(await session.heartbeat()).toBe(true);
  expect(await session.settle([doneWith(claim!)])).toEqual(["settled"]);

  // With the heartbeat the new owner took the lock as well: its own death would be noticed at once.
  await using third = await openStore(path, new TestClock(systemClock.now()));
  await store.close();
  expect(await (await third.work({ leaseMs: 3_600_000 })).heartbeat()).toBe(true);
});

test("should claim what another process appends, with duplicates over both", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using store = await openStore(path);
  const session = await store.work({ leaseMs: 60_000 });
  await using child = await StoreProcess.start(path);
  await child.call("open");
  await child.call("append", ["a", "b"]);
  expect((await store.append([appendEntry("b")]))[0]?.status).toBe("duplicate");
  const claims = await session.claim({ ...ROUTE, limit: 10 });
  expect(claims.map(({ ref }) => ref.id)).toEqual(["a", "b"]);
  const [later] = await child.call<{ generation: number }[]>("append", ["c"]);
  expect(later!.generation).toBeGreaterThan(claims[0]!.fence);
  expect(await session.settle(claims.map(doneWith))).toEqual(["settled", "settled"]);
});

test("should remember no scope that another process has forgotten", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  await using store = await openStore(path);
  await using other = await openStore(path);
  await store.append([appendEntry("a")]);
  await store.append([appendEntry("b")]);
  await other.forget("crm", "default");
  await store.append([appendEntry("c")]);
  expect(await other.lookup(SCOPE, ["a", "b"])).toEqual([undefined, undefined]);
  expect((await other.lookup(SCOPE, ["c"]))[0]?.pending).toBe(true);
});

test("should be created once by several processes that open it at once", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  const children = await Promise.all(Array.from({ length: 4 }, () => StoreProcess.start(path)));
  try {
    await Promise.all(children.map((child) => child.call("open")));
    await Promise.all(children.map((child, n) => child.call("append", [`o${n}`])));
  } finally {
    await Promise.all(children.map((child) => child.kill()));
  }
  await using store = await openStore(path);
  expect(await store.pending(systemClock.now())).toMatchObject({ due: 4 });
  expectIntact(path);
});

test("should bring an object back alone that was under way at two crashes", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  const clock = new TestClock();
  for (const attempt of [1, 2]) {
    const store = await openStore(path, clock);
    await store.append([appendEntry("poison")]);
    const session = await store.work({ leaseMs: 30_000 });
    const [claim] = await session.claim({ ...ROUTE, limit: 1 });
    expect(claim?.attempt).toBe(attempt);
    if (attempt === 2) {
      await store.append([appendEntry("innocent")]);
      await session.claim({ ...ROUTE, limit: 1 });
    }
    await store.close(); // with its session held, as in a crash
  }
  await using store = await openStore(path, clock);
  const session = await store.work({ leaseMs: 30_000 });
  const together = await session.claim({ ...ROUTE, limit: 10 });
  expect(together.map(({ ref }) => ref.id)).toEqual(["innocent"]);
  const due = await store.nextDue([ROUTE]);
  expect(due).toBeGreaterThan(clock.now());
  await clock.advance(due! - clock.now());
  expect(await session.claim({ ...ROUTE, limit: 10 })).toMatchObject([{ attempt: 3, ref: { id: "poison" } }]);
});
