/**
 * What becomes of leases that nobody settles.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Hint } from "../../core/event.ts";
import { type MergedHint, mergeHints } from "../../core/hint.ts";
import { type ClaimLog, sinceHint } from "./claim-log.ts";
import type { Lanes } from "./lanes.ts";
import type { Leases } from "./leases.ts";
import { prepare, type Statement } from "./statement.ts";
import type { Turn } from "./turn.ts";

/** First and longest spread of objects whose lease was lost a second time or more. */
const SPREAD_BASE_MS = 1_000;
const SPREAD_MAX_MS = 60_000;

interface AbandonedObject {
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

export class Abandoned {
  readonly #leases: Leases;
  readonly #log: ClaimLog;
  readonly #lanes: Lanes;
  readonly #find: Statement;
  readonly #void: Statement;

  constructor(db: DatabaseSync, parts: { leases: Leases; log: ClaimLog; lanes: Lanes }) {
    this.#leases = parts.leases;
    this.#log = parts.log;
    this.#lanes = parts.lanes;
    this.#find = prepare(
      db,
      "SELECT lane, attempts, hint, hint_version, hint_order FROM trueup_object WHERE n = ?",
    );
    this.#void = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, due = ?3, attempts = ?4, begun = 1, hint = ?5, hint_version = ?6,
        hint_order = ?7
      WHERE n = ?1`,
    );
  }

  /**
   * Voids all leases. Those of a holder that gave up are due at once, and theirs was no attempt. After a crash it was
   * one; and since the object may be what kills the process, one that was under way at a crash before comes back alone,
   * at a moment of its own, and takes no innocent ones along again. A handler may have begun in either case.
   */
  voidAll(turn: Turn, reason: VoidReason): number {
    const touched = turn.tick();
    const leases = this.#leases.in(turn).entries();
    const lanes = leases.map(([n]) => this.#voidOne(turn, n, touched, reason));
    this.#leases.clear(turn);
    for (const lane of lanes) this.#lanes.wake(turn, lane, turn.now);
    return leases.length;
  }

  /** Returns the object's lane. */
  #voidOne(turn: Turn, n: number, touched: number, reason: VoidReason): number {
    const row = this.#find.get(n) as unknown as AbandonedObject;
    const died = reason.kind === "died";
    const attempts = row.attempts + Number(died);
    const due = turn.now + (died ? spread(attempts, reason.random) : 0);
    const own: MergedHint = { hint: row.hint, version: row.hint_version, order: row.hint_order };
    const since = this.#log.since(n);
    const { hint, version, order } = since === undefined ? own : mergeHints(own, sinceHint(since));
    this.#void.run(n, touched, due, attempts, hint, version, order);
    return row.lane;
  }
}

/** A random part of a time that doubles with the attempts; none after the first. */
function spread(attempts: number, random: () => number): number {
  if (attempts < 2) return 0;
  return Math.floor(random() * Math.min(SPREAD_MAX_MS, SPREAD_BASE_MS * 2 ** Math.min(attempts, 16)));
}
