import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it } from "vitest";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { testStore } from "trueup/testing";
import type { Store } from "../../src/core/store.ts";

describe("sqliteStore on a file", () => {
  const directories = new Map<Store<SqliteTx>, string>();
  const directoryOf = (store: Store<SqliteTx>) => directories.get(store) ?? "";
  const pathOf = (store: Store<SqliteTx>) => join(directoryOf(store), "sync.db");
  const open = (directory: string) => {
    const store = sqliteStore({ path: join(directory, "sync.db") });
    directories.set(store, directory);
    return store;
  };
  const outside = <T>(store: Store<SqliteTx>, look: (db: DatabaseSync) => T): T => {
    const db = new DatabaseSync(pathOf(store));
    try {
      return look(db);
    } finally {
      db.close();
    }
  };

  testStore<SqliteTx>(
    { describe, it },
    {
      create: () => open(mkdtempSync(join(tmpdir(), "trueup-"))),
      reopen: (store) => open(directoryOf(store)),
      dispose: (store) => rmSync(directoryOf(store), { recursive: true }),
      transaction: {
        prepare: (store) => outside(store, (db) => db.exec("CREATE TABLE line (text TEXT NOT NULL)")),
        write: (tx, line) => void tx.run("INSERT INTO line VALUES (?)", line),
        read: (store) =>
          outside(store, (db) =>
            db
              .prepare("SELECT text FROM line")
              .all()
              .map((row) => String(row["text"])),
          ),
      },
    },
  );
});
