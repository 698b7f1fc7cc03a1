/**
 * The right to work: one owner at a time, noticed at once when it dies.
 *
 * Two things say that an owner lives. A lock, held on a file beside the database, which the operating system drops with
 * its process: who can take it knows that its last holder is dead. And a heartbeat in the database, for an owner that
 * lives and does nothing (it is suspended, or its machine was): that is taken over too, and finds out when it wakes,
 * because the epoch in the database is another's.
 *
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type Clock, type Random, sleep } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import type { Logger } from "../../core/hooks.ts";
import type { Committer } from "./committer.ts";
import { isBusy } from "./connection.ts";
import type { Abandoned } from "./abandoned.ts";
import type { Leases } from "./leases.ts";
import type { StoreRow, Turn } from "./turn.ts";

/** While one waits for the owner, how often one looks again: a twentieth of the lease, within these bounds. */
const LOOK_MIN_MS = 10;
const LOOK_MAX_MS = 500;

interface Parts {
  readonly committer: Committer;
  readonly leases: Leases;
  readonly abandoned: Abandoned;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Where the lock is; `undefined` for a database that no other process can open. */
  readonly lockPath: string | undefined;
}

/** The right to work, held. */
export interface Ownership {
  readonly epoch: number;
  heartbeat(): Promise<boolean>;
  /** Gives the right up; its leases are due again. */
  release(): Promise<void>;
  /** Lets go without a word to the database, as a crash does. */
  abandon(): void;
}

/** What one who waits has seen of the owner. */
interface Watch {
  epoch: number;
  heartbeat: number;
  /** By the monotonic clock: since when nothing of the above changed. */
  since: number;
}

