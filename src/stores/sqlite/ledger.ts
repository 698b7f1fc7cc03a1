/**
 * The ledger: which events were seen, and since when.
 *
 * Keys are random, and a commit that wrote one index over all of them would write a page for each. They are kept by
 * object instead: an event about a new object is written at the end, one about a known object beside its earlier ones.
 * A key names its object (see `dedupeKey`), so nothing is lost by looking there alone.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { DEDUPE_KEY_BYTES } from "../../core/event.ts";
import type { Turn } from "./turn.ts";

/** How many keys one slice of sweeping deletes; a page is never cut. */
const SLICE = 500;

/** A key in a page: the number of its object as little-endian uint32, and the key itself. */
const OBJECT_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const ENTRY_BYTES = OBJECT_BYTES + DEDUPE_KEY_BYTES;

export interface LedgerEntry {
  readonly object: number;
  readonly key: Uint8Array;
}

export class Ledger {
  readonly #insert: StatementSync;
  readonly #oldest: StatementSync;
  readonly #delete: StatementSync;
  readonly #deletePage: StatementSync;
  readonly #deleteObject: StatementSync;

  constructor(db: DatabaseSync) {
    this.#insert = db.prepare("INSERT INTO trueup_ledger (object, key) VALUES (?, ?) ON CONFLICT DO NOTHING");
    this.#oldest = db.prepare("SELECT seq, at, keys FROM trueup_ledger_page ORDER BY seq LIMIT 1");
    this.#delete = db.prepare("DELETE FROM trueup_ledger WHERE object = ? AND key = ?");
    this.#deletePage = db.prepare("DELETE FROM trueup_ledger_page WHERE seq = ?");
    this.#deleteObject = db.prepare("DELETE FROM trueup_ledger WHERE object = ?");
  }

  /** @returns false for a key that is there already */
  add(turn: Turn, object: number, key: Uint8Array): boolean {
    if (this.#insert.run(object, key).changes === 0) return false;
    turn.ledgerEntries.push({ object, key });
    return true;
  }

  forget(object: number): void {
    this.#deleteObject.run(object);
  }

  /** Deletes a slice of the keys that came by then. @returns whether there may be more */
  sweep(expired: number): boolean {
    for (let deleted = 0; deleted < SLICE;) {
      const page = this.#oldest.get() as { seq: number; at: number; keys: Uint8Array } | undefined;
      if (page === undefined || page.at > expired) return false;
      for (const { object, key } of readPage(page.keys)) {
        this.#delete.run(object, key);
        deleted += 1;
      }
      this.#deletePage.run(page.seq);
    }
    return true;
  }
}

/** The entries of one transaction as one blob. */
export function ledgerPage(entries: readonly LedgerEntry[]): Uint8Array {
  const page = new Uint8Array(entries.length * ENTRY_BYTES);
  const numbers = new DataView(page.buffer);
  for (const [i, { object, key }] of entries.entries()) {
    numbers.setUint32(i * ENTRY_BYTES, object, true);
    page.set(key, i * ENTRY_BYTES + OBJECT_BYTES);
  }
  return page;
}

function* readPage(page: Uint8Array): Generator<LedgerEntry> {
  const numbers = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.length; at += ENTRY_BYTES) {
    const object = numbers.getUint32(at, true);
    yield { object, key: page.subarray(at + OBJECT_BYTES, at + ENTRY_BYTES) };
  }
}
