/** The stores that processes of crash tests can be told to use, by name. */
import { DatabaseSync } from "node:sqlite";
import { Keyv } from "keyv";
import type { Store } from "../../../src/core/store.ts";
import { postgresStore, type PgTx } from "../../../src/stores/postgres.ts";
import { keyvStore } from "../../../src/stores/keyv.ts";
import { redisStore } from "../../../src/stores/redis.ts";
import { sqliteStore, type SqliteTx } from "../../../src/stores/sqlite.ts";
import {
  breakPostgres,
  breakSqlite,
  type Failpoint,
  type Failpoints,
  KEYV_POINTS,
  PATH_POINTS,
  POSTGRES_POINTS,
  SQLITE_POINTS,
  STORE_POINTS,
} from "./failpoints.ts";
import { file, type Place, REDIS, redisKeys, redisPrefix, schemaOf, schemas } from "./places.ts";

/** A statement of the handler's, with numbered parameters as SQLite writes them. */
export type Line = readonly [sql: string, ...params: (string | number)[]];

export interface CrashStore {
  /** Makes the store in a process that may die, with failpoints of its own kind. */
  make(path: string, points: Failpoints): Store<unknown>;
  /** Makes a place for a scenario's data. */
  place(directory: string): Promise<Place>;
  /** How the handler writes: with `change.commit`; where absent, beside the store, idempotently. */
  readonly commit?: ((tx: never, lines: readonly Line[]) => void | Promise<void>) | undefined;
  /** With what a commit is refused of a process that was asleep. @default that the lease is lost */
  readonly refusals?: readonly string[];
  /** The store's tables that can be looked at: the index, and all that a process which is late must leave alone. */
  readonly tables?: { readonly index: string; readonly written: readonly string[] } | undefined;
  readonly points: readonly Failpoint[];
  /** The server that it is on. */
  readonly service?: "postgres" | "redis";
  /** How long a life waits for the leases of the one before, where several may live at once. */
  readonly leaseMs?: number;
}

/** Those of a call that this store does not have, or that this kind of handler does not make. */
const COMMITTING: readonly Failpoint[] = ["commit: before", "commit: after", "handler: inside commit"];
const beside = (points: readonly Failpoint[]) => points.filter((point) => !COMMITTING.includes(point));

const sqlite = {
  make: (path: string, points: Failpoints) => {
    breakSqlite(points);
    return sqliteStore({ path }) as Store<unknown>;
  },
  place: (directory: string) => file(directory, false),
  commit: (tx: SqliteTx, lines: readonly Line[]) => {
    for (const [sql, ...params] of lines) tx.run(sql, ...params);
  },
  tables: {
    index: "trueup_object",
    written: ["trueup_object", "trueup_checkpoint", "trueup_pass_page", "trueup_claim", "trueup_since"],
  },
};

const postgres = {
  make: (path: string, points: Failpoints) => {
    breakPostgres(points);
    return postgresStore({ url: path, schema: schemaOf(path) }) as Store<unknown>;
  },
  place: schemas,
  // It was within the callback, and the server, which waits for nobody that long, has ended the transaction.
  refusals: ["LEASE_LOST", "COMMIT_TIMEOUT"],
  commit: async (tx: PgTx, lines: readonly Line[]) => {
    for (const [sql, ...params] of lines) await tx.query(sql.replaceAll("?", "$"), params);
  },
  tables: { index: "object", written: ["object", "checkpoint", "pass_page", "work"] },
  service: "postgres",
} as const;

/** Only the service dies: what a server's own death leaves is in redis-trouble.test.ts. */
const redis = {
  make: (path: string) => redisStore({ url: REDIS, prefix: redisPrefix(path) }) as Store<unknown>,
  place: redisKeys,
  service: "redis",
  leaseMs: 1_000,
} as const;

const keyv = {
  make: (path: string, points: Failpoints) =>
    keyvStore(new Keyv({ store: new FileMap(`${path}-keyv`, points) })) as Store<unknown>,
  place: (directory: string) => file(directory, true),
};

/** To join: a name, how it is made, where its data lies, and which failpoints it passes. */
export const crashStores = {
  sqlite: { ...sqlite, points: [...PATH_POINTS, ...STORE_POINTS, ...SQLITE_POINTS] },
  "sqlite, without commit": {
    make: sqlite.make,
    place: keyv.place,
    points: beside([...PATH_POINTS, ...STORE_POINTS]),
  },
  postgres: { ...postgres, points: [...PATH_POINTS, ...STORE_POINTS, ...POSTGRES_POINTS] },
  redis: { ...redis, points: beside([...PATH_POINTS, ...STORE_POINTS]) },
  keyv: { ...keyv, points: beside([...PATH_POINTS, ...STORE_POINTS, ...KEYV_POINTS]) },
} satisfies Record<string, CrashStore>;

export type CrashStoreName = keyof typeof crashStores;

/** A map that is written through to a file, key by key, as Keyv's adapters do. */
class FileMap extends Map<string, unknown> {
  readonly #db: DatabaseSync;
  readonly #points: Failpoints;

  constructor(path: string, points: Failpoints) {
    super();
    this.#points = points;
    this.#db = new DatabaseSync(path);
    this.#db.exec("CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value TEXT)");
    for (const { key, value } of this.#db.prepare("SELECT key, value FROM entry").all()) {
      super.set(String(key), JSON.parse(String(value)));
    }
  }

  override set(key: string, value: unknown): this {
    this.#points.pass("key: before");
    this.#db.prepare("INSERT OR REPLACE INTO entry VALUES (?, ?)").run(key, JSON.stringify(value));
    this.#points.pass("key: after");
    return super.set(key, value);
  }

  override delete(key: string): boolean {
    this.#points.pass("key: before");
    this.#db.prepare("DELETE FROM entry WHERE key = ?").run(key);
    this.#points.pass("key: after");
    return super.delete(key);
  }
}
