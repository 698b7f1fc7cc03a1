import { describe, it } from "vitest";
import type { SqliteTx } from "trueup/sqlite";
import { testStore } from "trueup/testing";
import { sqliteFiles } from "./sqlite-fixture.ts";

describe("sqliteStore on a file", () => {
  testStore<SqliteTx>({ describe, it }, sqliteFiles());
});
