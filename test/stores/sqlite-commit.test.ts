import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import type { Claim, Store, WorkSession } from "../../src/core/store.ts";
import { appendEntry, doneWith, environment, ROUTE, SCOPE, temporaryDirectory } from "./sqlite-fixture.ts";

const TIMEOUT = { timeoutMs: 5_000 };

let directory: ReturnType<typeof temporaryDirectory>;
let clock: TestClock;
let store: Store<SqliteTx>;
let session: WorkSession<SqliteTx>;
let outside: DatabaseSync;

beforeEach(async () => {
  directory = temporaryDirectory();
  clock = new TestClock();
  store = sqliteStore({ path: directory.file("sync.db") });
  await store.open(environment(clock));
  session = await store.work({ leaseMs: 30_000 });
  outside = new DatabaseSync(directory.file("sync.db"));
  outside.exec("CREATE TABLE line (text TEXT UNIQUE)");
});

afterEach(async () => {
  outside.close();
  await store.close();
  directory[Symbol.dispose]();
});

const lines = () =>
  outside
    .prepare("SELECT text FROM line ORDER BY text")
    .all()
    .map((row) => row["text"]);

async function claimOf(id: string): Promise<Claim> {
  await store.append([appendEntry(id)]);
  const [claim] = await session.claim({ ...ROUTE, limit: 1 });
  return claim!;
}

const commit = (claim: Claim, write: (tx: SqliteTx) => void | Promise<void>) =>
  session.commit!([doneWith(claim)], write, TIMEOUT);

describe("group commit", () => {
  test("should write all that is asked for in one turn in one transaction", async () => {
    const claim = await claimOf("claimed");
    const statements = vi.spyOn(DatabaseSync.prototype, "exec");
    const begun = () => statements.mock.calls.filter(([sql]) => sql.startsWith("BEGIN")).length;
    await Promise.all([
      ...Array.from({ length: 50 }, (_, n) => store.append([appendEntry(`o${n}`)])),
      session.settle([doneWith(claim)]),
      session.claim({ ...ROUTE, limit: 10 }),
      store.setCheckpoint("cursor", "1"),
    ]);
    expect(begun()).toBe(1);
    await store.append([appendEntry("later")]);
    expect(begun(), "control: another turn is another transaction").toBe(2);
  });

  test("should let one call fail without the others", async () => {
    const good = store.append([appendEntry("good")]);
    const bad = store.append([{ ...appendEntry("bad"), dedupeKey: new Uint8Array(3) }]);
    const worse = store.setCheckpoint("key", { not: "text" } as never);
    const lock = store.lock("pass", 1_000);
    await expect(bad).rejects.toMatchObject({ code: "OPTION_INVALID" });
    await expect(worse).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect((await good)[0]?.status).toBe("accepted");
    expect(await lock).toBeDefined();
    expect(await store.lookup(SCOPE, ["bad"])).toEqual([undefined]);
    expect((await store.lookup(SCOPE, ["good"]))[0]?.pending).toBe(true);
  });

  test("should wait for another process's transaction", async () => {
    outside.exec("BEGIN IMMEDIATE; INSERT INTO line VALUES ('theirs')");
    let answered = false;
    const appending = store.append([appendEntry("a")]).then(() => (answered = true));
    // By then the driver has waited once, and the event loop was given back.
    await new Promise((resolve) => void setImmediate(() => setImmediate(resolve)));
    expect(answered).toBe(false);
    outside.exec("COMMIT");
    await appending;
  });
});

