/**
 * Leases: what the process that works on the store has in hand.
 *
 * Granting and ending them is the better part of all writing, so they are kept in memory, and the claim log
 * (`claim-log.ts`) is read only where memory cannot know: in a process that does not work on the store, once a
 * transaction; in the one that does, at its first, after one that was rolled back, and when connections were forgotten.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Scope } from "../../core/event.ts";
import type { Claim } from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import type { ClaimLog, LoggedLease } from "./claim-log.ts";
import type { Events } from "./events.ts";
import { kindOf, scopeOf } from "./lane-number.ts";
import { toIndex, type WorkRow } from "./rows.ts";
import { prepare, type Statement } from "./statement.ts";
import type { StoreRow, Turn } from "./turn.ts";

/** An object in hand, and what settling has to know of it if nothing was appended meanwhile. */
export interface Lease {
  readonly fence: number;
  readonly scope: number;
  /** Whether the index holds the object as present. */
  readonly present: boolean;
  /** Its newest event in `trueup_event`, and whether it is the only one there. */
  readonly head: number | null;
  readonly lone: boolean;
}

/** An object that is to be leased. */
export interface Chosen {
  readonly row: WorkRow;
  readonly scope: Scope;
}

type Validity = Pick<StoreRow, "owner_epoch" | "scopes_changed">;

export class Leases {
  readonly #log: ClaimLog;
  readonly #events: Events;
  readonly #maxEvents: number;
  readonly #touch: Statement;
  readonly #validity: Statement;
  #ownEpoch = 0;
  #known: { open: OpenLeases; validity: Validity; turn: Turn; undone: number } | undefined;

  constructor(db: DatabaseSync, parts: { log: ClaimLog; events: Events; maxEvents: number }) {
    this.#log = parts.log;
    this.#events = parts.events;
    this.#maxEvents = parts.maxEvents;
    this.#touch = prepare(db, "UPDATE trueup_object SET touched = ? WHERE n = ?");
    this.#validity = prepare(db, "SELECT owner_epoch, scopes_changed FROM trueup_store");
  }

  /** From now on all leases are granted and ended here, while the store has this owner. */
  own(epoch: number): void {
    this.#ownEpoch = epoch;
  }

  /** The open leases, as the transaction sees them. */
  in(turn: Turn): OpenLeases {
    const known = this.#known;
    if (known?.turn === turn && known.undone === turn.undone) return known.open;
    const outlived = known !== undefined && known.turn !== turn && this.#outlived(turn.store);
    const open = outlived ? known.open : new OpenLeases(this.#log.open());
    const { owner_epoch, scopes_changed } = turn.store;
    this.#known = { open, validity: { owner_epoch, scopes_changed }, turn, undone: turn.undone };
    return open;
  }

  /** The open leases, as they are committed: for reading outside of a transaction. */
  committed(): OpenLeases {
    const known = this.#known;
    const validity = this.#validity.get() as unknown as Validity;
    return known !== undefined && this.#outlived(validity) ? known.open : new OpenLeases(this.#log.open());
  }

  /** Leases objects together, and makes the claims of them. */
  grant(turn: Turn, chosen: readonly Chosen[]): Claim[] {
    if (chosen.length === 0) return [];
    const open = this.in(turn);
    const fence = turn.tick();
    this.#log.add(
      fence,
      chosen.map(({ row }) => row.n),
    );
    return chosen.map(({ row, scope }) => {
      open.add(row.n, {
        fence,
        scope: scopeOf(row.lane),
        present: row.state === "present",
        head: row.head,
        lone: row.event_count === 1,
      });
      return this.#claim(row, scope, fence);
    });
  }

  /** Ends a lease and returns it; `undefined` when it is not the live one. The caller moves the object's `touched`. */
  end(turn: Turn, { key, fence }: Claim): Lease | undefined {
    const open = this.in(turn);
    const lease = open.get(key);
    if (lease?.fence !== fence) return undefined;
    if (open.remove(key, lease) === "last") this.#log.remove(fence);
    return lease;
  }

