/**
 * What the server, and what lies between, can be trusted with.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { Logger } from "../../core/hooks.ts";
import type { Database } from "./database.ts";
import { storeError } from "./errors.ts";

/**
 * Finds out whether connections stay the same from transaction to transaction (see {@link Database.direct}), and warns
 * of settings with which a commit is no promise.
 * @throws TrueupError `STORE_FAILED`
 */
export async function inspectServer(
  database: Database,
  listen: boolean | undefined,
  logger: Logger,
): Promise<void> {
  const text = `SELECT pg_backend_pid(), current_setting('synchronous_commit'), current_setting('fsync'),
    current_setting('transaction_isolation')`;
  let seen: readonly [pid: number, synchronous: string, fsync: string, isolation: string];
  let own: number | null | undefined;
  try {
    const client = await database.pool.connect();
    own = (client as { processID?: number | null }).processID;
    try {
      const [row] = await database.on(client, { text });
      seen = row as never;
    } finally {
      client.release();
    }
  } catch (error) {
    throw storeError(error, database.schema);
  }
  const [pid, synchronous, fsync, isolation] = seen;
  // Statements of one call must see what others have committed while it waited for them.
  if (isolation !== "read committed") {
    throw new TrueupError(
      "STORE_FAILED",
      `PostgreSQL, schema ${database.schema}: default_transaction_isolation is ${isolation}, and this store needs "read committed"; set it so for the store's role`,
    );
  }
  // A pooler makes up the number that it tells its clients; the server tells the true one.
  const pooled = own !== undefined && own !== null && own !== pid;
  database.direct = listen ?? !pooled;
  if (pooled && listen === undefined) {
    logger.info(
      {},
      "a connection pooler lies before PostgreSQL: idle workers poll, and statements are not prepared (listen: true or false says so for certain)",
    );
  }
  if (fsync === "off" || synchronous === "off") {
    logger.warn(
      { synchronous_commit: synchronous, fsync },
      "PostgreSQL is set to answer before a commit is on its disk: a crash of the server can lose what was acknowledged",
    );
  }
}
