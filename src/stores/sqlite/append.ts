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
import { type EventColumns, type Events, NO_EVENTS } from "./events.ts";
import { keysInRow, keyText, type Ledger, type LedgerColumns } from "./ledger.ts";
import { kindOf, laneOf } from "./lane-number.ts";
import type { Lanes } from "./lanes.ts";
import type { ClaimLog } from "./claim-log.ts";
import type { Leases } from "./leases.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** What an append has to know of its object. */
interface ObjectRow extends EventColumns, LedgerColumns {
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
}

interface Parts {
  readonly scopes: Scopes;
  readonly lanes: Lanes;
  readonly events: Events;
  readonly ledger: Ledger;
  readonly leases: Leases;
  readonly log: ClaimLog;
}

type Mark = Omit<AppendEntry, "ref" | "dedupeKey">;

export class Appender {
  readonly #scopes: Scopes;
  readonly #lanes: Lanes;
  readonly #events: Events;
  readonly #ledger: Ledger;
  readonly #leases: Leases;
  readonly #log: ClaimLog;
  readonly #find: Statement;
  readonly #insert: Statement;
  readonly #dirty: Statement;
  readonly #again: Statement;
  readonly #move: Statement;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#scopes = parts.scopes;
    this.#lanes = parts.lanes;
    this.#events = parts.events;
    this.#ledger = parts.ledger;
    this.#leases = parts.leases;
    this.#log = parts.log;
    this.#find = prepare(
      db,
      `
      SELECT n, touched, not_before, lane, due, generation, forced, dead, hint, hint_version, hint_order, event_count,
        head, first_event, first_at, keys, older_keys
      FROM trueup_object WHERE scope = ? AND id = ?`,
    );
    this.#insert = prepare(
      db,
      `
      INSERT INTO trueup_object (scope, id, lane, touched, generation, due, dirty_since, forced, origin, hint,
        hint_version, hint_order, event_count, head, first_event, first_at, keys)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    // A clean object becomes dirty, and a dead one dirty afresh; what is kept of the dead one is bound by the caller.
    this.#dirty = prepare(
      db,
      `
      UPDATE trueup_object SET lane = ?, touched = ?, generation = ?, due = ?, dirty_since = ?, forced = ?, origin = ?,
        hint = ?, hint_version = ?, hint_order = ?, event_count = ?, head = ?, first_event = ?, first_at = ?, keys = ?,
        older_keys = ?, attempts = 0, lags = 0, dead = NULL, error = NULL
      WHERE n = ?`,
    );
    // No column of an index, so that no index is written.
    this.#again = prepare(
      db,
      `
      UPDATE trueup_object SET touched = ?, generation = ?, forced = ?, hint = ?, hint_version = ?, hint_order = ?,
        event_count = ?, head = ?, keys = ?, older_keys = ?
      WHERE n = ?`,
    );
    this.#move = prepare(db, "UPDATE trueup_object SET lane = ? WHERE n = ?");
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
    const { ref } = entry;
    const key = entry.dedupeKey === undefined ? null : keyText(entry.dedupeKey);
    const scope = this.#scopes.demand(turn, ref);
    const row = this.#find.get(scope, ref.id) as ObjectRow | undefined;
    if (row === undefined) {
      return { status: "accepted", generation: this.#insertNew(turn, scope, ref.id, entry, key) };
    }
    if (key !== null && this.#ledger.has(row.n, row, key)) {
      return { status: "duplicate", generation: row.due === null ? 0 : row.generation };
    }
    return { status: "accepted", generation: this.#markKnown(turn, scope, row, entry, key) };
  }

  /** Marks an object dirty, whatever it is now. */
  mark(turn: Turn, scope: number, id: string, mark: Mark): void {
    const row = this.#find.get(scope, id) as ObjectRow | undefined;
    if (row === undefined) this.#insertNew(turn, scope, id, mark, null);
    else this.#markKnown(turn, scope, row, mark, null);
  }

  #markKnown(turn: Turn, scope: number, row: ObjectRow, mark: Mark, key: string | null): number {
    const generation = turn.tick();
    const keys = key === null ? row : this.#ledger.add(row.n, row, key);
    if (row.due === null) this.#makeDirty(turn, scope, row, generation, mark, keys);
    else this.#addTo(turn, scope, row, generation, mark, keys);
    turn.arrived(row.n, mark.event, key);
    return generation;
  }

  #insertNew(turn: Turn, scope: number, id: string, mark: Mark, key: string | null): number {
    const generation = turn.tick();
    const lane = laneOf(scope, mark.lane);
    const { hint, version, order } = hintOf(mark);
    const forced = mark.force === true ? generation : 0;
    const events = this.#events.begin(turn, generation, NO_EVENTS, mark.event);
    const { lastInsertRowid: n } = this.#insert.run(
      scope,
      id,
      lane,
      generation,
      generation,
      turn.now,
      turn.now,
      forced,
      mark.origin,
      hint,
      version,
      order,
      events.event_count,
      events.head,
      events.first_event,
      events.first_at,
      key === null ? null : keysInRow([key]),
    );
    this.#lanes.wake(turn, lane, turn.now);
    turn.arrived(Number(n), mark.event, key);
    return generation;
  }

  #makeDirty(
    turn: Turn,
    scope: number,
    row: ObjectRow,
    generation: number,
    mark: Mark,
    { keys, older_keys: olderKeys }: LedgerColumns,
  ): void {
    const dead = row.dead !== null;
    const lane = laneOf(scope, mark.lane);
    const due = dead ? turn.now : Math.max(turn.now, row.not_before ?? 0);
    const { hint, version, order } = mergeHints(dead ? hintColumns(row) : NO_HINT, hintOf(mark));
    const forced = mark.force === true ? generation : row.forced;
    const events = this.#events.begin(turn, generation, row, mark.event);
    this.#dirty.run(
      lane,
      generation,
      generation,
      due,
      turn.now,
      forced,
      mark.origin,
      hint,
      version,
      order,
      events.event_count,
      events.head,
      events.first_event,
      events.first_at,
      keys,
      olderKeys,
      row.n,
    );
    this.#lanes.wake(turn, lane, due);
  }

  /** The object waits or is leased: it keeps its due date, and its lease. */
  #addTo(
    turn: Turn,
    scope: number,
    row: ObjectRow,
    generation: number,
    mark: Mark,
    { keys, older_keys: olderKeys }: LedgerColumns,
  ): void {
    const before = row.lane ?? laneOf(scope, mark.lane);
    const lane = mark.lane === "live" && kindOf(before) === "repair" ? laneOf(scope, "live") : before;
    const events = this.#events.add(turn, generation, row, mark.event);
    let merged = hintColumns(row);
    if (this.#leases.in(turn).get(row.n) === undefined) {
      merged = mergeHints(merged, hintOf(mark));
      if (lane !== before && row.due !== null) this.#lanes.wake(turn, lane, row.due);
    } else {
      const counted = events.event_count - row.event_count;
      this.#log.addSince(row.n, turn.now, mark.origin, hintOf(mark), counted);
    }
    const forced = mark.force === true ? generation : row.forced;
    if (lane !== row.lane) this.#move.run(lane, row.n);
    const { hint, version, order } = merged;
    const { event_count: count, head } = events;
    this.#again.run(
      generation,
      generation,
      forced,
      hint,
      version,
      order,
      count,
      head,
      keys,
      olderKeys,
      row.n,
    );
  }
}

function hintOf(mark: Mark): MergedHint {
  return { hint: mark.hint ?? null, version: mark.version ?? null, order: mark.versionOrder ?? null };
}

function hintColumns(row: ObjectRow): MergedHint {
  return { hint: row.hint, version: row.hint_version, order: row.hint_order };
}
