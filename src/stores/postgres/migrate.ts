/**
 * Bringing the schema up to date, from many processes at once.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { TrueupError } from "../../core/errors.ts";
import type { Database } from "./database.ts";
import type { PgPoolClient } from "./driver.ts";
import { isBroken, storeError } from "./errors.ts";
import { migrations } from "./sql.ts";

/** The channel on which idle workers are told of work. */
export function channelOf(schema: string): string {
  return `trueup_${createHash("sha256").update(schema).digest("hex").slice(0, 16)}`;
}

/**
 * `"auto"`: runs what is missing, under a lock that one process at a time holds. `"check"`: only looks.
 * @throws TrueupError `STORE_VERSION` when a newer trueup wrote the schema; `STORE_FAILED`
 */
export async function migrate(database: Database, mode: "auto" | "check"): Promise<void> {
  const client = await connect(database);
  let broken = false;
  try {
    const version = await versionOf(database, client);
    refuseNewer(version, database.schema);
    if (version === migrations.length) return;
    if (mode === "check") throw missing(version, database.schema);
    await migrateAlone(database, client);
  } catch (error) {
    broken = isBroken(error) && !(error instanceof TrueupError);
    throw storeError(error, database.schema);
  } finally {
    client.release(broken);
  }
}

async function connect(database: Database): Promise<PgPoolClient> {
  try {
    return await database.pool.connect();
  } catch (error) {
    throw storeError(error, database.schema);
  }
}

async function migrateAlone(database: Database, client: PgPoolClient): Promise<void> {
  const { quoted: s, schema } = database;
  const channel = channelOf(schema);
  await client.query("BEGIN");
  try {
    // Of the transaction, not the session: a pooler may give the next one to somebody else.
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`${channel}:migrate`]);
    const version = await versionOf(database, client); // another may have been first
    refuseNewer(version, schema);
    if (version === 0) {
      const [found] = await database.on(client, { text: "SELECT 1 FROM pg_namespace WHERE nspname = $1" }, [
        schema,
      ]);
      // Only where it is missing, since asking for it needs the right to create one.
      if (found === undefined) await client.query(`CREATE SCHEMA ${s}`);
      await client.query(
        `CREATE TABLE IF NOT EXISTS ${s}.migration (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())`,
      );
    }
    for (let next = version; next < migrations.length; next += 1) {
      await client.query(migrations[next]?.(s, channel));
      await client.query(`INSERT INTO ${s}.migration (version) VALUES ($1)`, [next + 1]);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

/** 0: there is nothing of ours yet. */
async function versionOf(database: Database, client: PgPoolClient): Promise<number> {
  const [table] = await database.on(
    client,
    {
      text: `SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'migration'`,
    },
    [database.schema],
  );
  if (table === undefined) return 0;
  const [row] = await database.on(client, {
    text: `SELECT coalesce(max(version), 0) FROM ${database.quoted}.migration`,
  });
  return row?.[0] as number;
}

function refuseNewer(version: number, schema: string): void {
  if (version <= migrations.length) return;
  throw new TrueupError(
    "STORE_VERSION",
    `schema ${schema} has version ${version}, and this trueup knows up to ${migrations.length}: upgrade trueup here too`,
  );
}

function missing(version: number, schema: string): TrueupError {
  const what = version === 0 ? `has nothing of trueup's` : `has version ${version} of ${migrations.length}`;
  const numbers = migrations.map((_, i) => i + 1).slice(version);
  return new TrueupError(
    "STORE_FAILED",
    `schema ${schema} ${what}: migrations ${numbers.join(", ")} are missing, and \`migrate: "check"\` only looks; start once with "auto", as a role that may create`,
  );
}
