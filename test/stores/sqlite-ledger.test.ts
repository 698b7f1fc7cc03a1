import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { dedupeKey } from "../../src/core/event.ts";
import type { AppendEntry, Store } from "../../src/core/store.ts";
import { appendEntry, environment, ROUTE, temporaryDirectory } from "./sqlite-fixture.ts";

let directory: ReturnType<typeof temporaryDirectory>;
let clock: TestClock;
let store: Store<SqliteTx>;
let outside: DatabaseSync;

beforeEach(async () => {
  directory = temporaryDirectory();
  clock = new TestClock();
  store = sqliteStore({ path: directory.file("sync.db") });
  await store.open(environment(clock));
  outside = new DatabaseSync(directory.file("sync.db"));
});

afterEach(async () => {
  outside.close();
  await store.close();
  directory[Symbol.dispose]();
});

const count = (table: string) => outside.prepare(`SELECT count(*) AS rows FROM ${table}`).get()?.["rows"];

/** How many keys the rows of objects hold, by object. */
const keysInRows = () =>
  outside
    .prepare("SELECT keys FROM trueup_object ORDER BY n")
    .all()
    .map(({ keys }) => String(keys ?? "").split(",").length - 1);

async function sweepAll(): Promise<void> {
  while (await store.sweep());
}

/** The nth event about an object. */
function nth(id: string, n: number, connection?: string): AppendEntry {
  const entry = appendEntry(id, connection);
  return {
    ...entry,
    dedupeKey: dedupeKey(entry.ref, `event ${n}`),
    event: { id: `event ${n}`, origin: "webhook", receivedAt: 0 },
  };
}

const events = (id: string, first: number, last: number, connection?: string) =>
  Array.from({ length: last - first + 1 }, (_, i) => nth(id, first + i, connection));

const statuses = async (entries: readonly AppendEntry[]) =>
  [...new Set((await store.append(entries)).map(({ status }) => status))].toSorted();

describe("the ledger", () => {
  test("should keep each key once, with its object, until it expires", async () => {
    await store.append([nth("a", 1), nth("a", 1), nth("a", 2), nth("b", 1)]);
    expect(keysInRows()).toEqual([2, 1]);
    await sweepAll();
    expect(keysInRows(), "control: nothing has expired").toEqual([2, 1]);
    await clock.advance(60_001);
    await sweepAll();
    expect([keysInRows(), count("trueup_arrival")]).toEqual([[0, 0], 0]);
    expect(await statuses([nth("a", 1)])).toEqual(["accepted"]);
  });

  test("should know any number of keys of one object, with few of them in its row", async () => {
    expect(await statuses(events("a", 1, 100))).toEqual(["accepted"]);
    expect(await statuses(events("a", 1, 100))).toEqual(["duplicate"]);
    expect(await statuses(events("b", 1, 1)), "control: another object's").toEqual(["accepted"]);
    const [a] = keysInRows();
    expect(a).toBeLessThanOrEqual(16);
    expect(a! + Number(count("trueup_ledger"))).toBe(100);
  });

  test("should let exactly what has expired go, from the row and from beside it", async () => {
    await store.append(events("a", 1, 40));
    await clock.advance(30_000);
    await store.append(events("a", 41, 45));
    await clock.advance(30_001);
    await sweepAll();
    expect(await statuses(events("a", 41, 45))).toEqual(["duplicate"]);
    expect([keysInRows(), count("trueup_ledger")]).toEqual([[5], 0]);
    expect(await statuses(events("a", 1, 40))).toEqual(["accepted"]);
  });

  test("should be swept in slices, whether what came has keys or not", async () => {
    const keyless = (first: number) =>
      Array.from({ length: 600 }, (_, i) => ({ ...appendEntry(`o${first + i}`), dedupeKey: undefined }));
    await store.append(keyless(0));
    await store.append(keyless(600));
    await clock.advance(60_001);
    expect(await store.sweep()).toBe(true);
    expect(count("trueup_arrival")).toBe(1);
    await sweepAll();
    expect(count("trueup_arrival")).toBe(0);
  });

  test("should drop the keys of a forgotten connection's objects with them", async () => {
    await store.append([...events("a", 1, 40, "acme"), ...events("a", 1, 40, "other")]);
    const both = Number(count("trueup_ledger"));
    await store.forget("crm", "acme");
    await sweepAll();
    expect([keysInRows().length, count("trueup_ledger")]).toEqual([1, both / 2]);
    expect(await statuses(events("a", 1, 40, "other"))).toEqual(["duplicate"]);
  });
});

describe("events", () => {
  const claimed = async () => {
    const session = await store.work({ leaseMs: 30_000 });
    const claims = await session.claim({ ...ROUTE, limit: 1 });
    await session.release();
    return claims[0]!.events.map(({ id }) => id);
  };

  test("should stand in the object's row when they are first and short, and be handed out in order", async () => {
    const long = { ...nth("b", 1), event: { ...nth("b", 1).event!, data: "x".repeat(1_000) } };
    await store.append([nth("a", 1), nth("a", 2), nth("a", 3), long]);
    expect(
      outside.prepare("SELECT first_event IS NULL AS beside FROM trueup_object ORDER BY n").all(),
    ).toMatchObject([{ beside: 0 }, { beside: 1 }]);
    expect(count("trueup_event")).toBe(3);
    expect(await claimed()).toEqual(["event 1", "event 2", "event 3"]);
  });

  test("should not outlive their time in the row of an object that stays dirty", async () => {
    await store.append([{ ...nth("a", 1), dedupeKey: undefined }]);
    await clock.advance(30_000);
    await store.append([nth("a", 2)]);
    await sweepAll();
    expect(await claimed(), "control: nothing has expired").toEqual(["event 1", "event 2"]);
    await clock.advance(30_001);
    await sweepAll();
    expect(await claimed()).toEqual(["event 2"]);
    expect(outside.prepare("SELECT first_event FROM trueup_object").get()).toEqual({ first_event: null });
  });
});
