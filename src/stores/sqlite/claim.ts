/**
 * Claiming: which objects are next, over lanes that take turns.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Scope } from "../../core/event.ts";
import { type Claim, type ClaimRequest, type LaneKind, REPAIR_AGING_MS } from "../../core/store.ts";
import { scopeOf } from "./lane-number.ts";
import type { Lanes, ReadyLane } from "./lanes.ts";
import type { Chosen, Leases } from "./leases.ts";
import { WORK_COLUMNS, workRow, type WorkRow } from "./rows.ts";
import type { Turn } from "./turn.ts";
import { type ArrayStatement, prepareArrays } from "./statement.ts";

/** What is due in a lane, oldest first: as much as was asked for, and whether there may be more. */
interface Due {
  readonly rows: readonly WorkRow[];
  readonly more: boolean;
}

/** A lane as one claim sees it. */
interface Served {
  readonly n: number;
  readonly scope: Scope;
  /** Whether nobody else stands in the queue, so that its end is where the lane is already. */
  readonly alone: boolean;
  due: Due;
  taken: number;
}

/** What waits in a lane, is due by a moment (first parameter), and is not leased (second), in the order of dates. */
const waitingIn = (lane: string) => `FROM trueup_object AS w INDEXED BY trueup_object_waiting
  WHERE w.lane = ${lane} AND w.due <= ?1 AND w.n NOT IN (SELECT value FROM json_each(?2)) ORDER BY w.due`;

interface Candidate extends Chosen {
  readonly lane: Served;
}

export class Claimer {
  readonly #lanes: Lanes;
  readonly #leases: Leases;
  readonly #due: ArrayStatement;
  readonly #heads: ArrayStatement;

  constructor(db: DatabaseSync, parts: { lanes: Lanes; leases: Leases }) {
    this.#lanes = parts.lanes;
    this.#leases = parts.leases;
    this.#due = prepareArrays(db, `SELECT ${WORK_COLUMNS} ${waitingIn("?3")} LIMIT ?4`);
    // The first of each lane, for claims over many lanes: one statement costs a quarter of one for each.
    const inLane = waitingIn("lane.value");
    this.#heads = prepareArrays(
      db,
      `
      SELECT ${WORK_COLUMNS}, EXISTS (SELECT 1 ${inLane} LIMIT 1 OFFSET 1) AS more
      FROM (SELECT key, value FROM json_each(?3)) AS lane LEFT JOIN trueup_object AS o ON o.n = (SELECT w.n ${inLane} LIMIT 1)
      ORDER BY lane.key`,
    );
  }

  claim(turn: Turn, request: ClaimRequest): Claim[] {
    if (request.limit < 1) return [];
    this.#lanes.promote(turn, request);
    for (;;) {
      const live = this.#gather(turn, request, "live", turn.now);
      // Repair work waits, unless it is older by the aging time than live work that would be taken.
      const last = live.candidates[request.limit - 1];
      const repair = this.#gather(
        turn,
        request,
        "repair",
        last === undefined ? turn.now : last.row.due - REPAIR_AGING_MS,
      );
      const chosen = merge(live.candidates, repair.candidates, request.limit);
      for (const { lane } of chosen) lane.taken += 1;
      const claims = this.#leases.grant(turn, chosen);
      const emptied = this.#requeue(turn, [...live.lanes, ...repair.lanes]);
      // Lanes can stand in the queue with nothing to give. They have left it now; others may be behind them.
      if (claims.length > 0 || emptied === 0) return claims;
    }
  }

  /** What is due, taking one object of each lane after the other. */
  #gather(
    turn: Turn,
    request: ClaimRequest,
    kind: LaneKind,
    dueBy: number,
  ): { lanes: Served[]; candidates: Candidate[] } {
    const { limit, exceptConnections = [] } = request;
    const ready = this.#lanes.front(turn, request, kind, exceptConnections, limit);
    if (ready.length === 0) return { lanes: [], candidates: [] };
    const share = Math.ceil(limit / ready.length);
    const alone = ready.length === 1 && limit > 1 && exceptConnections.length === 0;
    const leased = this.#leases.in(turn).numbersIn(new Set(ready.map(({ n }) => scopeOf(n))));
    const due =
      share === 1
        ? this.#headsOf(ready, dueBy, leased)
        : ready.map(({ n }) => this.#dueIn(n, dueBy, leased, share));
    const lanes = ready.map(({ n, connection }, i): Served => ({
      n,
      scope: { provider: request.provider, connection, resource: request.resource },
      alone,
      due: due[i] ?? { rows: [], more: false },
      taken: 0,
    }));
    const found = lanes.reduce((sum, lane) => sum + lane.due.rows.length, 0);
    for (const lane of lanes) {
      if (found < limit && lane.due.more) lane.due = this.#dueIn(lane.n, dueBy, leased, limit);
      // What is too young to be taken yet is still there.
      if (dueBy < turn.now) lane.due = { rows: lane.due.rows, more: true };
    }
    return { lanes, candidates: inTurns(lanes, limit) };
  }

  #dueIn(lane: number, dueBy: number, leased: string, limit: number): Due {
    const rows = this.#due.all(dueBy, leased, lane, limit + 1);
    return { rows: rows.slice(0, limit).map(workRow), more: rows.length > limit };
  }

  #headsOf(lanes: readonly ReadyLane[], dueBy: number, leased: string): Due[] {
    const heads = this.#heads.all(dueBy, leased, JSON.stringify(lanes.map(({ n }) => n)));
    return heads.map((values) =>
      values[0] === null ? { rows: [], more: false } : { rows: [workRow(values)], more: values.at(-1) === 1 },
    );
  }

  /** Sends served lanes to the end of the queue, and empty ones away. Returns how many were empty from the start. */
  #requeue(turn: Turn, lanes: readonly Served[]): number {
    const hasMore = ({ due, taken }: Served) => due.more || due.rows.length > taken;
    this.#lanes.toBack(
      turn,
      lanes.filter((lane) => lane.taken > 0 && !lane.alone && hasMore(lane)).map(({ n }) => n),
    );
    this.#lanes.leave(
      turn,
      lanes.filter((lane) => !hasMore(lane)).map(({ n }) => n),
    );
    return lanes.filter((lane) => lane.taken === 0 && !hasMore(lane)).length;
  }
}

function inTurns(lanes: readonly Served[], limit: number): Candidate[] {
  const candidates: Candidate[] = [];
  for (let round = 0; candidates.length < limit; round += 1) {
    const before = candidates.length;
    for (const lane of lanes) {
      const row = lane.due.rows[round];
      if (row !== undefined && candidates.length < limit) candidates.push({ row, scope: lane.scope, lane });
    }
    if (candidates.length === before) break;
  }
  return candidates;
}

/** Both in their order, repair work counting as {@link REPAIR_AGING_MS} younger than it is. */
function merge(live: readonly Candidate[], repair: readonly Candidate[], limit: number): Candidate[] {
  if (repair.length === 0) return live.slice(0, limit);
  const merged: Candidate[] = [];
  for (let l = 0, r = 0; merged.length < limit && (l < live.length || r < repair.length);) {
    const [nextLive, nextRepair] = [live[l], repair[r]];
    const repairFirst =
      nextLive === undefined ||
      (nextRepair !== undefined && nextRepair.row.due + REPAIR_AGING_MS < nextLive.row.due);
    if (repairFirst && nextRepair !== undefined) {
      merged.push(nextRepair);
      r += 1;
    } else if (nextLive !== undefined) {
      merged.push(nextLive);
      l += 1;
    }
  }
  return merged;
}
