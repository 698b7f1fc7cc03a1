import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import { prepare } from "../../src/stores/sqlite/statement.ts";

describe("numbered parameters", () => {
  it("should stand in any order, and as often as is wanted", () => {
    const db = new DatabaseSync(":memory:");
    const statement = prepare(db, "SELECT ?2 AS a, ?1 AS b, ?2 AS c");
    expect({ ...statement.get("first", "second") }).toEqual({ a: "second", b: "first", c: "second" });
    expect(statement.all("x", "y").map((row) => ({ ...row }))).toEqual([{ a: "y", b: "x", c: "y" }]);
    db.close();
  });

  it("should cost nothing where they stand in order, or are none", () => {
    const db = new DatabaseSync(":memory:");
    expect(prepare(db, "SELECT ?1, ?2")).toHaveProperty("sourceSQL", "SELECT ?, ?");
    expect({ ...prepare(db, "SELECT ? AS a").get(7) }).toEqual({ a: 7 });
    db.close();
  });

  it("should limit without being planned again for each limit", () => {
    const db = new DatabaseSync(":memory:");
    const numbers = "WITH n (i) AS (VALUES (1), (2), (3)) SELECT i FROM n ORDER BY i LIMIT ?1 OFFSET ?2";
    const statement = prepare(db, numbers);
    expect(statement).toHaveProperty("sourceSQL", expect.stringMatching(/ LIMIT 0 \+ \? OFFSET \?$/));
    expect([1, 2].map((limit) => statement.all(limit, 1).length)).toEqual([1, 2]);
    db.close();
  });

  it("should reach SQLite by no other way: Node 22.19 cannot bind them", () => {
    const folder = join(import.meta.dirname, "../../src/stores/sqlite");
    const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
    const direct = /\.prepare\(\s*(["`])(?:(?!\1)[^])*\?\d/;
    expect(texts.filter((text) => direct.test(text))).toEqual([]);
    expect(direct.test('db.prepare("SELECT ?1")')).toBe(true);
  });
});
