/**
 * Dead letters: work that is not tried again by itself.
 *
 * @module
 */

import type { DeadLetterFilter, DeadRecord } from "../../core/store.ts";
import type { ObjectRecord } from "./record.ts";
import type { State } from "./state.ts";

/** Dead objects that a filter names, in the order of their numbers. */
export function deadRecords(state: State, filter: DeadLetterFilter, after = 0): ObjectRecord[] {
  const ids = filter.ids === undefined ? undefined : new Set(filter.ids);
  return [...state.dead]
    .flatMap((key) => (key > after ? (state.objects.get(key) ?? []) : []))
    .filter(
      ({ ref }) =>
        (filter.provider === undefined || filter.provider === ref.provider) &&
        (filter.resource === undefined || filter.resource === ref.resource) &&
        (filter.connection === undefined || filter.connection === ref.connection) &&
        (ids === undefined || ids.has(ref.id)),
    )
    .toSorted((a, b) => a.key - b.key);
}

export function listDead(
  state: State,
  filter: DeadLetterFilter,
  page: { readonly cursor: string | undefined; readonly limit: number },
): { items: DeadRecord[]; next: string | undefined } {
  const records = deadRecords(state, filter, Number(page.cursor ?? 0));
  const shown = records.slice(0, page.limit);
  const last = shown.at(-1);
  return {
    items: shown.map(deadRecord),
    next: last !== undefined && shown.length < records.length ? String(last.key) : undefined,
  };
}

function deadRecord(record: ObjectRecord): DeadRecord {
  const { work, error } = record;
  if (work === null || error === null) throw new Error(`object ${record.key} is dead without work or error`);
  return {
    ref: record.ref,
    error,
    attempts: record.attempts,
    eventCount: work.eventCount,
    events: work.events.map((kept) => kept.event),
    dirtySince: work.since,
  };
}
