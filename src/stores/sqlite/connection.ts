/**
 * Opening the file, and what SQLite's errors mean to callers.
 *
 * @module
 */

import { DatabaseSync } from "node:sqlite";
import { TrueupError } from "../../core/errors.ts";
import { migrate } from "./schema.ts";

/** How long one statement waits for another process's transaction. It blocks the thread: the committer asks again. */
const BUSY_TIMEOUT_MS = 250;

/** While opening nothing else runs, and another process may be migrating. */
const OPENING_BUSY_TIMEOUT_MS = 10_000;

/** Set when a database is created; what `maxBytes` is counted in. */
const PAGE_BYTES = 4_096;

/**
 * Pages of the write-ahead log after which a commit copies them into the database: 8 MiB. With fewer, pages that are
 * changed again and again are copied more often (with half of it, a drain takes 6 % longer); with more, the log takes
 * longer until it is full once and is written over, and syncing a file that grows takes twice as long as one that does
 * not.
 */
const CHECKPOINT_PAGES = 2_000;

/** 16 MiB more would make work on scattered objects some 6 % faster; the system's own cache holds the file too. */
const CACHE_KIB = 16_384;

/** The result codes that are told apart; the lower byte of an extended code is the code itself. */
const SQLITE = {
  busy: 5,
  locked: 6,
  readonly: 8,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  notADatabase: 26,
} as const;

export interface ConnectionOptions {
  readonly path: string;
  readonly maxBytes: number | undefined;
}

/**
 * Opens the file, creating it and its tables where they are missing.
 * @throws TrueupError `STORE_FAILED`, saying what to do; `STORE_VERSION`.
 */
export function openDatabase(options: ConnectionOptions): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(options.path, { timeout: OPENING_BUSY_TIMEOUT_MS });
    enterWal(db);
    db.exec(`
      PRAGMA synchronous = FULL;
      PRAGMA cache_size = -${CACHE_KIB};
      PRAGMA temp_store = MEMORY;
      PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};
      PRAGMA journal_size_limit = ${CHECKPOINT_PAGES * PAGE_BYTES * 2};
    `);
    if (options.maxBytes !== undefined) {
      const { page_size: pageBytes } = db.prepare("PRAGMA page_size").get() as { page_size: number };
      db.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(options.maxBytes / pageBytes))}`);
    }
    migrate(db);
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return db;
  } catch (error) {
    db?.close();
    throw storeError(error, options);
  }
}

/**
 * Going over to a write-ahead log needs the file alone for a moment, and SQLite does not wait for that by itself:
 * where several processes create one file, all but one are refused and have to ask again.
 */
function enterWal(db: DatabaseSync): void {
  for (let tries = 1; ; tries += 1) {
    try {
      db.exec("PRAGMA journal_mode = WAL");
      return;
    } catch (error) {
      if (!isBusy(error) || tries === 200) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

/** Whether another connection is in the way, so that asking again may help. */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code === SQLITE.busy || code === SQLITE.locked;
}

/** What a caller is told of a failure. Errors of our own pass through. */
export function storeError(cause: unknown, options: ConnectionOptions): TrueupError {
  if (cause instanceof TrueupError) return cause as TrueupError;
  const { path, maxBytes } = options;
  const code = resultCode(cause);
  if (code === SQLITE.full && maxBytes !== undefined) {
    const remedy = "raise `maxBytes`, or let work be done and old events expire";
    return new TrueupError("STORE_FULL", `${path} is at its limit of ${maxBytes} bytes: ${remedy}`, {
      cause,
    });
  }
  return new TrueupError("STORE_FAILED", `${path}: ${reason(code, cause)}`, { cause });
}

function reason(code: number | undefined, cause: unknown): string {
  switch (code) {
    case SQLITE.busy:
    case SQLITE.locked:
      return "another process has kept the database locked for too long";
    case SQLITE.readonly:
      return "the database or its directory cannot be written: both must be writable for this user";
    case SQLITE.full:
      return "the disk is full: free some space, and the work goes on";
    case SQLITE.cannotOpen:
      return "cannot be opened: its directory must exist and be writable, and the path must name a file";
    case SQLITE.notADatabase:
      return "is not a SQLite database: name another file, or move this one away";
    case SQLITE.corrupt:
      return "the database is damaged: restore a backup, or recover it with the sqlite3 shell's .recover";
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}

function resultCode(error: unknown): number | undefined {
  const { errcode } = (error ?? {}) as { errcode?: unknown };
  return typeof errcode === "number" ? errcode & 0xff : undefined;
}
