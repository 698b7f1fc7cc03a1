/**
 * The user's writes and the settling of the work, in a transaction of their own.
 *
 * Leases are looked at before the transaction, and again when it settles, at its end: so it locks nothing of the store's
 * while the user's code runs, and who appends for the object does not wait for it. One that was lost meanwhile takes the
 * transaction with it (I3). Settling and COMMIT are one message, so that a process that stands still, or dies, at any
 * moment leaves no lock of the store's behind: others would wait for it, and in each other's transactions for each other.
 *
 * @module
 */

import type { Clock, Random } from "../../core/clock.ts";
import { commitTimeout, inCommitTime } from "../../core/commit-time.ts";
import { RetryLaterError, TrueupError } from "../../core/errors.ts";
import type { Settlement, SettleOutcome } from "../../core/store.ts";
import { booleans } from "./arrays.ts";
import type { Database, Row } from "./database.ts";
import type { PgPoolClient, PgTx } from "./driver.ts";
import {
  endsConnection,
  isBroken,
  isCanceled,
  isConflict,
  isIdleTimeout,
  leaseLost,
  storeError,
} from "./errors.ts";
import { type RunStatement, UserTransaction } from "./tx.ts";

/** The longest delay before work is tried again whose transaction was in another's way. */
const CONFLICT_DELAY_MS = 500;

/**
 * How much longer than the callback the server lets its transaction lie about, or wait in one of its statements, should
 * this process stand still.
 */
const GRACE_MS = 1_000;

/** Runs a function of the schema, as the last thing of the transaction, for the settlements at these places. */
export type LastCall = (values: (string | number | null)[], places: readonly number[]) => Promise<Row[]>;

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
  settle: (call: LastCall) => Promise<SettleOutcome[]>,
): Promise<SettleOutcome[]> {
  const connection = await Connection.take(database);
  const beganAt = clock.monotonic();
  let committing = false;
  try {
    const live = await connection.liveLeases(settlements);
    if (!live.includes(true)) throw leaseLost();
    await connection.begin(Math.ceil(timeoutMs + GRACE_MS));
    const transaction = new UserTransaction(connection.runStatement);
    try {
      await inCommitTime(clock, timeoutMs, () => write(transaction.handle, live));
    } finally {
      transaction.revoke();
    }
    connection.requireTransaction();
    const outcomes = await settle((values, places) => {
      // Given twice, it would be lost the second time.
      if (live.some((lives, place) => lives && !places.includes(place))) throw leaseLost();
      committing = connection.lostBy === undefined;
      return connection.end("settle_or_fail", [booleans(places, (place) => live[place] === true), ...values]);
    });
    connection.giveBack();
    return outcomes;
  } catch (thrown) {
    const { lostBy } = connection;
    // Where COMMIT was sent, nobody can say that it was rolled back, unless the server has said so before.
    const ended = lostBy ?? (isCanceled(thrown) ? thrown : undefined);
    const rolledBack = ended !== undefined && (!committing || isIdleTimeout(ended));
    const tooLate = rolledBack && clock.monotonic() - beganAt > timeoutMs;
    const error = tooLate ? commitTimeout(timeoutMs, ended) : thrown;
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

  /** @param limitMs how long the server lets the transaction wait: for its client, or in a statement for others */
  async begin(limitMs: number): Promise<void> {
    const statement = "current_setting('statement_timeout')::interval";
    const sql = `BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${limitMs};
      SELECT set_config('statement_timeout', '${limitMs}', true)
      WHERE ${statement} = '0' OR ${statement} > '${limitMs} ms'`;
    await this.#ask(() => this.client.query(sql));
  }

  /** Calls a function of the schema, and commits. */
  async end(name: string, values: readonly (string | number | null)[]): Promise<Row[]> {
    return await this.#ask(() => this.#database.callAndCommit(this.client, name, values));
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

function ignore(): void {}
