/**
 * Open leases, and what becomes of them when nobody settles them.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { type MergedHint, mergeHints } from "../../core/hint.ts";
import type { Hint, Scope } from "../../core/event.ts";
import type { Claim } from "../../core/store.ts";
import type { Events } from "./events.ts";
import { kindOf, type Lanes } from "./lanes.ts";
import { toIndex, type WorkRow } from "./rows.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** First and longest spread of objects whose lease was lost a second time or more. */
const SPREAD_BASE_MS = 1_000;
const SPREAD_MAX_MS = 60_000;

/** A lease, and what was appended under it. */
export interface LeaseRow {
  readonly n: number;
  readonly fence: number;
  readonly since: number | null;
  readonly since_origin: string | null;
  readonly since_hint: Hint | null;
  readonly since_version: string | null;
  readonly since_order: string | null;
  readonly since_count: number;
}

interface LeasedObject extends LeaseRow {
  readonly lane: number;
  readonly attempts: number;
  readonly hint: Hint | null;
  readonly hint_version: string | null;
  readonly hint_order: string | null;
}

/** How leases are voided: by a holder that gives them up, or because their holder died. */
export type VoidReason =
  | { readonly kind: "released" }
  | { readonly kind: "died"; readonly random: () => number };

export class Leases {
  readonly #events: Events;
  readonly #lanes: Lanes;
  readonly #maxEvents: number;
  readonly #insert: Statement;
  readonly #find: Statement;
  readonly #endUntouched: Statement;
  readonly #end: Statement;
  readonly #open: Statement;
  readonly #clear: Statement;
  readonly #void: Statement;

  constructor(db: DatabaseSync, parts: { events: Events; lanes: Lanes; maxEvents: number }) {
    this.#events = parts.events;
    this.#lanes = parts.lanes;
    this.#maxEvents = parts.maxEvents;
    this.#insert = prepare(db, "INSERT INTO trueup_lease (n, fence) VALUES (?, ?)");
    this.#find = prepare(db, "SELECT * FROM trueup_lease WHERE n = ?");
    this.#endUntouched = prepare(db, "DELETE FROM trueup_lease WHERE n = ? AND fence = ? AND since IS NULL");
    this.#end = prepare(db, "DELETE FROM trueup_lease WHERE n = ?");
    this.#open = prepare(
      db,
      `
      SELECT l.*, o.lane, o.attempts, o.hint, o.hint_version, o.hint_order
      FROM trueup_lease l JOIN trueup_object o ON o.n = l.n`,
    );
    this.#clear = prepare(db, "DELETE FROM trueup_lease");
    this.#void = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, due = ?3, attempts = ?4, begun = 1, hint = ?5, hint_version = ?6,
        hint_order = ?7
      WHERE n = ?1`,
    );
  }

  /** Leases an object and makes the claim of it. */
  take(row: WorkRow, scope: Scope, fence: number): Claim {
    this.#insert.run(row.n, fence);
    return {
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
      events: row.event_count === 0 ? [] : this.#events.newest(row, this.#maxEvents),
      eventCount: row.event_count,
      dirtySince: row.dirty_since,
      index: toIndex(row),
    };
  }

  isLive(claim: Claim): boolean {
    return (this.#find.get(claim.key) as LeaseRow | undefined)?.fence === claim.fence;
  }

  /** Ends a lease: `"untouched"` when nothing was appended under it, else what was; `undefined` when it is not live. */
  end(claim: Claim): "untouched" | LeaseRow | undefined {
    if (this.#endUntouched.run(claim.key, claim.fence).changes === 1) return "untouched";
    const lease = this.#find.get(claim.key) as LeaseRow | undefined;
    if (lease?.fence !== claim.fence) return undefined;
    this.#end.run(claim.key);
    return lease;
  }

  /**
   * Voids all leases. Those of a holder that gave up are due at once, and theirs was no attempt. After a crash it was
   * one; and since the object may be what kills the process, one that was under way at a crash before comes back alone,
   * at a moment of its own, and takes no innocent ones along again. A handler may have begun in either case.
   */
  voidAll(turn: Turn, reason: VoidReason): number {
    const touched = turn.tick();
    const leases = this.#open.all() as unknown as LeasedObject[];
    for (const lease of leases) {
      const died = reason.kind === "died";
      const attempts = lease.attempts + Number(died);
      const due = turn.now + (died ? spread(attempts, reason.random) : 0);
      const own: MergedHint = { hint: lease.hint, version: lease.hint_version, order: lease.hint_order };
      const { hint, version, order } = lease.since === null ? own : mergeHints(own, sinceHint(lease));
      this.#void.run(lease.n, touched, due, attempts, hint, version, order);
    }
    this.#clear.run();
    for (const { lane } of leases) this.#lanes.wake(turn, lane, turn.now);
    return leases.length;
  }
}

export function sinceHint(lease: LeaseRow): MergedHint {
  return { hint: lease.since_hint, version: lease.since_version, order: lease.since_order };
}

/** A random part of a time that doubles with the attempts; none after the first. */
function spread(attempts: number, random: () => number): number {
  if (attempts < 2) return 0;
  return Math.floor(random() * Math.min(SPREAD_MAX_MS, SPREAD_BASE_MS * 2 ** Math.min(attempts, 16)));
}
