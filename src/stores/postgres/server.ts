/**
 * What the server, and what lies between, can be trusted with.
 *
 * @module
 */

import type { Logger } from "../../core/hooks.ts";
import type { Database } from "./database.ts";
import { storeError } from "./errors.ts";

/**
 * Finds out whether connections stay the same from transaction to transaction (see {@link Database.direct}), and warns
 * of settings with which a commit is no promise.
 */
export async function inspectServer(
  database: Database,
  listen: boolean | undefined,
  logger: Logger,
): Promise<void> {
  const text = `SELECT pg_backend_pid(), current_setting('synchronous_commit'), current_setting('fsync')`;
  let seen: readonly [pid: number, synchronous: string, fsync: string];
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
  const [pid, synchronous, fsync] = seen;
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
