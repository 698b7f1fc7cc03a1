import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { dedupeKey, type Scope } from "../../src/core/event.ts";
import type { Logger } from "../../src/core/hooks.ts";
import type { AppendEntry, Claim, Settlement, Store, StoreEnvironment } from "../../src/core/store.ts";
import type { Clock } from "../../src/core/clock.ts";
import { sqliteStore, type SqliteTx } from "../../src/stores/sqlite.ts";
import type { StoreSuiteOptions } from "../../src/testing/store-suite/fixture.ts";

export const SCOPE: Scope = { provider: "crm", connection: "default", resource: "contact" };
export const ROUTE = { provider: "crm", resource: "contact" };
export const silentLogger: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export function environment(clock: Clock): StoreEnvironment {
  return { clock, random: () => 0.5, logger: silentLogger, eventTtlMs: 60_000, maxEventsPerChange: 10 };
}

/** An entry whose event has the object's id as its own. */
export function appendEntry(id: string, connection = "default"): AppendEntry {
  const ref = { ...SCOPE, connection, id };
  return {
    ref,
    dedupeKey: dedupeKey(ref, id),
    event: { id, origin: "webhook", receivedAt: 0 },
    origin: "webhook",
    lane: "live",
  };
}

export function doneWith(claim: Claim): Extract<Settlement, { readonly kind: "done" }> {
  const index = {
    state: "present",
    version: null,
    hash: "h",
    rowHash: null,
    revision: 1,
    evidence: claim.fence,
  } as const;
  return { claim, kind: "done", index };
}

/** A directory that is removed when the scope that uses it ends. */
export function temporaryDirectory(): {
  readonly path: string;
  file(name: string): string;
  [Symbol.dispose](): void;
} {
  const path = mkdtempSync(join(tmpdir(), "trueup-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Where files need not survive a loss of power, in memory if there is such a place: syncing is most of what tests wait for. */
export const fastDirectory = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** How suites get at stores, each on a file of its own. */
export function sqliteFiles(under: string = tmpdir()): StoreSuiteOptions<SqliteTx> {
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
  return {
    create: () => open(mkdtempSync(join(under, "trueup-"))),
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
  };
}
