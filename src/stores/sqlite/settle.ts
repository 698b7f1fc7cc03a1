/**
 * Settling: how a claim ends.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Hint } from "../../core/event.ts";
import { type MergedHint, mergeHints } from "../../core/hint.ts";
import type { Claim, Settlement, SettleOutcome } from "../../core/store.ts";
import type { Events } from "./events.ts";
import type { Lanes } from "./lanes.ts";
import { type ClaimLog, sinceHint, type SinceRow } from "./claim-log.ts";
import type { Lease, Leases } from "./leases.ts";
import { failureText, indexValues } from "./rows.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

type Done = Extract<Settlement, { readonly kind: "done" }>;
type Retry = Extract<Settlement, { readonly kind: "retry" }>;
type Dead = Extract<Settlement, { readonly kind: "dead" }>;

/** What settling has to know of an object that is to be done again. */
interface ObjectRow {
  readonly lane: number;
  readonly head: number | null;
  readonly begun: number;
  readonly forced: number;
  readonly hint: Hint | null;
  readonly hint_version: string | null;
  readonly hint_order: string | null;
}

/** What one call of `settle` adds up before it is written: the change in present objects, by scope. */
type PresentChanges = Map<number, number>;

/** A lease that has ended. */
interface Ended {
  readonly turn: Turn;
  readonly touched: number;
  readonly lease: Lease;
  /** What was appended under it; such work is fresh. */
  readonly since: SinceRow | undefined;
  readonly present: PresentChanges;
  /** Events that are deleted with the others of the call. */
  readonly spent: number[];
}

interface Parts {
  readonly leases: Leases;
  readonly log: ClaimLog;
  readonly lanes: Lanes;
  readonly events: Events;
  readonly scopes: Scopes;
}

