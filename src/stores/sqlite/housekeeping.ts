/**
 * Forgetting connections, and sweeping away what has expired: in slices, each short.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { connectionKey } from "../../core/store.ts";
import type { Events } from "./events.ts";
import type { Leases } from "./leases.ts";
import type { Ledger } from "./ledger.ts";
import type { Scopes } from "./scopes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** How many rows of each kind one slice deletes. */
const SLICE = 500;

export class Housekeeping {
  readonly #scopes: Scopes;
  readonly #leases: Leases;
  readonly #events: Events;
  readonly #ledger: Ledger;
  readonly #deleteEvents: Statement;
  readonly #deleteEmpty: Statement;
  readonly #deleteLocks: Statement;
  readonly #deletePauses: Statement;
  readonly #forgetting: Statement[];
  readonly #scopesChanged: Statement;
  /** By what the names of the connection begin with. */
  readonly #forgettingNamed: Statement[];
  readonly #forgotten: Statement;
  readonly #objects: Statement;
  readonly #deleteObject: Statement;
  readonly #deleteScope: Statement;

  constructor(db: DatabaseSync, parts: { scopes: Scopes; leases: Leases; events: Events; ledger: Ledger }) {
    this.#scopes = parts.scopes;
    this.#leases = parts.leases;
    this.#events = parts.events;
    this.#ledger = parts.ledger;
    this.#deleteEvents = prepare(
      db,
      `
      DELETE FROM trueup_event WHERE at <= ? AND seq IN (SELECT seq FROM trueup_event ORDER BY seq LIMIT ${SLICE})`,
    );
    // The highest number stays taken, so that it is not given again while a pass may still mean the old one.
    this.#deleteEmpty = prepare(
      db,
      `
      DELETE FROM trueup_object WHERE n IN (
        SELECT n FROM trueup_object INDEXED BY trueup_object_empty
        WHERE state IS NULL AND due IS NULL AND dead IS NULL AND begun = 0 AND dirty_since <= ? LIMIT ${SLICE})
      AND n < (SELECT max(n) FROM trueup_object)`,
    );
    this.#deleteLocks = prepare(db, "DELETE FROM trueup_lock WHERE expires_at <= ?");
    this.#deletePauses = prepare(db, "DELETE FROM trueup_pause WHERE until <= ?");
    this.#forgetting = [
      `DELETE FROM trueup_pass_page WHERE scope IN (SELECT n FROM trueup_scope WHERE provider = ? AND connection = ?)`,
      "DELETE FROM trueup_lane WHERE provider = ? AND connection = ?",
      "DELETE FROM trueup_pause WHERE provider = ? AND connection = ?",
      "UPDATE trueup_scope SET forgotten = 1 WHERE provider = ? AND connection = ?",
    ].map((sql) => prepare(db, sql));
    this.#scopesChanged = prepare(db, "UPDATE trueup_store SET scopes_changed = ?");
    this.#forgettingNamed = [
      "DELETE FROM trueup_checkpoint WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1",
      "DELETE FROM trueup_lock WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1",
    ].map((sql) => prepare(db, sql));
    this.#forgotten = prepare(db, "SELECT n FROM trueup_scope WHERE forgotten IS NOT NULL LIMIT 1");
    this.#objects = prepare(db, `SELECT n, head FROM trueup_object WHERE scope = ? LIMIT ${SLICE}`);
    this.#deleteObject = prepare(db, "DELETE FROM trueup_object WHERE n = ?");
    this.#deleteScope = prepare(db, "DELETE FROM trueup_scope WHERE n = ?");
  }

  /** The connection is gone at once; its rows follow with {@link sweep}, so that this stays short for any number. */
  forget(turn: Turn, provider: string, connection: string): void {
    const scopes = this.#scopes.list({ provider, connection }).map(({ n }) => n);
    this.#leases.endIn(turn, new Set(scopes));
    for (const statement of this.#forgetting) statement.run(provider, connection);
    for (const statement of this.#forgettingNamed) statement.run(connectionKey(provider, connection));
    this.#scopesChanged.run(turn.tick());
    this.#scopes.forgetNumbers(turn);
    turn.awake.clear();
    this.#purge();
  }

  /** @returns whether there may be more to do now. */
  sweep(turn: Turn, ttlMs: number): boolean {
    const expired = turn.now - ttlMs;
    const keys = this.#ledger.sweep(expired);
    const events = Number(this.#deleteEvents.run(expired).changes) === SLICE;
    const empty = Number(this.#deleteEmpty.run(expired).changes) === SLICE;
    this.#deleteLocks.run(expired);
    this.#deletePauses.run(turn.now);
    const purged = this.#purge();
    return keys || events || empty || purged;
  }

  /** Deletes a slice of what forgotten connections have left. */
  #purge(): boolean {
    const scope = this.#forgotten.get() as { n: number } | undefined;
    if (scope === undefined) return false;
    const objects = this.#objects.all(scope.n) as unknown as { n: number; head: number | null }[];
    for (const { n, head } of objects) {
      if (head !== null) this.#events.deleteUpTo(head, head);
      this.#ledger.forget(n);
      this.#deleteObject.run(n);
    }
    if (objects.length < SLICE) this.#deleteScope.run(scope.n);
    return true;
  }
}
