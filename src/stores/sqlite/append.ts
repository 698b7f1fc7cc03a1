/**
 * Appending: the ledger, the event, and the dirty mark, in one step.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Hint } from "../../core/event.ts";
import { mergeHints, type MergedHint, NO_HINT } from "../../core/hint.ts";
import { invalidOption } from "../../core/errors.ts";
import { DEDUPE_KEY_BYTES } from "../../core/event.ts";
import type { AppendEntry, AppendResult } from "../../core/store.ts";
import type { Events } from "./events.ts";
import type { Ledger } from "./ledger.ts";
import { kindOf, type Lanes, laneOf } from "./lanes.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** What an append has to know of its object. */
interface ObjectRow {
  readonly n: number;
  readonly touched: number;
  readonly not_before: number | null;
  readonly lane: number | null;
  readonly due: number | null;
  readonly generation: number;
  readonly forced: number;
  readonly dead: number | null;
  readonly hint: Hint | null;
  readonly hint_version: string | null;
  readonly hint_order: string | null;
  readonly head: number | null;
  readonly event_count: number;
}

type Mark = Omit<AppendEntry, "ref" | "dedupeKey">;

export class Appender {
  readonly #scopes: Scopes;
  readonly #lanes: Lanes;
  readonly #events: Events;
  readonly #ledger: Ledger;
  readonly #find: Statement;
  readonly #insert: Statement;
  readonly #dirty: Statement;
  readonly #again: Statement;
  readonly #move: Statement;
  readonly #lease: Statement;
  readonly #sinceLease: Statement;

