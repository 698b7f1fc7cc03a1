/**
 * The user's writes and the settling of the work, in a transaction of their own.
 *
 * Leases are looked at before the transaction, and again when it settles, at its end: so it locks nothing of the store's
 * while the user's code runs, and who appends for the object does not wait for it. One that was lost meanwhile takes the
 * transaction with it (I3).
 *
 * @module
 */

import type { Clock, Random } from "../../core/clock.ts";
import { commitTimeout, inCommitTime } from "../../core/commit-time.ts";
import { RetryLaterError, TrueupError } from "../../core/errors.ts";
import type { Settlement, SettleOutcome } from "../../core/store.ts";
import type { Database, Row } from "./database.ts";
import type { PgPoolClient, PgTx } from "./driver.ts";
import { endsConnection, isBroken, isConflict, isIdleTimeout, storeError } from "./errors.ts";
import { type RunStatement, UserTransaction } from "./tx.ts";

/** The longest delay before work is tried again whose transaction was in another's way. */
const CONFLICT_DELAY_MS = 500;

/** How much longer than the callback the server lets its transaction lie about, should this process stand still. */
const GRACE_MS = 1_000;

interface TransactionOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly timeoutMs: number;
}

/**
 * @throws TrueupError `LEASE_LOST`, `COMMIT_TIMEOUT` (also where the server has ended the transaction of a process that
 *   stood still), `STORE_FAILED`; RetryLaterError where the transaction was in another's way; what `write` threw. Nothing
 *   is written then.
 */
export async function inTransaction(
  { database, clock, random, timeoutMs }: TransactionOptions,
  settlements: readonly Settlement[],
  write: (tx: PgTx, live: readonly boolean[]) => void | Promise<void>,
  settle: (call: (values: unknown[]) => Promise<Row[]>) => Promise<SettleOutcome[]>,
): Promise<SettleOutcome[]> {
  const connection = await Connection.take(database);
  const beganAt = clock.monotonic();
  let committing = false;
  try {
    const live = await connection.liveLeases(settlements);
    if (!live.includes(true)) throw leaseLost();
    const idleMs = Math.ceil(timeoutMs + GRACE_MS);
    await connection.run(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${idleMs}`);
    const transaction = new UserTransaction(connection.runStatement);
    try {
      await inCommitTime(clock, timeoutMs, () => write(transaction.handle, live));
    } finally {
      transaction.revoke();
    }
    connection.requireTransaction();
    const outcomes = await settle((values) => connection.call("settle", values));
    if (outcomes.some((outcome, i) => outcome === "lost" && live[i])) throw leaseLost();
    committing = connection.lostBy === undefined;
    await connection.run("COMMIT");
    connection.giveBack();
    return outcomes;
  } catch (thrown) {
    const { lostBy } = connection;
    // Where COMMIT was sent, nobody can say that it was rolled back, unless the server has said so before.
    const rolledBack = lostBy !== undefined && (!committing || isIdleTimeout(lostBy));
    const tooLate = rolledBack && clock.monotonic() - beganAt > timeoutMs;
    const error = tooLate ? commitTimeout(timeoutMs, lostBy) : thrown;
    await connection.rollBack(error);
    if (isConflict(error) || isConflict((error as Error | undefined)?.cause)) {
      const message = "the transaction was in another's way and was rolled back: the work is done again";
      throw new RetryLaterError(Math.ceil(random() * CONFLICT_DELAY_MS), message, { cause: error });
    }
    throw error;
  }
}

/** A connection that is taken from the pool for one commit. */
class Connection {
  readonly client: PgPoolClient;
  /** Why the connection is gone, if it is. The statement that is under way may have another story. */
  lostBy: unknown;
  readonly #database: Database;
  #taken = true;

  private constructor(client: PgPoolClient, database: Database) {
    this.client = client;
    this.#database = database;
    client.on("error", this.#lose);
  }

  static async take(database: Database): Promise<Connection> {
    try {
      return new Connection(await database.pool.connect(), database);
    } catch (error) {
      throw storeError(error, database.schema);
    }
  }

  async liveLeases(settlements: readonly Settlement[]): Promise<boolean[]> {
    const { quoted } = this.#database;
    const text = `SELECT EXISTS (SELECT FROM ${quoted}.work w WHERE w.n = u.n AND w.fence = u.fence
        AND EXISTS (SELECT FROM ${quoted}.lane l WHERE l.n = w.lane)) -- of a connection that was forgotten there is none
      FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY u(n, fence, place) ORDER BY u.place`;
    const keys = [settlements.map(({ claim }) => claim.key), settlements.map(({ claim }) => claim.fence)];
    const rows = await this.#ask(() => this.#database.on(this.client, { text }, keys));
    return rows.map(([live]) => live as boolean);
  }

  async call(name: string, values: unknown[]): Promise<Row[]> {
    return await this.#ask(() => this.#database.callOn(this.client, name, values));
  }

  async run(sql: string): Promise<void> {
    await this.#ask(() => this.client.query(sql));
  }

  /** What fails because of the user's own statement, they hear of as it is; the rest is the store's to tell. */
  readonly runStatement: RunStatement = async (statement, values) => {
    try {
      return (await this.client.query(statement, values)) as unknown;
    } catch (error) {
      if (endsConnection(error)) this.#lose(error);
      if (this.lostBy === undefined) throw error;
      throw storeError(this.lostBy, this.#database.schema);
    }
  };

  /** A statement that was not understood as one that ends the transaction may have ended it all the same. */
  requireTransaction(): void {
    if (this.client.getTransactionStatus?.() !== "I") return;
    throw new TrueupError(
      "STORE_FAILED",
      "a statement of the commit ended the transaction: what was written before it stays, and the work is done again",
    );
  }

  giveBack(destroy = false): void {
    if (!this.#taken) return;
    this.#taken = false;
    this.client.removeListener("error", this.#lose);
    if (destroy) this.client.on("error", ignore); // it may still complain while it ends
    this.client.release(destroy);
  }

  /** After a timeout, or where the connection itself may be what failed, it is destroyed, and the server rolls back. */
  async rollBack(error: unknown): Promise<void> {
    const timedOut = error instanceof TrueupError && error.code === "COMMIT_TIMEOUT";
    const cause = error instanceof TrueupError && error.code === "STORE_FAILED" ? error.cause : undefined;
    if (timedOut || this.lostBy !== undefined || (cause !== undefined && isBroken(cause))) {
      this.giveBack(true);
      return;
    }
    try {
      await this.client.query("ROLLBACK");
      this.giveBack();
    } catch {
      this.giveBack(true);
    }
  }

  readonly #lose = (error: unknown): void => {
    this.lostBy ??= error;
  };

  async #ask<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (endsConnection(error)) this.#lose(error);
      throw storeError(this.lostBy ?? error, this.#database.schema);
    }
  }
}

function leaseLost(): TrueupError {
  return new TrueupError("LEASE_LOST", "the work is leased to another: nothing was written");
}

function ignore(): void {}
