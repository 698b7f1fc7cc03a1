/**
 * The object index: what the user's copy is known to hold, and what a pass over a list has not seen of it.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
import type { IndexEntry, Lookup } from "../../core/store.ts";
import type { Database } from "./database.ts";
import { indexColumns, toLookup } from "./rows.ts";
import type { Scopes } from "./scopes.ts";
import type { StoreTime } from "./time.ts";

export class ObjectIndex {
  readonly #database: Database;
  readonly #scopes: Scopes;
  readonly #time: StoreTime;

  constructor(database: Database, scopes: Scopes, time: StoreTime) {
    this.#database = database;
    this.#scopes = scopes;
    this.#time = time;
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    if (ids.length === 0) return [];
    return (await this.#database.call("lookup", [...namesOf(scope), ids])).map(toLookup);
  }

  async record(scope: Scope, entries: readonly { id: string; index: IndexEntry }[]): Promise<number> {
    if (entries.length === 0) return 0;
    const latest = [...new Map(entries.map((entry) => [entry.id, entry])).values()];
    const columns = [latest.map(({ id }) => id), ...indexColumns(latest.map(({ index }) => index))];
    return await this.#scopes.with([scope], ([n]) =>
      this.#database.value<number>("record", [this.#time.moment, n, ...columns]),
    );
  }

  /** In the order of ids; a position is an id. */
  async unseen(
    scope: Scope,
    pass: string,
    { mark, after, limit }: { mark: number; after: string | undefined; limit: number },
  ): Promise<{ id: string; position: string }[]> {
    const s = this.#database.quoted;
    const text = `
      WITH scope AS MATERIALIZED (
        SELECT c.n FROM ${s}.scope c WHERE c.provider = $1 AND c.connection = $2 AND c.resource = $3 AND NOT c.forgotten
      ), seen AS MATERIALIZED (
        SELECT u.n FROM ${s}.pass_page g CROSS JOIN LATERAL unnest(g.objects) u(n) WHERE g.scope = (SELECT n FROM scope) AND g.pass = $4
      )
      SELECT o.id FROM ${s}.object o LEFT JOIN seen n ON n.n = o.n
      WHERE o.scope = (SELECT n FROM scope) AND o.id > $6 AND o.state = 'present' AND o.touched <= $5 AND n.n IS NULL
        AND NOT EXISTS (SELECT FROM ${s}.work w WHERE w.n = o.n)
      ORDER BY o.id LIMIT $7`;
    // Ids are never empty, so the empty one comes before all.
    const rows = await this.#database.query({ text }, [...namesOf(scope), pass, mark, after ?? "", limit]);
    return rows.map(([id]) => ({ id: id as string, position: id as string }));
  }

  async countPresent(scope: Scope): Promise<number> {
    const text = `
      SELECT c.present + coalesce((SELECT sum(p.change) FROM ${this.#database.quoted}.present_change p WHERE p.scope = c.n), 0)::bigint
      FROM ${this.#database.quoted}.scope c WHERE c.provider = $1 AND c.connection = $2 AND c.resource = $3 AND NOT c.forgotten`;
    const [row] = await this.#database.query({ text }, namesOf(scope));
    return (row?.[0] as number | undefined) ?? 0;
  }
}

function namesOf({ provider, connection, resource }: Scope): [string, string, string] {
  return [provider, connection, resource];
}