  /** Ends all leases of these scopes, whose objects are going to be deleted. */
  endIn(turn: Turn, scopes: ReadonlySet<number>): void {
    const open = this.in(turn);
    const touched = turn.tick();
    for (const [n, lease] of open.entries()) {
      if (!scopes.has(lease.scope)) continue;
      this.#touch.run(touched, n);
      this.#log.removeSince(n);
      if (open.remove(n, lease) === "last") this.#log.remove(lease.fence);
    }
  }

  /** Ends all leases. The caller moves the `touched` of their objects. */
  clear(turn: Turn): void {
    this.in(turn).clear();
    this.#log.clear();
  }

  /** Whether what is known has outlived the transaction that it is known from. */
  #outlived(now: Validity): boolean {
    const known = this.#known;
    return (
      known !== undefined &&
      known.turn.committed &&
      known.undone === known.turn.undone &&
      now.owner_epoch === this.#ownEpoch &&
      now.owner_epoch === known.validity.owner_epoch &&
      now.scopes_changed === known.validity.scopes_changed
    );
  }

  #eventsOf(row: WorkRow): string[] {
    if (row.event_count === 0) return [];
    // Most are handled alone, and theirs came with the row.
    return row.event_count === 1 ? this.#events.only(row) : this.#events.newest(row, this.#maxEvents);
  }

  #claim(row: WorkRow, scope: Scope, fence: number): Claim {
    const claim = {
      ref: { provider: scope.provider, connection: scope.connection, resource: scope.resource, id: row.id },
      key: row.n,
      fence,
      generation: row.generation,
      attempt: row.attempts + 1,
      lags: row.lags,
      begun: row.begun === 1,
      forced: row.forced > 0,
      lane: kindOf(row.lane),
      origin: row.origin,
      hint: row.hint ?? undefined,
      hintVersion: row.hint_version ?? undefined,
      eventCount: row.event_count,
      dirtySince: row.dirty_since,
      index: toIndex(row),
    };
    return withStoredEvents(claim, this.#eventsOf(row));
  }
}

/** Leases by object, and how many each claim has left, and each scope. */
export class OpenLeases {
  readonly #leases = new Map<number, Lease>();
  readonly #ofClaim = new Map<number, number>();
  readonly #ofScope = new Map<number, number>();
  #numbers: string | undefined;

  constructor(logged: ReadonlyMap<number, LoggedLease>) {
    for (const [n, { fence, scope, state, head, event_count: events }] of logged)
      this.add(n, { fence, scope, present: state === "present", head, lone: events === 1 });
  }

  get size(): number {
    return this.#leases.size;
  }

  get(n: number): Lease | undefined {
    return this.#leases.get(n);
  }

  entries(): readonly [n: number, lease: Lease][] {
    return [...this.#leases];
  }

  countIn(scope: number): number {
    return this.#ofScope.get(scope) ?? 0;
  }

  /** The leased objects as a JSON array, for statements that pass over them. */
  numbers(): string {
    this.#numbers ??= JSON.stringify([...this.#leases.keys()]);
    return this.#numbers;
  }

  /** As {@link numbers}, of these scopes alone: each that is passed costs its statement something. */
  numbersIn(scopes: ReadonlySet<number>): string {
    const found: number[] = [];
    for (const [n, { scope }] of this.#leases) if (scopes.has(scope)) found.push(n);
    return JSON.stringify(found);
  }

  add(n: number, lease: Lease): void {
    this.#leases.set(n, lease);
    count(this.#ofClaim, lease.fence, 1);
    count(this.#ofScope, lease.scope, 1);
    this.#numbers = undefined;
  }

  /** Says whether it was the last of its claim. */
  remove(n: number, { fence, scope }: Lease): "last" | undefined {
    this.#leases.delete(n);
    this.#numbers = undefined;
    count(this.#ofScope, scope, -1);
    return count(this.#ofClaim, fence, -1) === 0 ? "last" : undefined;
  }

  clear(): void {
    this.#leases.clear();
    this.#ofClaim.clear();
    this.#ofScope.clear();
    this.#numbers = undefined;
  }
}

/** Counts on, keeping nothing of what is at 0. */
function count(counts: Map<number, number>, key: number, change: 1 | -1): number {
  const now = (counts.get(key) ?? 0) + change;
  if (now === 0) counts.delete(key);
  else counts.set(key, now);
  return now;
}
