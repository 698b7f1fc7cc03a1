/**
 * The tables, and how a file is brought to them.
 *
 * All names start with `trueup_`, because the user's tables live in the same file (see `change.commit`). For the same
 * reason the schema's version is kept in a table of our own: `PRAGMA user_version` may be the user's.
 *
 * Numbers are integers, moments are milliseconds since the epoch, and whatever is small and meant for people is text:
 * the `sqlite3` shell is a good enough inspector.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { TrueupError } from "../../core/errors.ts";

/**
 * Each migration brings the schema from version i to i + 1. They run in order, each once, in one transaction, and are
 * never changed after a release: a correction is a migration of its own.
 */
export const migrations: readonly string[] = [
  `
-- One row: the logical clock, and who works on the store. owner_epoch 0: nobody does.
CREATE TABLE trueup_store (
  one             INTEGER PRIMARY KEY CHECK (one = 1),
  counter         INTEGER NOT NULL,
  scopes_changed  INTEGER NOT NULL, -- counter at the last forgetting; what processes remember of scopes is void then
  owner_epoch     INTEGER NOT NULL,
  owner_heartbeat INTEGER NOT NULL,
  owner_lease_ms  INTEGER NOT NULL,
  owner_locked    INTEGER NOT NULL, -- whether it holds the lock that the operating system drops with its process
  owner_pid       INTEGER
);
INSERT INTO trueup_store VALUES (1, 0, 0, 0, 0, 0, 0, NULL);

-- AUTOINCREMENT: the number of a forgotten scope never means another one.
CREATE TABLE trueup_scope (
  n          INTEGER PRIMARY KEY AUTOINCREMENT,
  provider   TEXT NOT NULL,
  connection TEXT NOT NULL,
  resource   TEXT NOT NULL,
  present    INTEGER NOT NULL DEFAULT 0, -- how many objects the index holds as present
  last_error TEXT,
  forgotten  INTEGER                     -- 1: invisible, and swept away bit by bit
);
CREATE UNIQUE INDEX trueup_scope_key ON trueup_scope (provider, connection, resource) WHERE forgotten IS NULL;

-- Two lanes a scope: n = 2 * scope for live work, n = 2 * scope + 1 for repair work.
CREATE TABLE trueup_lane (
  n          INTEGER PRIMARY KEY,
  provider   TEXT NOT NULL,
  connection TEXT NOT NULL,
  resource   TEXT NOT NULL,
  repair     INTEGER NOT NULL,
  turn       INTEGER,                    -- place in the queue of lanes that have work now; NULL: not in it
  due        INTEGER,                    -- when it joins that queue; NULL: it is in it, or has no work
  held_until INTEGER NOT NULL DEFAULT 0  -- the pause of its connection
);
CREATE INDEX trueup_lane_turn ON trueup_lane (provider, resource, repair, turn) WHERE turn IS NOT NULL;
CREATE INDEX trueup_lane_due ON trueup_lane (provider, resource, due) WHERE due IS NOT NULL;
CREATE INDEX trueup_lane_connection ON trueup_lane (provider, connection);

-- One narrow row an object, because it is what appending, claiming and settling read and write; what is long lives
-- elsewhere. Waiting or leased: due is set. Dead: dead is 1.
CREATE TABLE trueup_object (
  n            INTEGER PRIMARY KEY,
  scope        INTEGER NOT NULL,
  id           TEXT NOT NULL,
  state        TEXT,                       -- 'present', 'gone', or NULL: the index does not know it
  version      TEXT,
  hash         TEXT,
  row_hash     TEXT,
  revision     INTEGER,
  evidence     INTEGER,
  touched      INTEGER NOT NULL DEFAULT 0, -- counter at the last append, settling or voided lease
  not_before   INTEGER,
  lane         INTEGER,
  due          INTEGER,
  dirty_since  INTEGER,                    -- for rows that hold nothing: since when
  generation   INTEGER NOT NULL DEFAULT 0, -- counter at the last append
  attempts     INTEGER NOT NULL DEFAULT 0, -- without the one that an open lease stands for
  lags         INTEGER NOT NULL DEFAULT 0,
  begun        INTEGER NOT NULL DEFAULT 0,
  forced       INTEGER NOT NULL DEFAULT 0, -- generation of the last append with force
  dead         INTEGER,
  origin       TEXT,
  hint         TEXT,
  hint_version TEXT,
  hint_order   TEXT,
  event_count  INTEGER NOT NULL DEFAULT 0,
  head         INTEGER,                    -- its newest event in trueup_event
  first_event  TEXT,                       -- the event that made it dirty, where that is short; it has no row there
  first_at     INTEGER,                    -- when that came
  keys         TEXT,                       -- its newest keys of the ledger
  older_keys   INTEGER NOT NULL DEFAULT 0, -- 1: more of them are in trueup_ledger
  error        TEXT,
  UNIQUE (scope, id)
);
CREATE INDEX trueup_object_waiting ON trueup_object (lane, due, dirty_since) WHERE due IS NOT NULL;
CREATE INDEX trueup_object_dead ON trueup_object (scope) WHERE dead IS NOT NULL;
CREATE INDEX trueup_object_empty ON trueup_object (dirty_since)
  WHERE state IS NULL AND due IS NULL AND dead IS NULL AND begun = 0;

-- The open leases: a small table, so that claiming leaves the object's row alone. since_*: what was appended after
-- the claim; it becomes the object's fresh work, or joins what there is if the claim is not brought to an end.
CREATE TABLE trueup_lease (
  n             INTEGER PRIMARY KEY, -- the object
  fence         INTEGER NOT NULL,
  since         INTEGER,             -- when the first of these appends came; NULL: none did
  since_origin  TEXT,
  since_hint    TEXT,
  since_version TEXT,
  since_order   TEXT,
  since_count   INTEGER NOT NULL DEFAULT 0
);

-- Events that are not in their object's row. Written at the end, read through the chain of prev, swept from the start:
-- no index is needed. seq is the generation.
CREATE TABLE trueup_event (
  seq  INTEGER PRIMARY KEY,
  prev INTEGER,
  at   INTEGER NOT NULL,
  body TEXT NOT NULL
);

-- What the ledger knows of objects whose rows had no room for it.
CREATE TABLE trueup_ledger (object INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (object, key)) WITHOUT ROWID;

-- What came with one transaction: a JSON array of objects' numbers, each followed by its key (or null). So expiry reads
-- exactly what has expired, and neither searches nor keeps an index of when things came.
CREATE TABLE trueup_arrival (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, objects TEXT NOT NULL);

-- What passes over lists have seen: object numbers as little-endian uint32, a row a page.
CREATE TABLE trueup_pass_page (
  scope   INTEGER NOT NULL,
  pass    TEXT NOT NULL,
  page    INTEGER NOT NULL,
  objects BLOB NOT NULL,
  PRIMARY KEY (scope, pass, page)
);

CREATE TABLE trueup_checkpoint (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trueup_lock (name TEXT PRIMARY KEY, fence INTEGER NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE trueup_pause (
  provider   TEXT NOT NULL,
  connection TEXT NOT NULL,
  until      INTEGER, -- NULL: until resumed
  reason     TEXT NOT NULL,
  PRIMARY KEY (provider, connection)
) WITHOUT ROWID;
`,
  `
-- The claim log: which objects were claimed together, a JSON array of their numbers; see claim-log.ts.
CREATE TABLE trueup_claim (fence INTEGER PRIMARY KEY, objects TEXT NOT NULL);

-- What was appended to leased objects since they were claimed: it becomes the object's fresh work, or joins what there is
-- if the claim is not brought to an end.
CREATE TABLE trueup_since (
  n             INTEGER PRIMARY KEY, -- the object
  at            INTEGER NOT NULL,    -- when the first of these appends came
  origin        TEXT NOT NULL,
  hint          TEXT,
  version       TEXT,
  version_order TEXT,
  count         INTEGER NOT NULL     -- of events
);

-- Leases had a row each. In the log, one that was touched since its claim is no lease.
INSERT INTO trueup_claim SELECT fence, json_group_array(n) FROM trueup_lease GROUP BY fence;
INSERT INTO trueup_since
  SELECT n, since, since_origin, since_hint, since_version, since_order, since_count FROM trueup_lease
  WHERE since IS NOT NULL;
UPDATE trueup_object SET touched = l.fence - 1 FROM trueup_lease l WHERE l.n = trueup_object.n AND touched >= l.fence;
DROP TABLE trueup_lease;
`,
];

/**
 * Brings the schema up to date. Safe from several processes at once: who comes second waits, and finds it done.
 * @throws TrueupError `STORE_VERSION` when a newer trueup wrote the file.
 */
export function migrate(db: DatabaseSync): void {
  if (schemaVersion(db) === migrations.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    db.exec("CREATE TABLE IF NOT EXISTS trueup_schema (version INTEGER NOT NULL)");
    const version = schemaVersion(db);
    if (version > migrations.length) {
      throw new TrueupError(
        "STORE_VERSION",
        `the store has schema ${version}, and this trueup knows up to ${migrations.length}: upgrade trueup here too`,
      );
    }
    for (const migration of migrations.slice(version)) db.exec(migration);
    db.exec("DELETE FROM trueup_schema");
    db.prepare("INSERT INTO trueup_schema VALUES (?)").run(migrations.length);
    db.exec("COMMIT");
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

/** 0: the file has no tables of ours yet. */
function schemaVersion(db: DatabaseSync): number {
  const table = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'trueup_schema'").get();
  if (table === undefined) return 0;
  const row = db.prepare("SELECT max(version) AS version FROM trueup_schema").get() as {
    version: number | null;
  };
  return row.version ?? 0;
}
