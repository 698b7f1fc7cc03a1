/**
 * The ledger: which events were seen, and since when.
 *
 * Keys are random, and a commit that wrote one index over all of them would write a page for each. A key names its object
 * (see `dedupeKey`), so nothing is lost by looking there alone: the newest keys of an object stand in its own row, which
 * an append writes anyhow. When there are too many of them for a narrow row, all move to a table, to lie side by side.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";

/** How many keys a row holds: what most objects get within the time that keys are kept. */
const MAX_IN_ROW = 16;

/** Between the keys of a row, and behind the last. No key has it, so that none is found astride two others. */
const SEPARATOR = ",";

/** How many keys, or objects without one, a slice sweeps; what came with one transaction is never cut. */
const SLICE = 500;

/** What an object's row has of the ledger. */
export interface LedgerColumns {
  readonly keys: string | null;
  readonly older_keys: number;
}

export class Ledger {
  readonly #insert: StatementSync;
  readonly #find: StatementSync;
  readonly #any: StatementSync;
  readonly #delete: StatementSync;
  readonly #deleteObject: StatementSync;
  readonly #object: StatementSync;
  readonly #update: StatementSync;
  readonly #oldest: StatementSync;
  readonly #deleteArrival: StatementSync;

  constructor(db: DatabaseSync) {
    this.#insert = db.prepare("INSERT INTO trueup_ledger (object, key) VALUES (?, ?) ON CONFLICT DO NOTHING");
    this.#find = db.prepare("SELECT 1 FROM trueup_ledger WHERE object = ? AND key = ?");
    this.#any = db.prepare("SELECT 1 FROM trueup_ledger WHERE object = ? LIMIT 1");
    this.#delete = db.prepare("DELETE FROM trueup_ledger WHERE object = ? AND key = ?");
    this.#deleteObject = db.prepare("DELETE FROM trueup_ledger WHERE object = ?");
    this.#object = db.prepare("SELECT keys, older_keys FROM trueup_object WHERE n = ?");
    this.#update = db.prepare(
      `
      UPDATE trueup_object SET keys = ?, older_keys = ?, first_event = iif(first_at > ?, first_event, NULL),
        first_at = iif(first_at > ?, first_at, NULL)
      WHERE n = ?`,
    );
    this.#oldest = db.prepare("SELECT seq, at, objects FROM trueup_arrival ORDER BY seq LIMIT 1");
    this.#deleteArrival = db.prepare("DELETE FROM trueup_arrival WHERE seq = ?");
  }

  has(object: number, { keys, older_keys: older }: LedgerColumns, key: string): boolean {
    if (keys?.includes(key) === true) return true;
    return older === 1 && this.#find.get(object, key) !== undefined;
  }

  /** The object's columns with a key that it does not have yet. */
  add(object: number, { keys, older_keys: older }: LedgerColumns, key: string): LedgerColumns {
    const last = keysInRow([key]);
    if (keys === null) return { keys: last, older_keys: older };
    if (keys.length < MAX_IN_ROW * last.length) return { keys: keys + last, older_keys: older };
    for (const earlier of splitKeys(keys)) this.#insert.run(object, earlier);
    return { keys: last, older_keys: 1 };
  }

  forget(object: number): void {
    this.#deleteObject.run(object);
  }

  /**
   * Deletes a slice of the keys that came by then, and of the events that stand in their objects' rows.
   * @returns whether there may be more
   */
  sweep(expired: number): boolean {
    for (let swept = 0; swept < SLICE;) {
      const arrival = this.#oldest.get() as { seq: number; at: number; objects: string } | undefined;
      if (arrival === undefined || arrival.at > expired) return false;
      for (const [object, keys] of keysByObject(arrival.objects)) {
        this.#sweepObject(object, keys, expired);
        swept += Math.max(1, keys.length);
      }
      this.#deleteArrival.run(arrival.seq);
    }
    return true;
  }

  #sweepObject(object: number, keys: readonly string[], expired: number): void {
    const row = this.#object.get(object) as LedgerColumns | undefined;
    const kept = new Set(splitKeys(row?.keys ?? ""));
    for (const key of keys) if (!kept.delete(key)) this.#delete.run(object, key);
    if (row === undefined) return;
    const left = kept.size === 0 ? null : keysInRow([...kept]);
    const older = row.older_keys === 1 && this.#any.get(object) !== undefined;
    this.#update.run(left, Number(older), expired, expired, object);
  }
}

/** What `Turn.arrivals` gathered. An object that came without a key has an empty list. */
function keysByObject(arrival: string): Map<number, string[]> {
  const objects = new Map<number, string[]>();
  const list = JSON.parse(arrival) as (number | string | null)[];
  for (let i = 0; i < list.length; i += 2) {
    const [object, key] = [list[i] as number, list[i + 1] as string | null];
    const keys = objects.get(object) ?? [];
    if (key !== null) keys.push(key);
    objects.set(object, keys);
  }
  return objects;
}

/** A dedupe key as the tables have it. */
export function keyText(key: Uint8Array): string {
  const bytes = Buffer.isBuffer(key) ? key : Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  return bytes.toString("base64url");
}

/** Keys as an object's row has them. */
export function keysInRow(keys: readonly string[]): string {
  return keys.join(SEPARATOR) + SEPARATOR;
}

function splitKeys(keys: string): string[] {
  return keys.split(SEPARATOR).slice(0, -1);
}
