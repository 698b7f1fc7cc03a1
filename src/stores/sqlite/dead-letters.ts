/**
 * Dead letters: objects whose work was given up.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { invalidOption } from "../../core/errors.ts";
import type { DeadLetterFilter, DeadRecord } from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import type { Events } from "./events.ts";
import type { Lanes } from "./lanes.ts";
import { toFailure } from "./rows.ts";
import type { ScopeRow, Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

interface DeadRow {
  readonly n: number;
  readonly scope: number;
  readonly id: string;
  readonly error: string;
  readonly attempts: number;
  readonly event_count: number;
  readonly head: number | null;
  readonly first_event: string | null;
  readonly dirty_since: number;
}

/** Scopes and ids as JSON; ids may be null for all. */
const MATCHES = `dead IS NOT NULL AND scope IN (SELECT value FROM json_each(?1))
  AND (?2 IS NULL OR id IN (SELECT value FROM json_each(?2)))`;

export class DeadLetters {
  readonly #scopes: Scopes;
  readonly #lanes: Lanes;
  readonly #events: Events;
  readonly #maxEvents: number;
  readonly #page: Statement;
  readonly #lanesOf: Statement;
  readonly #retry: Statement;
  readonly #heads: Statement;
  readonly #discard: Statement;
  readonly #unknownPresent: Statement;
  readonly #makeUnknown: Statement;

  constructor(db: DatabaseSync, parts: { scopes: Scopes; lanes: Lanes; events: Events; maxEvents: number }) {
    this.#scopes = parts.scopes;
    this.#lanes = parts.lanes;
    this.#events = parts.events;
    this.#maxEvents = parts.maxEvents;
    this.#page = prepare(
      db,
      `
      SELECT n, scope, id, error, attempts, event_count, head, first_event, dirty_since FROM trueup_object
      WHERE ${MATCHES} AND (scope, n) > (?3, ?4) ORDER BY scope, n LIMIT ?5`,
    );
    this.#lanesOf = prepare(db, `SELECT DISTINCT lane FROM trueup_object WHERE ${MATCHES}`);
    this.#retry = prepare(
      db,
      `
      UPDATE trueup_object SET dead = NULL, due = ?3, dirty_since = ?3, attempts = 0, lags = 0, error = NULL
      WHERE ${MATCHES}`,
    );
    this.#heads = prepare(db, `SELECT head FROM trueup_object WHERE ${MATCHES} AND head IS NOT NULL`);
    // Where a handler may have begun, nothing is known any more of what the user's copy holds.
    this.#unknownPresent = prepare(
      db,
      `
      SELECT scope, count(*) AS objects FROM trueup_object
      WHERE ${MATCHES} AND begun = 1 AND state IS NOT 'present' GROUP BY scope`,
    );
    this.#makeUnknown = prepare(
      db,
      `
      UPDATE trueup_object SET state = 'present', version = NULL, hash = NULL, row_hash = NULL,
        revision = coalesce(revision, 0), evidence = coalesce(evidence, 0)
      WHERE ${MATCHES} AND begun = 1`,
    );
    this.#discard = prepare(
      db,
      `
      UPDATE trueup_object SET dead = NULL, lane = NULL, dirty_since = ?3, attempts = 0, lags = 0, forced = 0,
        origin = NULL, hint = NULL, hint_version = NULL, hint_order = NULL, event_count = 0, head = NULL,
        first_event = NULL, first_at = NULL, error = NULL
      WHERE ${MATCHES}`,
    );
  }

  list(
    filter: DeadLetterFilter,
    page: { cursor: string | undefined; limit: number },
  ): {
    items: DeadRecord[];
    next: string | undefined;
  } {
    const scopes = new Map(this.#scopes.list(filter).map((scope) => [scope.n, scope]));
    const [afterScope, afterN] = readCursor(page.cursor);
    const rows = this.#page.all(
      JSON.stringify([...scopes.keys()]),
      idsOf(filter),
      afterScope,
      afterN,
      page.limit + 1,
    ) as unknown as DeadRow[];
    const more = rows.length > page.limit;
    if (more) rows.pop();
    const last = rows.at(-1);
    return {
      items: rows.map((row) => this.#record(row, scopes.get(row.scope) as ScopeRow)),
      next: more && last !== undefined ? `${last.scope}.${last.n}` : undefined,
    };
  }

  retry(turn: Turn, filter: DeadLetterFilter): number {
    const [scopes, ids] = this.#matched(filter);
    const lanes = this.#lanesOf.all(scopes, ids) as unknown as { lane: number }[];
    const { changes } = this.#retry.run(scopes, ids, turn.now);
    for (const { lane } of lanes) this.#lanes.wake(turn, lane, turn.now);
    return Number(changes);
  }

  discard(turn: Turn, filter: DeadLetterFilter): number {
    const [scopes, ids] = this.#matched(filter);
    const heads = this.#heads.all(scopes, ids) as unknown as { head: number }[];
    for (const { head } of heads) this.#events.deleteUpTo(head, head);
    for (const row of this.#unknownPresent.all(scopes, ids)) {
      const { scope, objects } = row as { scope: number; objects: number };
      this.#scopes.addPresent(scope, objects);
    }
    this.#makeUnknown.run(scopes, ids);
    return Number(this.#discard.run(scopes, ids, turn.now).changes);
  }

  #matched(filter: DeadLetterFilter): [scopes: string, ids: string | null] {
    return [JSON.stringify(this.#scopes.list(filter).map(({ n }) => n)), idsOf(filter)];
  }

  #record(row: DeadRow, { provider, connection, resource }: ScopeRow): DeadRecord {
    const record = {
      ref: { provider, connection, resource, id: row.id },
      error: toFailure(row.error),
      attempts: row.attempts,
      eventCount: row.event_count,
      dirtySince: row.dirty_since,
    };
    return withStoredEvents(record, this.#events.newest(row, this.#maxEvents));
  }
}

function idsOf({ ids }: DeadLetterFilter): string | null {
  return ids === undefined ? null : JSON.stringify(ids);
}

function readCursor(cursor: string | undefined): [scope: number, n: number] {
  if (cursor === undefined) return [0, 0];
  const match = /^(\d{1,15})\.(\d{1,15})$/.exec(cursor);
  if (match === null) throw invalidOption(`${JSON.stringify(cursor)} is no cursor of a list of dead letters`);
  return [Number(match[1]), Number(match[2])];
}
