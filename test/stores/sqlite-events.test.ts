import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { sqliteStore } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { appendEntry, doneWith, environment, ROUTE, temporaryDirectory } from "./sqlite-fixture.ts";

/** Longer than what is kept in an object's row. */
const LONG = "long ".repeat(200);

test.each([
  ["all of them", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
  ["a run", [2, 3, 4, 5, 6, 7]],
  ["runs with gaps, short and long", [0, 1, 2, 3, 4, 6, 8, 9]],
  ["single ones", [1, 3, 5]],
  ["runs out of their order", [9, 8, 3, 4, 5, 6, 7, 0]],
])("events should go with what is settled, and no other: %s", async (_name, settled) => {
  const directory = temporaryDirectory();
  onTestFinished(() => directory[Symbol.dispose]());
  const path = directory.file("sync.db");
  const store = sqliteStore({ path });
  await store.open(environment(new TestClock()));
  onTestFinished(() => store.close());
  const ids = Array.from({ length: 10 }, (_, i) => `o${i}`);
  await store.append(
    ids.map((id) => {
      const entry = appendEntry(id);
      return { ...entry, event: { id, origin: "webhook" as const, receivedAt: 0, data: LONG } };
    }),
  );
  const session = await store.work({ leaseMs: 30_000 });
  const claims = await session.claim({ ...ROUTE, limit: 10 });
  const places = new Map(claims.map((claim) => [claim.ref.id, claim]));
  await session.settle(settled.map((i) => doneWith(places.get(`o${i}`)!)));
  const outside = new DatabaseSync(path);
  const rows = outside.prepare("SELECT body ->> 'id' AS id FROM trueup_event ORDER BY seq").all();
  outside.close();
  expect(rows.map((row) => row["id"])).toEqual(ids.filter((_id, i) => !settled.includes(i)));
});
