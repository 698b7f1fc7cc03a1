/**
 * The claim log: which objects were in hand when a process died.
 *
 * Only the process that works on the store grants leases and ends them, so it keeps them in memory (`leases.ts`). Who
 * comes after it has to learn of them all the same, and so has a process beside it that appends. Hence a claim writes one
 * row for all of its objects, which goes with the last of them and is never rewritten: whether an object of a row is
 * still leased, the object tells. A claim's fence is the counter's value, and whatever ends a lease moves the object's
 * `touched` beyond it. So does an append under the lease, but that leaves a row in `trueup_since` for as long as the
 * lease is open.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Hint, Origin } from "../../core/event.ts";
import { type MergedHint, mergeHints, NO_HINT } from "../../core/hint.ts";
import { prepare, type Statement } from "./statement.ts";

/** What was appended under a lease. */
export interface SinceRow {
  readonly at: number;
  readonly origin: Origin;
  readonly hint: Hint | null;
  readonly version: string | null;
  readonly version_order: string | null;
  readonly count: number;
}

/** A leased object, as its row was when it was claimed, but for what {@link SinceRow} tells. */
export interface LoggedLease {
  readonly n: number;
  readonly fence: number;
  readonly scope: number;
  readonly state: string | null;
  readonly head: number | null;
  readonly event_count: number;
}

export class ClaimLog {
  readonly #add: Statement;
  readonly #remove: Statement;
  readonly #open: Statement;
  readonly #clear: Statement;
  readonly #findSince: Statement;
  readonly #anySince: Statement;
  readonly #setSince: Statement;
  readonly #removeSince: Statement;
  readonly #clearSince: Statement;

  constructor(db: DatabaseSync) {
    this.#add = prepare(db, "INSERT INTO trueup_claim (fence, objects) VALUES (?, ?)");
    this.#remove = prepare(db, "DELETE FROM trueup_claim WHERE fence = ?");
    this.#clear = prepare(db, "DELETE FROM trueup_claim");
    this.#open = prepare(
      db,
      `
      SELECT o.n, c.fence, o.scope, o.state, o.head, o.event_count
      FROM trueup_claim c CROSS JOIN json_each(c.objects) AS claimed CROSS JOIN trueup_object o ON o.n = claimed.value
      WHERE o.touched < c.fence OR EXISTS (SELECT 1 FROM trueup_since s WHERE s.n = o.n)
      ORDER BY c.fence`,
    );
    this.#findSince = prepare(db, "SELECT * FROM trueup_since WHERE n = ?");
    this.#anySince = prepare(db, "SELECT 1 FROM trueup_since LIMIT 1");
    this.#setSince = prepare(
      db,
      `
      INSERT INTO trueup_since (n, at, origin, hint, version, version_order, count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
      ON CONFLICT DO UPDATE SET hint = ?4, version = ?5, version_order = ?6, count = count + ?7`,
    );
    this.#removeSince = prepare(db, "DELETE FROM trueup_since WHERE n = ?");
    this.#clearSince = prepare(db, "DELETE FROM trueup_since");
  }

  add(fence: number, objects: readonly number[]): void {
    this.#add.run(fence, JSON.stringify(objects));
  }

  /** No object of the claim is leased any more. */
  remove(fence: number): void {
    this.#remove.run(fence);
  }

  clear(): void {
    this.#clear.run();
    this.#clearSince.run();
  }

  /** What is leased, by object. */
  open(): Map<number, LoggedLease> {
    // An object can stand in several open claims, all but the last of which it has left.
    return new Map((this.#open.all() as unknown as LoggedLease[]).map((row) => [row.n, row]));
  }

  /** Something was appended to a leased object. */
  addSince(n: number, at: number, origin: Origin, announced: MergedHint, count: number): void {
    const since = this.since(n);
    const { hint, version, order } = mergeHints(since === undefined ? NO_HINT : sinceHint(since), announced);
    this.#setSince.run(n, at, origin, hint, version, order, count);
  }

  /** Whether something was appended to any leased object. */
  anySince(): boolean {
    return this.#anySince.get() !== undefined;
  }

  since(n: number): SinceRow | undefined {
    return this.#findSince.get(n) as SinceRow | undefined;
  }

  removeSince(n: number): void {
    this.#removeSince.run(n);
  }
}

export function sinceHint({ hint, version, version_order: order }: SinceRow): MergedHint {
  return { hint, version, order };
}