export class Settler {
  readonly #leases: Leases;
  readonly #log: ClaimLog;
  readonly #lanes: Lanes;
  readonly #events: Events;
  readonly #scopes: Scopes;
  readonly #find: Statement;
  readonly #clean: Statement;
  readonly #fresh: Statement;
  readonly #wait: Statement;
  readonly #revive: Statement;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#leases = parts.leases;
    this.#log = parts.log;
    this.#lanes = parts.lanes;
    this.#events = parts.events;
    this.#scopes = parts.scopes;
    this.#find = prepare(
      db,
      `
      SELECT lane, head, begun, forced, hint, hint_version, hint_order FROM trueup_object WHERE n = ?`,
    );
    this.#clean = prepare(
      db,
      `
      UPDATE trueup_object SET state = ?, version = ?, hash = ?, row_hash = ?, revision = ?, evidence = ?, touched = ?,
        not_before = ?, dirty_since = ?, lane = NULL, due = NULL, attempts = 0, lags = 0, begun = 0, forced = 0,
        origin = NULL, hint = NULL, hint_version = NULL, hint_order = NULL, event_count = 0, head = NULL,
        first_event = NULL, first_at = NULL, error = NULL
      WHERE n = ?`,
    );
    this.#fresh = prepare(
      db,
      `
      UPDATE trueup_object SET state = ?3, version = ?4, hash = ?5, row_hash = ?6, revision = ?7, evidence = ?8,
        touched = ?2, not_before = ?9, due = ?10, dirty_since = ?11, attempts = 0, lags = 0, begun = 0, forced = ?12,
        origin = ?13, hint = ?14, hint_version = ?15, hint_order = ?16, event_count = ?17,
        first_event = NULL, first_at = NULL, error = NULL
      WHERE n = ?1`,
    );
    this.#wait = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, due = ?3, dead = ?4, attempts = ?5, lags = ?6, begun = ?7, hint = ?8,
        hint_version = ?9, hint_order = ?10, error = ?11
      WHERE n = ?1`,
    );
    // As an append to a dead object does: what it was about stays, and who made it dirty, and when, is new.
    this.#revive = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, due = ?3, dirty_since = ?4, origin = ?5, attempts = 0, lags = 0, begun = ?6,
        hint = ?7, hint_version = ?8, hint_order = ?9, error = NULL
      WHERE n = ?1`,
    );
  }

  settle(turn: Turn, settlements: readonly Settlement[]): SettleOutcome[] {
    const touched = turn.tick();
    const present: PresentChanges = new Map();
    const spent: number[] = [];
    const anySince = this.#log.anySince();
    const outcomes = settlements.map((settlement) => {
      const lease = this.#leases.end(turn, settlement.claim);
      if (lease === undefined) return "lost";
      const since = anySince ? this.#log.since(settlement.claim.key) : undefined;
      if (since !== undefined) this.#log.removeSince(settlement.claim.key);
      this.#settleOne({ turn, touched, lease, since, present, spent }, settlement);
      return since === undefined ? "settled" : "dirty";
    });
    this.#events.deleteAll(spent);
    for (const [scope, change] of present) this.#scopes.addPresent(scope, change);
    return outcomes;
  }

  #settleOne(under: Ended, settlement: Settlement): void {
    switch (settlement.kind) {
      case "done":
        return this.#done(under, settlement);
      case "retry":
        return this.#retry(under, settlement);
      case "dead":
        return this.#dead(under, settlement);
    }
  }

  #done({ turn, touched, lease, since, present, spent }: Ended, { claim, index, notBefore }: Done): void {
    const change = Number(index?.state === "present") - Number(lease.present);
    if (change !== 0) present.set(lease.scope, (present.get(lease.scope) ?? 0) + change);
    const values = indexValues(index);
    if (since === undefined) {
      if (lease.head !== null && lease.lone) spent.push(lease.head);
      else if (lease.head !== null) this.#events.deleteUpTo(lease.head, claim.generation);
      // A row that holds nothing keeps the moment, so that it can be swept when no pass can need it any more.
      this.#clean.run(...values, touched, notBefore ?? null, index === null ? turn.now : null, claim.key);
      return;
    }
    const row = this.#row(claim);
    if (row.head !== null) this.#events.deleteUpTo(row.head, claim.generation);
    const { hint, version, order } = sinceHint(since);
    const due = Math.max(turn.now, notBefore ?? 0);
    const forced = row.forced > claim.generation ? row.forced : 0;
    this.#fresh.run(
      claim.key,
      touched,
      ...values,
      notBefore ?? null,
      due,
      since.at,
      forced,
      since.origin,
      hint,
      version,
      order,
      since.count,
    );
    this.#lanes.wake(turn, row.lane, due);
  }

  #retry({ turn, touched, lease, since }: Ended, settlement: Retry): void {
    const { claim, due, attempts, lags, error } = settlement;
    const row = this.#row(claim);
    const { hint, version, order } = hintsWith(row, since);
    const begun = Number(settlement.begun || row.begun === 1);
    const failure = error === undefined ? null : failureText(error);
    this.#wait.run(claim.key, touched, due, null, attempts, lags, begun, hint, version, order, failure);
    if (failure !== null) this.#scopes.recordError(lease.scope, failure);
    this.#lanes.wake(turn, row.lane, due);
  }

  #dead({ turn, touched, lease, since }: Ended, settlement: Dead): void {
    const { claim, error } = settlement;
    const row = this.#row(claim);
    const { hint, version, order } = hintsWith(row, since);
    const begun = Number(settlement.begun || row.begun === 1);
    const failure = failureText(error);
    if (since === undefined) {
      const { key, attempt, lags } = claim;
      this.#wait.run(key, touched, null, 1, attempt, lags, begun, hint, version, order, failure);
    } else {
      this.#revive.run(claim.key, touched, turn.now, since.at, since.origin, begun, hint, version, order);
      this.#lanes.wake(turn, row.lane, turn.now);
    }
    this.#scopes.recordError(lease.scope, failure);
  }

  #row(claim: Claim): ObjectRow {
    return this.#find.get(claim.key) as unknown as ObjectRow;
  }
}

/** The object's merged hint, with what was appended under the lease. */
function hintsWith(row: ObjectRow, since: SinceRow | undefined): MergedHint {
  const own = { hint: row.hint, version: row.hint_version, order: row.hint_order };
  return since === undefined ? own : mergeHints(own, sinceHint(since));
}
