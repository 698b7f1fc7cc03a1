/**
 * The user's own tables: a copy of the provider's objects, and a journal of what was applied to it. They lie in the
 * same file as the store, so that both are written in the transaction that settles the work (`change.commit`), and no
 * SIGKILL can come between.
 */
import { DatabaseSync } from "node:sqlite";

const TABLES = `
  CREATE TABLE IF NOT EXISTS copy (
    resource TEXT, repository TEXT, id TEXT, object TEXT NOT NULL,
    PRIMARY KEY (resource, repository, id)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS journal (
    number INTEGER PRIMARY KEY, resource TEXT, repository TEXT, id TEXT,
    kind TEXT NOT NULL, origin TEXT NOT NULL, events INTEGER NOT NULL
  );
`;

/** The part of `change` that is needed here. */
interface AppliedChange {
  readonly kind: "upsert" | "delete";
  readonly ref: { readonly resource: string; readonly connection: string; readonly id: string };
  readonly object?: unknown;
  readonly origin: string;
  readonly eventCount: number;
}

interface Tx {
  run(sql: string, ...values: (string | number)[]): unknown;
}

/** What the journal says. */
export interface Tally {
  /** Because of deliveries. */
  readonly handled: number;
  /** Events that shared the handling of another. */
  readonly coalesced: number;
  readonly deleted: number;
}

export function createTables(file: string): void {
  withDatabase(file, (database) => {
    database.exec("PRAGMA journal_mode = WAL");
    database.exec(TABLES);
  });
}

export function applyChange(tx: Tx, { kind, ref, object, origin, eventCount }: AppliedChange): void {
  const key = [ref.resource, ref.connection, ref.id];
  if (kind === "upsert")
    tx.run("INSERT OR REPLACE INTO copy VALUES (?, ?, ?, ?)", ...key, JSON.stringify(object));
  else tx.run("DELETE FROM copy WHERE resource = ? AND repository = ? AND id = ?", ...key);
  tx.run("INSERT INTO journal VALUES (NULL, ?, ?, ?, ?, ?, ?)", ...key, kind, origin, eventCount);
}

/** Names an object in the copy and in the truth alike. */
export function nameOf(resource: string, repository: string, id: string): string {
  return `${resource} ${repository} ${id}`;
}

export function readCopy(file: string): Map<string, Record<string, unknown>> {
  const rows = withDatabase(file, (database) => database.prepare("SELECT * FROM copy").all());
  return new Map(
    (rows as Record<string, string>[]).map((row) => [
      nameOf(row["resource"]!, row["repository"]!, row["id"]!),
      JSON.parse(row["object"]!) as Record<string, unknown>,
    ]),
  );
}

export function readTally(file: string): Tally {
  const query = `
    SELECT count(*) FILTER (WHERE origin = 'webhook') AS handled,
           coalesce(sum(max(events - 1, 0)), 0) AS coalesced,
           count(*) FILTER (WHERE kind = 'delete') AS deleted
      FROM journal`;
  return { ...(withDatabase(file, (database) => database.prepare(query).get()) as unknown as Tally) };
}

function withDatabase<Result>(file: string, use: (database: DatabaseSync) => Result): Result {
  const database = new DatabaseSync(file, { timeout: 5_000 });
  try {
    return use(database);
  } finally {
    database.close();
  }
}
