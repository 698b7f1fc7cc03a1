/**
 * Small named values: checkpoints, locks, and the pauses of connections.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { TrueupError } from "../../core/errors.ts";
import type { Lock, Pause } from "../../core/store.ts";
import type { Lanes } from "./lanes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

interface LockRow {
  readonly fence: number;
  readonly expires_at: number;
}

export class Named {
  readonly #lanes: Lanes;
  readonly #getCheckpoint: Statement;
  readonly #setCheckpoint: Statement;
  readonly #deleteCheckpoint: Statement;
  readonly #getLock: Statement;
  readonly #setLock: Statement;
  readonly #deleteLock: Statement;
  readonly #getPause: Statement;
  readonly #setPause: Statement;
  readonly #deletePause: Statement;
  readonly #pauses: Statement;

  constructor(db: DatabaseSync, lanes: Lanes) {
    this.#lanes = lanes;
    this.#getCheckpoint = prepare(db, "SELECT value FROM trueup_checkpoint WHERE key = ?");
    this.#setCheckpoint = prepare(
      db,
      `INSERT INTO trueup_checkpoint (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2`,
    );
    this.#deleteCheckpoint = prepare(db, "DELETE FROM trueup_checkpoint WHERE key = ?");
    this.#getLock = prepare(db, "SELECT fence, expires_at FROM trueup_lock WHERE name = ?");
    this.#setLock = prepare(
      db,
      `
      INSERT INTO trueup_lock (name, fence, expires_at) VALUES (?1, ?2, ?3)
      ON CONFLICT DO UPDATE SET fence = ?2, expires_at = ?3`,
    );
    this.#deleteLock = prepare(db, "DELETE FROM trueup_lock WHERE name = ? AND fence = ?");
    this.#getPause = prepare(db, "SELECT until FROM trueup_pause WHERE provider = ? AND connection = ?");
    this.#setPause = prepare(
      db,
      `
      INSERT INTO trueup_pause (provider, connection, until, reason) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT DO UPDATE SET until = ?3, reason = ?4`,
    );
    this.#deletePause = prepare(db, "DELETE FROM trueup_pause WHERE provider = ? AND connection = ?");
    this.#pauses = prepare(
      db,
      `
      SELECT provider, connection, until, reason FROM trueup_pause WHERE until IS NULL OR until > ?
      ORDER BY provider, connection`,
    );
  }

  getCheckpoint(key: string): string | undefined {
    return (this.#getCheckpoint.get(key) as { value: string } | undefined)?.value;
  }

  setCheckpoint(key: string, value: string | null): void {
    if (value === null) this.#deleteCheckpoint.run(key);
    else this.#setCheckpoint.run(key, value);
  }

  /** A lock that has run out stays its holder's until another takes it: the fence decides, not the moment. */
  lock(turn: Turn, name: string, ttlMs: number, held: Lock | undefined): Lock | undefined {
    const row = this.#getLock.get(name) as LockRow | undefined;
    if (held !== undefined && row?.fence !== held.fence) return undefined;
    if (held === undefined && row !== undefined && row.expires_at > turn.now) return undefined;
    const fence = held?.fence ?? turn.tick();
    this.#setLock.run(name, fence, turn.now + ttlMs);
    return { name, fence };
  }

  unlock({ name, fence }: Lock): void {
    this.#deleteLock.run(name, fence);
  }

  /** @throws TrueupError `LEASE_LOST` when another has taken the lock, or nobody has it. */
  requireLock({ name, fence }: Lock): void {
    const row = this.#getLock.get(name) as LockRow | undefined;
    if (row?.fence !== fence) throw new TrueupError("LEASE_LOST", `the lock ${name} is no longer held`);
  }

  pause(turn: Turn, { provider, connection, until, reason }: Pause): void {
    const row = this.#getPause.get(provider, connection) as Pick<Pause, "until"> | undefined;
    const inForce = row !== undefined && (row.until === null || row.until > turn.now);
    if (inForce && (row.until === null || (until !== null && until < row.until))) return;
    this.#setPause.run(provider, connection, until, reason);
    this.#lanes.hold(turn, provider, connection, until);
  }

  resume(turn: Turn, provider: string, connection: string): void {
    this.#deletePause.run(provider, connection);
    this.#lanes.free(turn, provider, connection);
  }

  /** Pauses in force. */
  pauses(now: number): Pause[] {
    return this.#pauses.all(now).map((row) => ({ ...(row as unknown as Pause) }));
  }
}