describe("tx", () => {
  test("should read and write the user's tables, and read ours", async () => {
    const claim = await claimOf("a");
    await commit(claim, (tx) => {
      expect(tx.run("INSERT INTO line VALUES (?), (?)", "x", "y")).toEqual({
        changes: 2,
        lastInsertRowid: 2,
      });
      expect(tx.get("SELECT text FROM line WHERE text = ?", "x")).toEqual({ text: "x" });
      expect(tx.get("SELECT text FROM line WHERE text = ?", "z")).toBeUndefined();
      expect(tx.all<{ text: string }>("SELECT text FROM line ORDER BY text").map(({ text }) => text)).toEqual(
        ["x", "y"],
      );
      expect(tx.get("SELECT ? AS absent, ? AS yes", undefined, true)).toEqual({ absent: null, yes: 1 });
      expect(tx.get("SELECT count(*) AS n FROM trueup_object")).toEqual({ n: 1 });
      tx.run("-- a comment\n CREATE TABLE made (x)");
    });
    expect(lines()).toEqual(["x", "y"]);
  });

  test.each([
    "COMMIT",
    "rollback",
    "  /* c */ BEGIN",
    "-- c\nEND",
    "RELEASE trueup_guarded",
    "SAVEPOINT mine",
    "PRAGMA synchronous = OFF",
    "ATTACH 'other.db' AS other",
    "DETACH other",
    "VACUUM",
    "INSERT INTO line VALUES ('x'); COMMIT",
    "SELECT 1; -- c\n SELECT 2",
    `SELECT 1; ${"/* c */".repeat(100)} SELECT 2`,
    `${"/* c */".repeat(100)} COMMIT`,
    `${"/* c */".repeat(100)} (COMMIT`,
    "",
    "UPDATE trueup_store SET counter = 0",
    "WITH a AS (SELECT 1) DELETE FROM trueup_object",
    'DROP TABLE "trueup_object"',
    "DELETE FROM 'trueup_object'",
    "UPDATE main . 'TRUEUP_object' SET due = 0",
    "/* ' */ UPDATE trueup_object SET due = 0 /* ' */",
    "-- '\nDELETE FROM trueup_object -- '",
    "WITH a AS (SELECT $a(')) DELETE FROM trueup_object WHERE '' = ''",
    "CREATE TRIGGER mine AFTER INSERT ON line BEGIN DELETE FROM 'trueup_object'; END",
    "CREATE TEMP TABLE 'trueup_object' (x)",
  ])("should refuse %j", async (sql) => {
    const claim = await claimOf("a");
    await expect(commit(claim, (tx) => void tx.run(sql))).rejects.toMatchObject({ code: "OPTION_INVALID" });
    await expect(commit(claim, (tx) => void tx.all(sql))).rejects.toMatchObject({ code: "OPTION_INVALID" });
    expect(lines()).toEqual([]);
    expect(await commit(claim, (tx) => void tx.run("INSERT INTO line VALUES (?)", "trueup_fine"))).toEqual([
      "settled",
    ]);
  });

  test("should survive a statement that rolls everything back, with what others asked for", async () => {
    outside.exec("INSERT INTO line VALUES ('taken')");
    const [first, second] = [await claimOf("first"), await claimOf("second")];
    const before = commit(first, (tx) => void tx.run("INSERT INTO line VALUES ('first')"));
    const ending = commit(second, (tx) => {
      expect(() => tx.run("INSERT OR ROLLBACK INTO line VALUES ('taken')")).toThrow(/UNIQUE/);
      expect(() => tx.run("INSERT INTO line VALUES ('loose')")).toThrow(
        expect.objectContaining({ code: "TX_REVOKED" }),
      );
    });
    const appending = store.append([appendEntry("appended")]);
    const results = await Promise.allSettled([before, ending, appending]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
    expect(results[0]).toMatchObject({ reason: { code: "STORE_FAILED" } });
    expect(lines()).toEqual(["taken"]);
    expect((await store.lookup(SCOPE, ["appended"]))[0]?.pending).toBe(true);
    expect(await commit(first, (tx) => void tx.run("INSERT INTO line VALUES ('again')"))).toEqual([
      "settled",
    ]);
  });

  test("should be revoked when the callback ends, well or not", async () => {
    let kept: SqliteTx | undefined;
    await commit(await claimOf("a"), (tx) => void (kept = tx));
    const revoked = expect.objectContaining({ code: "TX_REVOKED" });
    expect(() => kept?.run("INSERT INTO line VALUES ('late')")).toThrow(revoked);
    const failing = commit(await claimOf("b"), async (tx) => {
      kept = tx;
      throw new Error("the user's own");
    });
    await expect(failing).rejects.toThrow("the user's own");
    expect(() => kept?.get("SELECT 1")).toThrow(revoked);
    expect(lines()).toEqual([]);
  });

  test("should hold other writes back while a callback waits, and show nobody what is not committed", async () => {
    const claim = await claimOf("a");
    let goOn = () => {};
    const waiting = new Promise<void>((resolve) => (goOn = resolve));
    const committing = commit(claim, async (tx) => {
      tx.run("INSERT INTO line VALUES ('a')");
      await waiting;
      tx.run("INSERT INTO line VALUES ('b')");
    });
    await clock.settle();
    const done: string[] = [];
    const appending = store.append([appendEntry("later")]).then(() => done.push("append"));
    const looking = store.countPresent(SCOPE).then((count) => done.push(`present: ${count}`));
    await clock.settle();
    expect(done).toEqual([]);
    expect(lines()).toEqual([]);
    goOn();
    expect(await committing).toEqual(["settled"]);
    await Promise.all([appending, looking]);
    expect(done.toSorted()).toEqual(["append", "present: 1"]);
    expect(lines()).toEqual(["a", "b"]);
  });

  test("should time out a callback that waits, and let the others through", async () => {
    const claim = await claimOf("a");
    let kept: SqliteTx | undefined;
    const hanging = commit(claim, (tx) => {
      tx.run("INSERT INTO line VALUES ('a')");
      kept = tx;
      return new Promise(() => {});
    });
    const refused = hanging.catch((error: unknown) => error);
    const other = store.append([appendEntry("other")]);
    await clock.advance(TIMEOUT.timeoutMs);
    expect(await refused).toMatchObject({ code: "COMMIT_TIMEOUT" });
    expect((await other)[0]?.status).toBe("accepted");
    expect(() => kept?.run("INSERT INTO line VALUES ('late')")).toThrow(
      expect.objectContaining({ code: "TX_REVOKED" }),
    );
    expect(lines()).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });
});
