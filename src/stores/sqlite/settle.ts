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
import { type LeaseRow, type Leases, sinceHint } from "./leases.ts";
import { failureText, indexValues } from "./rows.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

type Done = Extract<Settlement, { readonly kind: "done" }>;
type Retry = Extract<Settlement, { readonly kind: "retry" }>;
type Dead = Extract<Settlement, { readonly kind: "dead" }>;

/** What settling has to know of an object beyond its claim. */
interface ObjectRow {
  readonly scope: number;
  readonly state: string | null;
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

export class Settler {
  readonly #leases: Leases;
  readonly #lanes: Lanes;
  readonly #events: Events;
  readonly #scopes: Scopes;
  readonly #find: Statement;
  readonly #clean: Statement;
  readonly #fresh: Statement;
  readonly #wait: Statement;
  readonly #revive: Statement;

  constructor(db: DatabaseSync, parts: { leases: Leases; lanes: Lanes; events: Events; scopes: Scopes }) {
    this.#leases = parts.leases;
    this.#lanes = parts.lanes;
    this.#events = parts.events;
    this.#scopes = parts.scopes;
    this.#find = prepare(
      db,
      `
      SELECT scope, state, lane, head, begun, forced, hint, hint_version, hint_order FROM trueup_object WHERE n = ?`,
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
    const outcomes = settlements.map((settlement) => this.#settleOne(turn, touched, settlement, present));
    for (const [scope, change] of present) this.#scopes.addPresent(scope, change);
    return outcomes;
  }

  #settleOne(turn: Turn, touched: number, settlement: Settlement, present: PresentChanges): SettleOutcome {
    const { claim } = settlement;
    const lease = this.#leases.end(claim);
    if (lease === undefined) return "lost";
    const since = lease === "untouched" ? undefined : lease.since === null ? undefined : lease;
    switch (settlement.kind) {
      case "done":
        this.#done(turn, touched, settlement, since, present);
        break;
      case "retry":
        this.#retry(turn, touched, settlement, since);
        break;
      case "dead":
        this.#dead(turn, touched, settlement, since);
        break;
    }
    return since === undefined ? "settled" : "dirty";
  }

  #done(
    turn: Turn,
    touched: number,
    { claim, index, notBefore }: Done,
    since: LeaseRow | undefined,
    present: PresentChanges,
  ): void {
    const row = this.#row(claim);
    const change = Number(index?.state === "present") - Number(row.state === "present");
    if (change !== 0) present.set(row.scope, (present.get(row.scope) ?? 0) + change);
    if (row.head !== null) this.#events.deleteUpTo(row.head, claim.generation);
    const values = indexValues(index);
    if (since === undefined) {
      // A row that holds nothing keeps the moment, so that it can be swept when no pass can need it any more.
      this.#clean.run(...values, touched, notBefore ?? null, index === null ? turn.now : null, claim.key);
      return;
    }
    const { hint, version, order } = sinceHint(since);
    const due = Math.max(turn.now, notBefore ?? 0);
    const forced = row.forced > claim.generation ? row.forced : 0;
    this.#fresh.run(
      claim.key,
      touched,
      ...values,
      notBefore ?? null,
      due,
      since.since,
      forced,
      since.since_origin,
      hint,
      version,
      order,
      since.since_count,
    );
    this.#lanes.wake(turn, row.lane, due);
  }

  #retry(turn: Turn, touched: number, settlement: Retry, since: LeaseRow | undefined): void {
    const { claim, due, attempts, lags, error } = settlement;
    const row = this.#row(claim);
    const { hint, version, order } = hintsWith(row, since);
    const begun = Number(settlement.begun || row.begun === 1);
    const failure = error === undefined ? null : failureText(error);
    this.#wait.run(claim.key, touched, due, null, attempts, lags, begun, hint, version, order, failure);
    if (failure !== null) this.#scopes.recordError(row.scope, failure);
    this.#lanes.wake(turn, row.lane, due);
  }

  #dead(turn: Turn, touched: number, settlement: Dead, since: LeaseRow | undefined): void {
    const { claim, error } = settlement;
    const row = this.#row(claim);
    const { hint, version, order } = hintsWith(row, since);
    const begun = Number(settlement.begun || row.begun === 1);
    const failure = failureText(error);
    if (since === undefined) {
      this.#wait.run(
        claim.key,
        touched,
        null,
        1,
        claim.attempt,
        claim.lags,
        begun,
        hint,
        version,
        order,
        failure,
      );
    } else {
      const { since: dirtySince, since_origin: origin } = since;
      this.#revive.run(claim.key, touched, turn.now, dirtySince, origin, begun, hint, version, order);
      this.#lanes.wake(turn, row.lane, turn.now);
    }
    this.#scopes.recordError(row.scope, failure);
  }

  #row(claim: Claim): ObjectRow {
    return this.#find.get(claim.key) as unknown as ObjectRow;
  }
}

/** The object's merged hint, with what was appended under the lease. */
function hintsWith(row: ObjectRow, since: LeaseRow | undefined): MergedHint {
  const own = { hint: row.hint, version: row.hint_version, order: row.hint_order };
  return since === undefined ? own : mergeHints(own, sinceHint(since));
}
