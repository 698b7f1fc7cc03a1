/** The stores that processes of crash tests can be told to use, by name. */
import { hash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { Redis } from "ioredis";
import { Keyv } from "keyv";
import type { Store } from "../../../src/core/store.ts";
import { keyvStore } from "../../../src/stores/keyv.ts";
import { redisStore } from "../../../src/stores/redis.ts";
import { sqliteStore, type SqliteTx } from "../../../src/stores/sqlite.ts";
import {
  breakSqlite,
  type Failpoint,
  type Failpoints,
  KEYV_POINTS,
  PATH_POINTS,
  SQLITE_POINTS,
  STORE_POINTS,
} from "./failpoints.ts";

export interface CrashStore {
  /** Makes the store in a process that may die, with failpoints of its own kind. */
  make(where: string, points: Failpoints): Store<SqliteTx>;
  /** How the handler writes: with `change.commit` into the store's own file, or beside it, idempotently. */
  readonly commits: boolean;
  readonly points: readonly Failpoint[];
  /** The server that it is on. */
  readonly service?: "redis";
  /** How long a life waits for the leases of the one before, where several may live at once. */
  readonly leaseMs?: number;
  /** Removes what its server keeps of it. */
  readonly dispose?: (where: string) => Promise<void>;
}

/** Those of a call that this store does not have, or that this kind of handler does not make. */
const COMMITTING: readonly Failpoint[] = ["commit: before", "commit: after", "handler: inside commit"];
const beside = (points: readonly Failpoint[]) => points.filter((point) => !COMMITTING.includes(point));

const sqlite = (path: string, points: Failpoints) => {
  breakSqlite(points);
  return sqliteStore({ path });
};

const redisUrl = process.env["TRUEUP_TEST_REDIS_URL"] ?? "redis://127.0.0.1:6379";
const redisPrefix = (where: string) => `trueup-crash-${hash("sha1", where)}`;

async function removeFromRedis(where: string): Promise<void> {
  const client = new Redis(redisUrl);
  for await (const keys of client.scanStream({ match: `{${redisPrefix(where)}*`, count: 1_000 }))
    await Promise.all((keys as string[]).map((key) => client.unlink(key)));
  await client.quit();
}

/** To join: a name, how it is made, and which failpoints it passes. */
export const crashStores = {
  sqlite: { make: sqlite, commits: true, points: [...PATH_POINTS, ...STORE_POINTS, ...SQLITE_POINTS] },
  "sqlite, without commit": {
    make: sqlite,
    commits: false,
    points: beside([...PATH_POINTS, ...STORE_POINTS]),
  },
  keyv: {
    make: (path, points) => keyvStore(new Keyv({ store: new FileMap(`${path}-keyv`, points) })),
    commits: false,
    points: beside([...PATH_POINTS, ...STORE_POINTS, ...KEYV_POINTS]),
  },
  // Only the service dies: what a server's own death leaves is in redis-trouble.test.ts.
  redis: {
    make: (where) => redisStore({ url: redisUrl, prefix: redisPrefix(where) }),
    commits: false,
    points: beside([...PATH_POINTS, ...STORE_POINTS]),
    service: "redis",
    leaseMs: 1_000,
    dispose: removeFromRedis,
  },
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
