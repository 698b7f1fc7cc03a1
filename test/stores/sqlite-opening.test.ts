import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { sqliteStore } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { appendEntry, environment, SCOPE, temporaryDirectory } from "./sqlite-fixture.ts";

const open = async (path: string, maxBytes?: number) => {
  const store = sqliteStore({ path, maxBytes });
  await store.open(environment(new TestClock()));
  return store;
};

describe("sqliteStore's options", () => {
  test.each([
    ["no path", { path: undefined }],
    ["an empty path, which SQLite would take for a temporary file", { path: "" }],
    ["a URI", { path: "file:sync.db" }],
    ["a limit too small to hold the tables", { path: "sync.db", maxBytes: 1_000 }],
    ["a limit that is no number of bytes", { path: "sync.db", maxBytes: 2_000_000.5 }],
  ])("should refuse %s", (_, options) => {
    expect(() => sqliteStore(options as { path: string })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID" }),
    );
  });

  test("should open nothing by themselves", () => {
    using directory = temporaryDirectory();
    sqliteStore({ path: directory.file("sync.db") });
    expect(existsSync(directory.file("sync.db"))).toBe(false);
  });

  test("should promise durability for a file alone", () => {
    expect(sqliteStore({ path: "sync.db" }).guarantees).toEqual({
      durability: "disk",
      shared: false,
      transactional: true,
    });
    expect(sqliteStore({ path: ":memory:" }).guarantees.durability).toBe("none");
  });
});

describe("opening", () => {
  test("should refuse a directory that does not exist, and create none", async () => {
    using directory = temporaryDirectory();
    const path = directory.file("missing/sync.db");
    await expect(open(path)).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringMatching(/must exist/),
    });
    expect(existsSync(directory.file("missing"))).toBe(false);
  });

  test("should refuse what is no database, and leave it as it was", async () => {
    using directory = temporaryDirectory();
    writeFileSync(directory.file("notes.txt"), "dear diary, ".repeat(1_000));
    await expect(open(directory.file("notes.txt"))).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringMatching(/not a SQLite database/),
    });
    mkdirSync(directory.file("folder"));
    await expect(open(directory.file("folder"))).rejects.toMatchObject({ code: "STORE_FAILED" });
  });

  test("should refuse a file of a newer trueup", async () => {
    using directory = temporaryDirectory();
    const path = directory.file("sync.db");
    await (await open(path)).close();
    const db = new DatabaseSync(path);
    db.exec("UPDATE trueup_schema SET version = version + 1");
    await expect(open(path)).rejects.toMatchObject({ code: "STORE_VERSION" });
    db.exec("UPDATE trueup_schema SET version = version - 1");
    db.close();
    await (await open(path)).close(); // control
  });

  test("should leave the user's own tables and version alone", async () => {
    using directory = temporaryDirectory();
    const path = directory.file("app.db");
    const db = new DatabaseSync(path);
    db.exec(
      "PRAGMA user_version = 57; CREATE TABLE event (x); CREATE TABLE object (x); CREATE TABLE store (x)",
    );
    const store = await open(path);
    await store.append([appendEntry("a")]);
    await store.close();
    expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: 57 });
    expect(db.prepare("SELECT count(*) AS n FROM event").get()).toEqual({ n: 0 });
    db.close();
  });

  test("should refuse every call before it and after closing", async () => {
    using directory = temporaryDirectory();
    const store = sqliteStore({ path: directory.file("sync.db") });
    await expect(store.append([appendEntry("a")])).rejects.toMatchObject({ code: "STORE_FAILED" });
    await store.open(environment(new TestClock()));
    const session = await store.work({ leaseMs: 1_000 });
    await store.close();
    await expect(store.counter(SCOPE)).rejects.toMatchObject({ code: "STORE_FAILED" });
    await expect(session.claim({ provider: "crm", resource: "contact", limit: 1 })).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
  });

  test("should answer what was asked for before closing", async () => {
    using directory = temporaryDirectory();
    const store = await open(directory.file("sync.db"));
    const appending = store.append([appendEntry("a")]);
    await store.close();
    expect((await appending)[0]?.status).toBe("accepted");
  });
});

describe("a store at its limit", () => {
  test("should refuse what does not fit, keep what it answered for, and go on when there is room", async () => {
    using directory = temporaryDirectory();
    const store = await open(directory.file("sync.db"), 1_048_576);
    const kept: string[] = [];
    const page = (connection: string, n: number) =>
      Array.from({ length: 100 }, (_, i) => appendEntry(`${connection}${n}-${i}`, connection));
    const fill = async () => {
      for (let n = 0; n < 1_000; n += 1) {
        const entries = page("big", n);
        await store.append(entries);
        kept.push(...entries.map(({ ref }) => ref.id));
      }
    };
    await expect(fill()).rejects.toMatchObject({
      code: "STORE_FULL",
      message: expect.stringMatching(/maxBytes/),
    });
    const found = await store.lookup({ ...SCOPE, connection: "big" }, kept);
    expect(found.every((object) => object?.pending === true)).toBe(true);

    await store.forget("crm", "big");
    while (await store.sweep());
    expect((await store.append(page("small", 0)))[0]?.status).toBe("accepted");
    await store.close();
  });
});
