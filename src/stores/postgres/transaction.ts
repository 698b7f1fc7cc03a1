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
import { invalidOption, RetryLaterError, TrueupError } from "../../core/errors.ts";
import type { Settlement, SettleOutcome } from "../../core/store.ts";
import type { Database, Row } from "./database.ts";
import type { PgPoolClient, PgStatement, PgTx } from "./driver.ts";
import { isBroken, isConflict, storeError } from "./errors.ts";

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
 * @throws TrueupError `LEASE_LOST`, `COMMIT_TIMEOUT`; RetryLaterError where the transaction was in another's way; what
 *   `write` threw. Nothing is written then.
 */
export async function inTransaction(
  { database, clock, random, timeoutMs }: TransactionOptions,
  settlements: readonly Settlement[],
  write: (tx: PgTx, live: readonly boolean[]) => void | Promise<void>,
  settle: (call: (values: unknown[]) => Promise<Row[]>) => Promise<SettleOutcome[]>,
): Promise<SettleOutcome[]> {
  const connection = await Connection.take(database);
  try {
    const live = await connection.liveLeases(settlements);
    if (!live.includes(true)) throw leaseLost();
    const idleMs = Math.ceil(timeoutMs + GRACE_MS);
    await connection.run(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${idleMs}`);
    const transaction = new UserTransaction(connection.client);
    try {
      await inTime(clock, () => write(transaction.handle, live), timeoutMs);
    } finally {
      transaction.revoke();
    }
    const outcomes = await settle((values) => connection.call("settle", values));
    if (outcomes.some((outcome, i) => outcome === "lost" && live[i])) throw leaseLost();
    await connection.run("COMMIT");
    connection.giveBack();
    return outcomes;
  } catch (error) {
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
  readonly #database: Database;
  #taken = true;

  private constructor(client: PgPoolClient, database: Database) {
    this.client = client;
    this.#database = database;
    client.on("error", ignore); // the statement under way tells of it
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

  giveBack(destroy = false): void {
    if (!this.#taken) return;
    this.#taken = false;
    this.client.removeListener("error", ignore);
    if (destroy) this.client.on("error", ignore); // it may still complain while it ends
    this.client.release(destroy);
  }

  /** After a timeout, or where the connection itself may be what failed, it is destroyed, and the server rolls back. */
  async rollBack(error: unknown): Promise<void> {
    const timedOut = error instanceof TrueupError && error.code === "COMMIT_TIMEOUT";
    const cause = error instanceof TrueupError && error.code === "STORE_FAILED" ? error.cause : undefined;
    if (timedOut || (cause !== undefined && isBroken(cause))) {
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

  async #ask<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw storeError(error, this.#database.schema);
    }
  }
}

/** White space and both kinds of comments before a word. */
const FIRST_WORD =
  /^(?:[\s;]|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*(?:\*\/|$))*([A-Za-z]+)(?:\s+([A-Za-z]+))?/;

const ENDS = new Set(["BEGIN", "START", "COMMIT", "END", "ABORT", "DISCARD"]);

/** One callback's handle. */
class UserTransaction {
  readonly handle: PgTx;
  #revoked = false;

  constructor(client: PgPoolClient) {
    this.handle = {
      query: async (statement: string | PgStatement, values?: readonly unknown[]) => {
        if (this.#revoked) {
          throw new TrueupError(
            "TX_REVOKED",
            "the callback of commit has ended: its tx cannot be used any more",
          );
        }
        refuseEscapes(typeof statement === "string" ? statement : statement.text);
        return (await client.query(statement, values)) as never;
      },
    };
  }

  revoke(): void {
    this.#revoked = true;
  }
}

function refuseEscapes(sql: string): void {
  const [, first = "", second = ""] = FIRST_WORD.exec(sql) ?? [];
  const [word, next] = [first.toUpperCase(), second.toUpperCase()];
  const toSavepoint = word === "ROLLBACK" && /\bTO\b/i.test(sql);
  const ends = ENDS.has(word) || word === "ROLLBACK" || (word === "PREPARE" && next === "TRANSACTION");
  if (!ends || toSavepoint) return;
  throw invalidOption(`tx does not run ${word}: the engine begins and ends the transaction`);
}

/** Waits for the callback, but no longer than `timeoutMs`; one that blocks the thread is found out afterwards. */
async function inTime(clock: Clock, run: () => void | Promise<void>, timeoutMs: number): Promise<void> {
  const tooLong = () =>
    new TrueupError(
      "COMMIT_TIMEOUT",
      `the callback of commit took longer than ${timeoutMs} ms and was rolled back`,
    );
  const start = clock.monotonic();
  const running = run();
  if (running !== undefined) {
    await new Promise<void>((resolve, reject) => {
      const cancel = clock.setTimer(() => reject(tooLong()), timeoutMs);
      running.then(resolve, reject).finally(cancel);
    });
  }
  if (clock.monotonic() - start > timeoutMs) throw tooLong();
}

function leaseLost(): TrueupError {
  return new TrueupError("LEASE_LOST", "the work is leased to another: nothing was written");
}

function ignore(): void {}
