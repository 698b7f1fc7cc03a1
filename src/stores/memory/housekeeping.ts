/**
 * Which objects have something that time takes away: events past their time to live, and the memory that an object
 * without an index entry was ever handled (it says that a list page of before is not to be believed).
 *
 * @module
 */

import { type Due, DueHeap } from "./heap.ts";
import { eventsHeld, type ObjectRecord, withoutEventsUntil } from "./record.ts";

/**
 * How long it is remembered that an object without an index entry was handled. It matters to list pages that were
 * requested before, and those are under way for minutes.
 */
const REMEMBER_HANDLED_MS = 3_600_000;

interface Reminder extends Due {
  readonly key: number;
}

export class Housekeeping {
  readonly #eventTtlMs: number;
  readonly #reminders = new DueHeap<Reminder>();
  /** When each object is looked at next, at or before anything of it expires. Other reminders of it are void. */
  readonly #reminded = new Map<number, number>();

  constructor(eventTtlMs: number) {
    this.#eventTtlMs = eventTtlMs;
  }

  /** Remembers when to look at the object again. */
  note(record: ObjectRecord): void {
    const due = this.#expiry(record);
    if (due === undefined || due >= (this.#reminded.get(record.key) ?? Number.POSITIVE_INFINITY)) return;
    this.#reminded.set(record.key, due);
    this.#reminders.push({ key: record.key, due, order: 0 });
  }

  /** Takes out the numbers of up to `limit` objects that are to be looked at; {@link note} those that stay. */
  take(now: number, limit: number): number[] {
    const keys: number[] = [];
    for (let first = this.#reminders.first; first !== undefined; first = this.#reminders.first) {
      if (first.due > now || keys.length >= limit) break;
      this.#reminders.pop();
      if (this.#reminded.get(first.key) !== first.due) continue;
      this.#reminded.delete(first.key);
      keys.push(first.key);
    }
    return keys;
  }

  /** What is left of an object: the record itself if nothing expired, `undefined` if the object can be forgotten. */
  swept(record: ObjectRecord, now: number): ObjectRecord | undefined {
    if (isForgettable(record) && forgetAt(record) <= now) return undefined;
    const oldest = oldestEvent(record);
    const cutoff = now - this.#eventTtlMs;
    return oldest !== undefined && oldest <= cutoff ? withoutEventsUntil(record, cutoff) : record;
  }

  #expiry(record: ObjectRecord): number | undefined {
    if (isForgettable(record)) return forgetAt(record);
    const oldest = oldestEvent(record);
    return oldest === undefined ? undefined : oldest + this.#eventTtlMs;
  }
}

// `due` of an idle object is its `notBefore`, which has to be kept until it has passed.
function forgetAt(record: ObjectRecord): number {
  return Math.max(record.stateSince + REMEMBER_HANDLED_MS, record.due);
}

function isForgettable(record: ObjectRecord): boolean {
  return record.state === "idle" && record.index === null && !record.begun;
}

function oldestEvent(record: ObjectRecord): number | undefined {
  if (eventsHeld(record) === 0) return undefined;
  return record.work?.events[0]?.at ?? record.late?.events[0]?.at;
}
