/**
 * Events of objects. Most are handled alone, so the one that makes an object dirty stands in the object's row if it is
 * short. All others are written at the end of a table, each with the number of the one before it there.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { StoredEvent } from "../../core/event.ts";
import type { Turn } from "./turn.ts";

/**
 * How many events of one object are deleted with its settling. An object with more (a storm that was coalesced) leaves
 * the rest to expiry, so that one settling stays short; nothing can reach them any more.
 */
const MAX_DELETED = 1_000;

/** The longest event, in characters of its JSON, that a row is still narrow with. */
const MAX_IN_ROW = 512;

/** From how many on, events that lie side by side are deleted by a statement of their own. */
const RUN = 4;

/** What an object's row has of its events. */
export interface EventColumns {
  readonly event_count: number;
  readonly head: number | null;
  readonly first_event: string | null;
  readonly first_at: number | null;
}

/** Where the only event of an object is; neither: it has expired. */
export interface OnlyEvent {
  readonly first_event: string | null;
  readonly head_body: string | null;
}

export const NO_EVENTS: EventColumns = { event_count: 0, head: null, first_event: null, first_at: null };

export class Events {
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  readonly #delete: StatementSync;
  readonly #deleteAll: StatementSync;
  readonly #deleteRun: StatementSync;

  constructor(db: DatabaseSync) {
    this.#insert = db.prepare("INSERT INTO trueup_event (seq, prev, at, body) VALUES (?, ?, ?, ?)");
    this.#select = db.prepare("SELECT prev, body FROM trueup_event WHERE seq = ?");
    this.#delete = db.prepare("DELETE FROM trueup_event WHERE seq = ? RETURNING prev");
    this.#deleteAll = db.prepare("DELETE FROM trueup_event WHERE seq IN (SELECT value FROM json_each(?))");
    this.#deleteRun = db.prepare("DELETE FROM trueup_event WHERE seq BETWEEN ? AND ?");
  }

  /** The columns of an object that becomes dirty with this event. */
  begin(turn: Turn, seq: number, before: EventColumns, event: StoredEvent | undefined): EventColumns {
    if (event === undefined) return before;
    const body = JSON.stringify(event);
    // One that was dead still has its events, and the first of them keeps its place.
    if (before.event_count > 0 || body.length > MAX_IN_ROW) return this.#chain(turn, seq, before, body);
    return { event_count: 1, head: null, first_event: body, first_at: turn.now };
  }

  /** The columns of an object that was dirty before, and maybe leased: what is in its row is of the lease. */
  add(turn: Turn, seq: number, before: EventColumns, event: StoredEvent | undefined): EventColumns {
    return event === undefined ? before : this.#chain(turn, seq, before, JSON.stringify(event));
  }

  /** The newest events as JSON, oldest first. A chain ends where the older ones were settled or have expired. */
  newest({ head, first_event: first }: Pick<EventColumns, "head" | "first_event">, limit: number): string[] {
    const found: string[] = [];
    for (let seq = head; seq !== null && found.length < limit;) {
      const row = this.#select.get(seq) as { prev: number | null; body: string } | undefined;
      if (row === undefined) break;
      found.push(row.body);
      seq = row.prev;
    }
    if (first !== null && found.length < limit) found.push(first);
    return found.toReversed();
  }

  /** The only event of an object as JSON, from its row and what stands in the table under `head`. */
  only({ first_event: first, head_body: body }: OnlyEvent): string[] {
    const text = first ?? body;
    return text === null ? [] : [text];
  }

  /** Deletes events that are all that their chains have. What came together lies side by side, and goes for less. */
  deleteAll(heads: readonly number[]): void {
    const single: number[] = [];
    for (let start = 0, end = 0; start < heads.length; start = end) {
      const [first, last] = [heads[start] as number, lastOfRun(heads, start)];
      end = start + last - first + 1;
      if (end - start >= RUN) this.#deleteRun.run(first, last);
      else single.push(...heads.slice(start, end));
    }
    if (single.length > 0) this.#deleteAll.run(JSON.stringify(single));
  }

  /** Deletes the events of a chain up to and with `last`, which the caller has seen. */
  deleteUpTo(head: number | null, last: number): void {
    let seq = head;
    while (seq !== null && seq > last) seq = this.#previous(seq);
    for (let deleted = 0; seq !== null && deleted < MAX_DELETED; deleted += 1) {
      seq = (this.#delete.get(seq) as { prev: number | null } | undefined)?.prev ?? null;
    }
  }

  #chain(turn: Turn, seq: number, before: EventColumns, body: string): EventColumns {
    this.#insert.run(seq, before.head, turn.now, body);
    return { ...before, event_count: before.event_count + 1, head: seq };
  }

  #previous(seq: number): number | null {
    return (this.#select.get(seq) as { prev: number | null } | undefined)?.prev ?? null;
  }
}

/** Where the numbers stop to follow one another. */
function lastOfRun(numbers: readonly number[], start: number): number {
  let [place, last] = [start, numbers[start] as number];
  while (numbers[place + 1] === last + 1) [place, last] = [place + 1, last + 1];
  return last;
}
