/**
 * One shared transaction, as the work in it sees it.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { StoredEvent } from "../../core/event.ts";

/** The one row of `trueup_store`. */
export interface StoreRow {
  readonly counter: number;
  readonly scopes_changed: number;
  readonly owner_epoch: number;
  readonly owner_heartbeat: number;
  readonly owner_lease_ms: number;
  readonly owner_locked: number;
}

/**
 * What is true for one transaction and no longer, since another process may write between two of them: the moment, the
 * counter, and what was read once so as not to be read again.
 */
export class Turn {
  /** Milliseconds since the epoch, the same for all work of the transaction. */
  readonly now: number;
  /** As it was when the transaction began, but for changes of the owner, which are kept up with. */
  store: StoreRow;
  /** Lanes that are known to be in the queue; see `Lanes.wake`. */
  readonly awake = new Set<number>();
  /** Scopes that this transaction created; see `Scopes.demand`. */
  readonly newScopes = new Map<string, number>();
  /** What came and will expire: numbers of objects, each followed by the key of its event, or null; see `Ledger`. */
  readonly arrivals: (number | string | null)[] = [];
  /** Whether its work stands. */
  committed = false;
  #undone = 0;
  #counter: number;

  constructor(store: StoreRow, now: number) {
    this.store = store;
    this.#counter = store.counter;
    this.now = now;
  }

  /** Advances the counter and returns its new value. */
  tick(): number {
    this.#counter += 1;
    return this.#counter;
  }

  /** A part of its work was rolled back: what was read or remembered of it holds no more. */
  undo(): void {
    this.#undone += 1;
    this.awake.clear();
  }

  /** How often a part of its work was rolled back. */
  get undone(): number {
    return this.#undone;
  }

  /** Something came for an object that will expire. */
  arrived(object: number, event: StoredEvent | undefined, key: string | null): void {
    if (event !== undefined || key !== null) this.arrivals.push(object, key);
  }

  get counter(): number {
    return this.#counter;
  }
}

/** Begins and ends the part of a transaction that is the same for all: the counter, and what came. */
export class TurnKeeper {
  readonly #read: StatementSync;
  readonly #writeCounter: StatementSync;
  readonly #addArrival: StatementSync;

  constructor(db: DatabaseSync) {
    this.#read = db.prepare(
      `SELECT counter, scopes_changed, owner_epoch, owner_heartbeat, owner_lease_ms, owner_locked FROM trueup_store`,
    );
    this.#writeCounter = db.prepare("UPDATE trueup_store SET counter = ?");
    this.#addArrival = db.prepare("INSERT INTO trueup_arrival (seq, at, objects) VALUES (?, ?, ?)");
  }

  read(): StoreRow {
    return this.#read.get() as unknown as StoreRow;
  }

  begin(now: number): Turn {
    return new Turn(this.read(), now);
  }

  end(turn: Turn): void {
    if (turn.arrivals.length > 0) this.#addArrival.run(turn.tick(), turn.now, JSON.stringify(turn.arrivals));
    if (turn.counter !== turn.store.counter) this.#writeCounter.run(turn.counter);
  }
}
