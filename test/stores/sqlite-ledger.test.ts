import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { dedupeKey } from "../../src/core/event.ts";
import type { Store } from "../../src/core/store.ts";
import { appendEntry, environment, temporaryDirectory } from "./sqlite-fixture.ts";

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

async function sweepAll(): Promise<void> {
  while (await store.sweep());
}

test("the ledger should keep each key once, under its object, until it expires", async () => {
  const entry = appendEntry("a");
  const second = { ...entry, dedupeKey: dedupeKey(entry.ref, "second") };
  await store.append([entry, entry, second, appendEntry("b")]);
  const objects = outside.prepare("SELECT object FROM trueup_ledger ORDER BY object").all();
  expect(objects.map((row) => row["object"])).toEqual([1, 1, 2]);
  await sweepAll();
  expect(count("trueup_ledger"), "control: nothing has expired").toBe(3);
  await clock.advance(60_001);
  await sweepAll();
  expect([count("trueup_ledger"), count("trueup_ledger_page")]).toEqual([0, 0]);
});

test("the ledger should drop the keys of a forgotten connection's objects with them", async () => {
  await store.append([appendEntry("a", "acme"), appendEntry("a", "other")]);
  await store.forget("crm", "acme");
  await sweepAll();
  expect(count("trueup_ledger")).toBe(1);
  expect((await store.append([appendEntry("a", "other")]))[0]?.status).toBe("duplicate");
});
