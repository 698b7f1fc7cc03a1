/** Where one scenario's data lies, and how it is looked at between two lives. */
import { hash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Client } from "pg";

export type Row = Readonly<Record<string, unknown>>;

export interface Place extends AsyncDisposable {
  /** What the store is made with. */
  readonly path: string;
  /** The file of the handler's own tables, where it writes beside the store. */
  readonly copy: string;
  /** Asks, or changes, what the handler has written, and the store's tables where they are in the same database. */
  query(sql: string): Promise<Row[]>;
  /** Whatever a process that was killed has left under way comes to its end, and its leases with it. */
  rest(): Promise<void>;
}

/** A file in the scenario's directory. @param beside Whether the handler has a file of its own */
export function file(directory: string, beside: boolean): Promise<Place> {
  const path = join(directory, "sync.db");
  const copy = beside ? `${path}-copy` : path;
  return Promise.resolve({
    path,
    copy,
    query: (sql: string) => {
      const db = new DatabaseSync(copy, { timeout: 5_000 });
      try {
        return Promise.resolve(sql.split(";").flatMap((one) => db.prepare(one).all()));
      } finally {
        db.close();
      }
    },
    rest: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

const SERVER = process.env["TRUEUP_TEST_POSTGRES_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

let places = 0;

/** A schema for the store, and one for the handler. */
export async function schemas(): Promise<Place> {
  places += 1;
  const schema = `trueup_test_crash_${process.pid}_${places}`;
  const client = new Client({ connectionString: SERVER });
  await client.connect();
  await client.query(`CREATE SCHEMA ${schema}_user; SET search_path = ${schema}_user, ${schema}`);
  const query = async (sql: string) => (await client.query<Row>(sql)).rows;
  return {
    path: postgresPath(schema),
    copy: ":memory:",
    query,
    async rest() {
      // A statement that was sent is run to its end, though nobody hears of it.
      const alive = `SELECT FROM pg_stat_activity WHERE application_name = '${schema}'`;
      while ((await query(alive)).length > 0) await query("SELECT pg_sleep(0.001)");
      // Others would wait until the lease of the dead has run out. It has, now.
      await query("UPDATE session SET expires_at = 0; UPDATE lock SET expires_at = 0");
    },
    async [Symbol.asyncDispose]() {
      await query(`DROP SCHEMA IF EXISTS ${schema} CASCADE; DROP SCHEMA ${schema}_user CASCADE`);
      await client.end();
    },
  };
}

function postgresPath(schema: string): string {
  const url = new URL(SERVER);
  url.searchParams.set("application_name", schema);
  url.searchParams.set("options", `-c search_path=${schema}_user`);
  return url.href;
}

/** The schema of a place's `path`. */
export function schemaOf(path: string): string {
  return new URL(path).searchParams.get("application_name")!;
}

export const REDIS = process.env["TRUEUP_TEST_REDIS_URL"] ?? "redis://127.0.0.1:6379";

export function redisPrefix(path: string): string {
  return `trueup-crash-${hash("sha1", path)}`;
}

/** Keys of the scenario's own, and a file for the handler. */
export async function redisKeys(directory: string): Promise<Place> {
  const place = await file(directory, true);
  return {
    ...place,
    async [Symbol.asyncDispose]() {
      const client = new Redis(REDIS);
      for await (const keys of client.scanStream({ match: `{${redisPrefix(place.path)}*`, count: 1_000 }))
        await Promise.all((keys as string[]).map((key) => client.unlink(key)));
      await client.quit();
    },
  };
}
