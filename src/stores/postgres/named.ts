/**
 * Small named values: checkpoints, locks, pauses of connections, and permits of their rates.
 *
 * @module
 */

import type { Lock, Pause, PermitGrant, RateBudget } from "../../core/store.ts";
import type { Database } from "./database.ts";
import type { StoreTime } from "./time.ts";

export class Named {
  readonly #database: Database;
  readonly #time: StoreTime;

  constructor(database: Database, time: StoreTime) {
    this.#database = database;
    this.#time = time;
  }

  async getCheckpoint(key: string): Promise<string | undefined> {
    const text = `SELECT value FROM ${this.#database.quoted}.checkpoint WHERE key = $1`;
    const [row] = await this.#database.query({ text }, [key]);
    return row?.[0] as string | undefined;
  }

  async setCheckpoint(key: string, value: string | null): Promise<void> {
    const table = `${this.#database.quoted}.checkpoint`;
    if (value === null) await this.#database.query({ text: `DELETE FROM ${table} WHERE key = $1` }, [key]);
    else {
      const text = `INSERT INTO ${table} VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`;
      await this.#database.query({ text }, [key, value]);
    }
  }

  /** A lock that has run out stays its holder's until another takes it: the fence decides, not the moment. */
  async lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined> {
    const s = this.#database.quoted;
    const renew = `UPDATE ${s}.lock SET expires_at = ${s}.moment($1) + $3::bigint WHERE name = $2 AND fence = $4 RETURNING fence`;
    const take = `
      INSERT INTO ${s}.lock AS l VALUES ($2, nextval('${s}.counter'), ${s}.moment($1) + $3::bigint)
      ON CONFLICT (name) DO UPDATE SET fence = nextval('${s}.counter'), expires_at = ${s}.moment($1) + $3::bigint
      WHERE l.expires_at <= ${s}.moment($1) RETURNING fence`;
    const values = [this.#time.moment, name, Math.ceil(ttlMs)];
    const [row] =
      held === undefined
        ? await this.#database.query({ text: take }, values)
        : await this.#database.query({ text: renew }, [...values, held.fence]);
    return row === undefined ? undefined : { name, fence: row[0] as number };
  }

  async unlock({ name, fence }: Lock): Promise<void> {
    const text = `DELETE FROM ${this.#database.quoted}.lock WHERE name = $1 AND fence = $2`;
    await this.#database.query({ text }, [name, fence]);
  }

  async pause({ provider, connection, until, reason }: Pause): Promise<void> {
    const delay = until === null ? null : this.#time.delay(until);
    await this.#database.call("pause_connection", [this.#time.moment, provider, connection, delay, reason]);
  }

  async resume(provider: string, connection: string): Promise<void> {
    await this.#database.call("resume_connection", [provider, connection]);
  }

  async pauses(): Promise<Pause[]> {
    const s = this.#database.quoted;
    const text = `
      SELECT provider, connection, until, reason, ${s}.moment($1) FROM ${s}.pause
      WHERE until IS NULL OR until > ${s}.moment($1) ORDER BY provider, connection`;
    const rows = await this.#database.query({ text }, [this.#time.moment]);
    return rows.map((row) => {
      const [provider, connection, until, reason, storeNow] = row as [
        string,
        string,
        number | null,
        string,
        number,
      ];
      return {
        provider,
        connection,
        until: until === null ? null : this.#time.local(until, storeNow),
        reason,
      };
    });
  }

  async takePermits(budget: RateBudget, wanted: number): Promise<PermitGrant> {
    const { provider, connection, requests, perMs } = budget;
    const [row] = await this.#database.call("take_permits", [
      this.#time.moment,
      provider,
      connection,
      requests,
      Math.ceil(perMs),
      wanted,
    ]);
    const [permits, retryInMs] = row as [number, number];
    return { permits, retryInMs };
  }
}
