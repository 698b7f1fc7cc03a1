/**
 * Passes over lists: pages with their checkpoints, and which objects a pass has seen.
 *
 * A page's objects are remembered as one blob of numbers, since a row for each would cost more than all the rest.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Scope } from "../../core/event.ts";
import type { Claim, Lock, PageRecord } from "../../core/store.ts";
import type { Appender } from "./append.ts";
import type { Committer } from "./committer.ts";
import { laneOf } from "./lane-number.ts";
import type { Chosen, Leases } from "./leases.ts";
import type { Named } from "./named.ts";
import { WORK_COLUMNS, type WorkRow } from "./rows.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** How many ids are looked through before others get a turn of the event loop. */
const SLICE = 5_000;

const BYTES_PER_NUMBER = Uint32Array.BYTES_PER_ELEMENT;

interface Parts {
  readonly committer: Committer;
  readonly scopes: Scopes;
  readonly leases: Leases;
  readonly appender: Appender;
  readonly named: Named;
}

export interface UnseenOptions {
  readonly mark: number;
  readonly after: string | undefined;
  readonly limit: number;
}

export class Passes {
  readonly #parts: Parts;
  readonly #lease: Statement;
  readonly #pending: Statement;
  readonly #numbers: Statement;
  readonly #number: Statement;
  readonly #addPage: Statement;
  readonly #pages: Statement;
  readonly #deletePages: Statement;
  readonly #highest: Statement;
  readonly #slice: StatementSync;
  readonly #isExtra: Statement;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#parts = parts;
    // Makes the object dirty in the repair lane, if it is clean, untouched and not resting, so that a crash leaves it due.
    this.#lease = prepare(
      db,
      `
      INSERT INTO trueup_object (scope, id, touched, lane, due, dirty_since, generation, origin)
      VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?3, 'reconcile')
      ON CONFLICT (scope, id) DO UPDATE SET touched = ?3, lane = ?4, due = ?5, dirty_since = ?5, generation = ?3,
        attempts = 0, lags = 0, origin = 'reconcile'
      WHERE due IS NULL AND dead IS NULL AND touched <= ?6 AND coalesce(not_before, 0) <= ?5
      RETURNING ${WORK_COLUMNS}`,
    );
    this.#pending = prepare(
      db,
      `
      SELECT n, dead, due FROM trueup_object WHERE scope = ? AND id = ?`,
    );
    this.#numbers = prepare(
      db,
      "SELECT n FROM trueup_object WHERE scope = ? AND id IN (SELECT value FROM json_each(?))",
    );
    this.#number = prepare(
      db,
      `
      INSERT INTO trueup_object (scope, id, dirty_since) SELECT ?, value, ? FROM json_each(?) WHERE true
      ON CONFLICT DO NOTHING`,
    );
    this.#addPage = prepare(
      db,
      `
      INSERT INTO trueup_pass_page (scope, pass, page, objects) VALUES (?1, ?2,
        (SELECT coalesce(max(page), 0) + 1 FROM trueup_pass_page WHERE scope = ?1 AND pass = ?2), ?3)`,
    );
    this.#pages = prepare(db, "SELECT objects FROM trueup_pass_page WHERE scope = ? AND pass = ?");
    this.#deletePages = prepare(db, "DELETE FROM trueup_pass_page WHERE scope = ? AND pass = ?");
    this.#highest = prepare(db, "SELECT coalesce(max(n), 0) AS n FROM trueup_object");
    this.#slice = db.prepare(
      "SELECT id, n FROM trueup_object WHERE scope = ? AND id > ? ORDER BY id LIMIT ?",
    );
    this.#slice.setReturnArrays(true);
    this.#isExtra = prepare(
      db,
      `
      SELECT 1 FROM trueup_object WHERE n = ? AND state = 'present' AND due IS NULL AND dead IS NULL AND touched <= ?`,
    );
  }

  /** @throws TrueupError `LEASE_LOST` when the pass's lock is another's. */
  recordPage(turn: Turn, page: PageRecord): Claim[] {
    const { leases, named, scopes } = this.#parts;
    named.requireLock(page.lock);
    const scope = scopes.demand(turn, page.scope);
    const chosen: Chosen[] = [];
    for (const id of new Set(page.differing)) {
      const row = page.lease ? this.#choose(turn, scope, id, page) : undefined;
      if (row !== undefined) chosen.push({ row, scope: page.scope });
      else this.#markDirty(turn, scope, id);
    }
    if (page.seen.length > 0) {
      this.#addPage.run(scope, page.pass, this.#numbersOf(turn, scope, page.seen));
    }
    named.setCheckpoint(page.pass, page.checkpoint);
    return leases.grant(turn, chosen);
  }

  endPass(turn: Turn, ref: Scope, pass: string, lock: Lock, checkpoint: string | null): void {
    const { named, scopes } = this.#parts;
    named.requireLock(lock);
    const scope = scopes.find(ref);
    if (scope !== undefined) this.#deletePages.run(scope, pass);
    named.setCheckpoint(pass, checkpoint);
  }

  /** In the order of ids; a position is an id. Memory: one bit for each object of the store. */
  async unseen(
    ref: Scope,
    pass: string,
    options: UnseenOptions,
  ): Promise<{ id: string; position: string }[]> {
    const { committer } = this.#parts;
    const start = await committer.read(() => {
      const scope = this.#parts.scopes.find(ref);
      return scope === undefined ? undefined : { scope, seen: this.#seenBy(scope, pass) };
    });
    const found: { id: string; position: string }[] = [];
    if (start === undefined) return found;
    // Ids are never empty, so the empty one comes before all.
    for (let after: string | undefined = options.after ?? ""; after !== undefined;) {
      const from: string = after;
      after = await committer.read(() => this.#scan(start, from, options, found));
      await nextTurn();
    }
    return found;
  }

  /** Adds what is unseen in one slice of ids; returns where the next begins, if one is needed. */
  #scan(
    { scope, seen }: { scope: number; seen: Uint8Array },
    after: string,
    { mark, limit }: UnseenOptions,
    found: { id: string; position: string }[],
  ): string | undefined {
    const rows = this.#slice.all(scope, after, SLICE) as unknown as [id: string, n: number][];
    for (const [id, n] of rows) {
      if (found.length >= limit) return undefined;
      // A number beyond the set was given after it was made: nothing the pass could have missed.
      const byte = seen[Math.floor(n / 8)] ?? 0xff;
      if ((byte & (1 << (n % 8))) === 0 && this.#isExtra.get(n, mark) !== undefined)
        found.push({ id, position: id });
    }
    return rows.length === SLICE && found.length < limit ? rows.at(-1)?.[0] : undefined;
  }

  /** The numbers that a pass has seen, as a set of bits. */
  #seenBy(scope: number, pass: string): Uint8Array {
    const { n: highest } = this.#highest.get() as { n: number };
    const seen = new Uint8Array(Math.floor(highest / 8) + 1);
    for (const row of this.#pages.iterate(scope, pass)) {
      const { objects } = row as { objects: Uint8Array };
      const numbers = new DataView(objects.buffer, objects.byteOffset, objects.byteLength);
      for (let at = 0; at < objects.byteLength; at += BYTES_PER_NUMBER) {
        const n = numbers.getUint32(at, true);
        const byte = Math.floor(n / 8);
        seen[byte] = (seen[byte] ?? 0) | (1 << (n % 8));
      }
    }
    return seen;
  }

  /** Makes an object dirty that may be leased at once. */
  #choose(turn: Turn, scope: number, id: string, page: PageRecord): WorkRow | undefined {
    const lane = laneOf(scope, "repair");
    return this.#lease.get(scope, id, turn.tick(), lane, turn.now, page.mark) as unknown as
      | WorkRow
      | undefined;
  }

  /** Leaves what waits and what is dead as it is; marks what is clean or leased. */
  #markDirty(turn: Turn, scope: number, id: string): void {
    const row = this.#pending.get(scope, id) as
      | { n: number; dead: number | null; due: number | null }
      | undefined;
    const leased = row !== undefined && this.#parts.leases.in(turn).get(row.n) !== undefined;
    if (row !== undefined && (row.dead !== null || (row.due !== null && !leased))) return;
    this.#parts.appender.mark(turn, scope, id, { origin: "reconcile", lane: "repair" });
  }

  /** Ids that the store has not heard of get a number too: they may be recorded later, and were seen all the same. */
  #numbersOf(turn: Turn, scope: number, ids: readonly string[]): Uint8Array {
    const json = JSON.stringify(ids);
    let rows = this.#numbers.all(scope, json);
    if (rows.length < new Set(ids).size) {
      this.#number.run(scope, turn.now, json);
      rows = this.#numbers.all(scope, json);
    }
    const bytes = new DataView(new ArrayBuffer(rows.length * BYTES_PER_NUMBER));
    for (const [i, row] of rows.entries())
      bytes.setUint32(i * BYTES_PER_NUMBER, (row as { n: number }).n, true);
    return new Uint8Array(bytes.buffer);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
