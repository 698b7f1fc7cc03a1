/**
 * Scopes by number: one for each connection and resource that was ever written of.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Scope } from "../../core/event.ts";
import type { Lanes } from "./lanes.ts";
import type { Turn } from "./turn.ts";
import { prepare, type Statement } from "./statement.ts";

/** Above this many the remembered numbers are dropped, so that memory stays bounded over any number of connections. */
const MAX_REMEMBERED = 50_000;

export interface ScopeRow extends Scope {
  readonly n: number;
}

/** What a caller may leave out to mean all. */
export interface ScopeFilter {
  readonly provider?: string | undefined;
  readonly connection?: string | undefined;
  readonly resource?: string | undefined;
}

export class Scopes {
  readonly #lanes: Lanes;
  readonly #find: Statement;
  readonly #insert: Statement;
  readonly #list: Statement;
  readonly #connections: Statement;
  readonly #addPresent: Statement;
  readonly #setError: Statement;
  /** Committed ones alone: what a rolled back transaction created must not be remembered. */
  #remembered = new Map<string, number>();
  /** The one of them that was asked for last: most events are of the same scope as the one before. */
  #latest: ScopeRow | undefined;
  #rememberedSince = -1;

  constructor(db: DatabaseSync, lanes: Lanes) {
    this.#lanes = lanes;
    this.#find = prepare(
      db,
      `SELECT n FROM trueup_scope WHERE provider = ? AND connection = ? AND resource = ? AND forgotten IS NULL`,
    );
    this.#insert = prepare(db, "INSERT INTO trueup_scope (provider, connection, resource) VALUES (?, ?, ?)");
    this.#list = prepare(
      db,
      `
      SELECT n, provider, connection, resource FROM trueup_scope
      WHERE forgotten IS NULL AND (?1 IS NULL OR provider = ?1) AND (?2 IS NULL OR connection = ?2)
        AND (?3 IS NULL OR resource = ?3)
      ORDER BY n`,
    );
    this.#connections = prepare(
      db,
      `SELECT DISTINCT connection FROM trueup_scope WHERE provider = ? AND forgotten IS NULL ORDER BY connection`,
    );
    this.#addPresent = prepare(db, "UPDATE trueup_scope SET present = present + ? WHERE n = ?");
    this.#setError = prepare(db, "UPDATE trueup_scope SET last_error = ? WHERE n = ?");
  }

  /** The scope's number, for reading: nothing is created and nothing remembered. */
  find({ provider, connection, resource }: Scope): number | undefined {
    return (this.#find.get(provider, connection, resource) as { n: number } | undefined)?.n;
  }

  /** The scope's number, for writing: it is created, with its lanes, where it is missing. */
  demand(turn: Turn, scope: Scope): number {
    if (turn.store.scopes_changed !== this.#rememberedSince || this.#remembered.size > MAX_REMEMBERED) {
      this.#remembered = new Map();
      this.#latest = undefined;
      this.#rememberedSince = turn.store.scopes_changed;
    }
    const latest = this.#latest;
    if (
      latest?.resource === scope.resource &&
      latest.connection === scope.connection &&
      latest.provider === scope.provider
    ) {
      return latest.n;
    }
    const key = `${scope.provider}\0${scope.connection}\0${scope.resource}`;
    const known = this.#remembered.get(key);
    if (known !== undefined) return this.#last(known, scope);
    const created = turn.newScopes.get(key);
    if (created !== undefined) return created;
    const found = this.find(scope);
    if (found === undefined) return this.#create(turn, key, scope);
    this.#remembered.set(key, found);
    return this.#last(found, scope);
  }

  /** What is remembered is void: scopes were forgotten. */
  forgetNumbers(turn: Turn): void {
    this.#remembered = new Map();
    this.#latest = undefined;
    turn.newScopes.clear();
  }

  list(filter: ScopeFilter): ScopeRow[] {
    const { provider = null, connection = null, resource = null } = filter;
    return this.#list.all(provider, connection, resource) as unknown as ScopeRow[];
  }

  connections(provider: string): string[] {
    return this.#connections.all(provider).map((row) => (row as { connection: string }).connection);
  }

  /** Counts objects that became present (or, below 0, ceased to be). */
  addPresent(scope: number, change: number): void {
    if (change !== 0) this.#addPresent.run(change, scope);
  }

  recordError(scope: number, error: string): void {
    this.#setError.run(error, scope);
  }

  #last(n: number, { provider, connection, resource }: Scope): number {
    this.#latest = { n, provider, connection, resource };
    return n;
  }

  #create(turn: Turn, key: string, { provider, connection, resource }: Scope): number {
    const n = Number(this.#insert.run(provider, connection, resource).lastInsertRowid);
    this.#lanes.create(n, { provider, connection, resource });
    turn.newScopes.set(key, n);
    return n;
  }
}