export class Owners {
  readonly #parts: Parts;
  readonly #read: StatementSync;
  readonly #write: StatementSync;
  readonly #dropLocks: StatementSync;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#parts = parts;
    this.#read = db.prepare("SELECT * FROM trueup_store");
    this.#dropLocks = db.prepare("DELETE FROM trueup_lock");
    this.#write = db.prepare(`
      UPDATE trueup_store SET owner_epoch = ?, owner_heartbeat = ?, owner_lease_ms = ?, owner_locked = ?, owner_pid = ?`);
  }

  /** @throws TrueupError `STORE_IN_USE` after `leaseMs`; the signal's reason when it aborts. */
  async take(leaseMs: number, signal: AbortSignal | undefined): Promise<Ownership> {
    const { clock } = this.#parts;
    const watch: Watch = { epoch: -1, heartbeat: -1, since: 0 };
    const lookMs = Math.min(Math.max(leaseMs / 20, LOOK_MIN_MS), LOOK_MAX_MS);
    let start: number | undefined;
    for (;;) {
      signal?.throwIfAborted();
      const ownership = await this.#try(leaseMs, watch);
      if (ownership !== undefined) return ownership;
      // Counted from the first look, so that the last one has seen a whole lease without a sign of life.
      start ??= clock.monotonic();
      const left = start + leaseMs - clock.monotonic();
      if (left <= 0) {
        const message = `another process works on this store, and did not stop within ${leaseMs} ms`;
        throw new TrueupError("STORE_IN_USE", message);
      }
      await sleep(clock, Math.min(lookMs, left), signal);
    }
  }

  async #try(leaseMs: number, watch: Watch): Promise<Ownership | undefined> {
    const { committer, lockPath } = this.#parts;
    const lock = lockPath === undefined ? undefined : ProcessLock.take(lockPath);
    try {
      const epoch = await committer.write((turn) => this.#takeIn(turn, leaseMs, watch, lock !== undefined));
      if (epoch !== undefined) return this.#held(epoch, leaseMs, lock);
    } catch (error) {
      lock?.release();
      throw error;
    }
    lock?.release();
    return undefined;
  }

  /** Returns the epoch of the new owner; `undefined` while there is another. */
  #takeIn(turn: Turn, leaseMs: number, watch: Watch, locked: boolean): number | undefined {
    const owner = this.#read.get() as unknown as StoreRow;
    if (owner.owner_epoch !== 0) {
      const dead = locked && owner.owner_locked === 1;
      if (!dead && !this.#isStale(turn, owner, watch)) return undefined;
      const leases = this.#parts.abandoned.voidAll(turn, { kind: "died", random: this.#parts.random });
      this.#dropLocks.run(); // locks are held by who works
      const how = dead ? "died" : "has given no sign of life";
      this.#parts.logger.warn({ leases }, `taking the store over: the process that worked on it ${how}`);
    }
    const epoch = turn.tick();
    this.#setOwner(turn, { epoch, heartbeat: turn.now, leaseMs, locked });
    return epoch;
  }

  /**
   * Whether the owner's lease is over. The wall clock alone may not say so, since it can be set forward while the owner
   * is well: nor may the time that one has watched, where a clock that was set back would make it wait for ever.
   */
  #isStale(turn: Turn, owner: StoreRow, watch: Watch): boolean {
    const monotonic = this.#parts.clock.monotonic();
    if (owner.owner_epoch !== watch.epoch || owner.owner_heartbeat !== watch.heartbeat) {
      Object.assign(watch, { epoch: owner.owner_epoch, heartbeat: owner.owner_heartbeat, since: monotonic });
    }
    const watchedMs = monotonic - watch.since;
    const lease = owner.owner_lease_ms;
    return watchedMs >= lease || (turn.now - owner.owner_heartbeat > lease && watchedMs >= lease / 2);
  }

  #held(epoch: number, leaseMs: number, taken: ProcessLock | undefined): Ownership {
    const { abandoned, committer, leases, lockPath } = this.#parts;
    leases.own(epoch);
    let lock = taken;
    let over = false;
    const letGo = () => {
      over = true;
      lock?.release();
      lock = undefined;
    };
    return {
      epoch,
      heartbeat: async () => {
        if (over) return false;
        // After a takeover from one that was suspended, the lock is still that one's until it wakes.
        if (lockPath !== undefined) lock ??= ProcessLock.take(lockPath);
        const locked = lock !== undefined;
        const alive = await committer.write((turn) => {
          if (turn.store.owner_epoch !== epoch) return false;
          this.#setOwner(turn, { epoch, heartbeat: turn.now, leaseMs, locked });
          return true;
        });
        if (!alive || over) letGo();
        return alive && !over;
      },
      release: async () => {
        if (over) return;
        over = true;
        try {
          await committer.write((turn) => {
            if (turn.store.owner_epoch !== epoch) return;
            abandoned.voidAll(turn, { kind: "released" });
            this.#setOwner(turn, { epoch: 0, heartbeat: 0, leaseMs: 0, locked: false });
          });
        } finally {
          letGo();
        }
      },
      abandon: letGo,
    };
  }

  #setOwner(turn: Turn, owner: { epoch: number; heartbeat: number; leaseMs: number; locked: boolean }): void {
    const { epoch, heartbeat, leaseMs, locked } = owner;
    this.#write.run(epoch, heartbeat, leaseMs, Number(locked), epoch === 0 ? null : process.pid);
    turn.store = { ...turn.store, owner_epoch: epoch };
  }
}

/** An exclusive transaction on an empty database: of all locks on files, the one that Node has built in. */
class ProcessLock {
  readonly #db: DatabaseSync;

  private constructor(db: DatabaseSync) {
    this.#db = db;
  }

  static take(path: string): ProcessLock | undefined {
    const db = new DatabaseSync(path, { timeout: 0 });
    try {
      db.exec("BEGIN EXCLUSIVE");
      return new ProcessLock(db);
    } catch (error) {
      db.close();
      if (isBusy(error)) return undefined;
      throw error;
    }
  }

  release(): void {
    this.#db.close();
  }
}