  constructor(db: DatabaseSync, parts: { scopes: Scopes; lanes: Lanes; events: Events; ledger: Ledger }) {
    this.#scopes = parts.scopes;
    this.#lanes = parts.lanes;
    this.#events = parts.events;
    this.#ledger = parts.ledger;
    this.#find = prepare(
      db,
      `
      SELECT n, touched, not_before, lane, due, generation, forced, dead, hint, hint_version, hint_order, head,
        event_count
      FROM trueup_object WHERE scope = ? AND id = ?`,
    );
    this.#insert = prepare(
      db,
      `
      INSERT INTO trueup_object (scope, id, touched, lane, due, dirty_since, generation, forced, origin, hint,
        hint_version, hint_order, head, event_count)
      VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?3, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
    );
    // A clean object becomes dirty, and a dead one dirty afresh; what is kept of the dead one is bound by the caller.
    this.#dirty = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, lane = ?3, due = ?4, dirty_since = ?5, generation = ?2, attempts = 0,
        lags = 0, forced = ?6, dead = NULL, origin = ?7, hint = ?8, hint_version = ?9, hint_order = ?10, head = ?11,
        event_count = ?12, error = NULL
      WHERE n = ?1`,
    );
    // No column of an index, so that no index is written.
    this.#again = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?2, generation = ?2, forced = ?3, hint = ?4, hint_version = ?5,
        hint_order = ?6, head = ?7, event_count = ?8
      WHERE n = ?1`,
    );
    this.#move = prepare(db, "UPDATE trueup_object SET lane = ? WHERE n = ?");
    this.#lease = prepare(db, "SELECT since_hint, since_version, since_order FROM trueup_lease WHERE n = ?");
    this.#sinceLease = prepare(
      db,
      `
      UPDATE trueup_lease SET since = coalesce(since, ?2), since_origin = coalesce(since_origin, ?3), since_hint = ?4,
        since_version = ?5, since_order = ?6, since_count = since_count + ?7
      WHERE n = ?1`,
    );
  }

  append(turn: Turn, entries: readonly AppendEntry[]): AppendResult[] {
    for (const { dedupeKey } of entries) {
      if (dedupeKey !== undefined && dedupeKey.length !== DEDUPE_KEY_BYTES) {
        throw invalidOption(`a dedupeKey has ${DEDUPE_KEY_BYTES} bytes, not ${dedupeKey.length}`);
      }
    }
    return entries.map((entry) => this.#appendOne(turn, entry));
  }

  #appendOne(turn: Turn, entry: AppendEntry): AppendResult {
    const { ref, dedupeKey } = entry;
    const scope = this.#scopes.demand(turn, ref);
    const row = this.#find.get(scope, ref.id) as ObjectRow | undefined;
    if (row === undefined) {
      const { n, generation } = this.#insertNew(turn, scope, ref.id, entry);
      if (dedupeKey !== undefined) this.#ledger.add(turn, n, dedupeKey);
      return { status: "accepted", generation };
    }
    if (dedupeKey !== undefined && !this.#ledger.add(turn, row.n, dedupeKey)) {
      return { status: "duplicate", generation: row.due === null ? 0 : row.generation };
    }
    return { status: "accepted", generation: this.#markKnown(turn, scope, row, entry) };
  }

  /** Marks an object dirty, whatever it is now. */
  mark(turn: Turn, scope: number, id: string, mark: Mark): void {
    const row = this.#find.get(scope, id) as ObjectRow | undefined;
    if (row === undefined) this.#insertNew(turn, scope, id, mark);
    else this.#markKnown(turn, scope, row, mark);
  }

  #markKnown(turn: Turn, scope: number, row: ObjectRow, mark: Mark): number {
    const generation = turn.tick();
    if (mark.event !== undefined) this.#events.add(turn, generation, row.head, mark.event);
    if (row.due === null) this.#makeDirty(turn, scope, row, generation, mark);
    else this.#addTo(turn, scope, row, generation, mark);
    return generation;
  }

  #insertNew(turn: Turn, scope: number, id: string, mark: Mark): { n: number; generation: number } {
    const generation = turn.tick();
    if (mark.event !== undefined) this.#events.add(turn, generation, null, mark.event);
    const lane = laneOf(scope, mark.lane);
    const { hint, version, order } = hintOf(mark);
    const forced = mark.force === true ? generation : 0;
    const [head, count] = mark.event === undefined ? [null, 0] : [generation, 1];
    const { lastInsertRowid } = this.#insert.run(
      scope,
      id,
      generation,
      lane,
      turn.now,
      forced,
      mark.origin,
      hint,
      version,
      order,
      head,
      count,
    );
    this.#lanes.wake(turn, lane, turn.now);
    return { n: Number(lastInsertRowid), generation };
  }

  #makeDirty(turn: Turn, scope: number, row: ObjectRow, generation: number, mark: Mark): void {
    const dead = row.dead !== null;
    const lane = laneOf(scope, mark.lane);
    const due = dead ? turn.now : Math.max(turn.now, row.not_before ?? 0);
    const { hint, version, order } = mergeHints(dead ? hintColumns(row) : NO_HINT, hintOf(mark));
    const forced = mark.force === true ? generation : row.forced;
    const count = row.event_count + Number(mark.event !== undefined);
    const head = mark.event === undefined ? row.head : generation;
    this.#dirty.run(
      row.n,
      generation,
      lane,
      due,
      turn.now,
      forced,
      mark.origin,
      hint,
      version,
      order,
      head,
      count,
    );
    this.#lanes.wake(turn, lane, due);
  }

  /** The object waits or is leased: it keeps its due date, and its lease. */
  #addTo(turn: Turn, scope: number, row: ObjectRow, generation: number, mark: Mark): void {
    const before = row.lane ?? laneOf(scope, mark.lane);
    const lane = mark.lane === "live" && kindOf(before) === "repair" ? laneOf(scope, "live") : before;
    const counted = Number(mark.event !== undefined);
    const lease = this.#lease.get(row.n) as
      | { since_hint: Hint | null; since_version: string | null; since_order: string | null }
      | undefined;
    let merged = hintColumns(row);
    if (lease === undefined) {
      merged = mergeHints(merged, hintOf(mark));
      if (lane !== before && row.due !== null) this.#lanes.wake(turn, lane, row.due);
    } else {
      const since = { hint: lease.since_hint, version: lease.since_version, order: lease.since_order };
      const { hint, version, order } = mergeHints(since, hintOf(mark));
      this.#sinceLease.run(row.n, turn.now, mark.origin, hint, version, order, counted);
    }
    const forced = mark.force === true ? generation : row.forced;
    const head = mark.event === undefined ? row.head : generation;
    const count = row.event_count + counted;
    if (lane !== row.lane) this.#move.run(lane, row.n);
    this.#again.run(row.n, generation, forced, merged.hint, merged.version, merged.order, head, count);
  }
}

function hintOf(mark: Mark): MergedHint {
  return { hint: mark.hint ?? null, version: mark.version ?? null, order: mark.versionOrder ?? null };
}

function hintColumns(row: ObjectRow): MergedHint {
  return { hint: row.hint, version: row.hint_version, order: row.hint_order };
}
