/**
 * Events of objects: written at the end of their table, each with the number of the one before it.
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

export class Events {
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  readonly #delete: StatementSync;

  constructor(db: DatabaseSync) {
    this.#insert = db.prepare("INSERT INTO trueup_event (seq, prev, at, body) VALUES (?, ?, ?, ?)");
    this.#select = db.prepare("SELECT prev, body FROM trueup_event WHERE seq = ?");
    this.#delete = db.prepare("DELETE FROM trueup_event WHERE seq = ? RETURNING prev");
  }

  add(turn: Turn, seq: number, previous: number | null, event: StoredEvent): void {
    this.#insert.run(seq, previous, turn.now, JSON.stringify(event));
  }

  /** The newest events of a chain, oldest first. A chain ends where the older ones were settled or have expired. */
  newest(head: number | null, limit: number): StoredEvent[] {
    const found: StoredEvent[] = [];
    for (let seq = head; seq !== null && found.length < limit;) {
      const row = this.#select.get(seq) as { prev: number | null; body: string } | undefined;
      if (row === undefined) break;
      found.push(JSON.parse(row.body) as StoredEvent);
      seq = row.prev;
    }
    return found.toReversed();
  }

  /** Deletes the events of a chain up to and with `last`, which the caller has seen. */
  deleteUpTo(head: number | null, last: number): void {
    let seq = head;
    while (seq !== null && seq > last) seq = this.#previous(seq);
    for (let deleted = 0; seq !== null && deleted < MAX_DELETED; deleted += 1) {
      seq = (this.#delete.get(seq) as { prev: number | null } | undefined)?.prev ?? null;
    }
  }

  #previous(seq: number): number | null {
    return (this.#select.get(seq) as { prev: number | null } | undefined)?.prev ?? null;
  }
}
