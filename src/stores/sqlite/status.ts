/**
 * What is left to do, counted.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Pending, RouteCounts } from "../../core/store.ts";
import type { Leases } from "./leases.ts";
import { toFailure } from "./rows.ts";
import { prepare, type Statement } from "./statement.ts";

/** Leased objects are the first parameter. */
const UNLEASED = "o.n NOT IN (SELECT value FROM json_each(?1))";

interface ScopeCounts {
  readonly provider: string;
  readonly connection: string;
  readonly resource: string;
  readonly present: number;
  readonly last_error: string | null;
  readonly dirty: number;
  readonly oldest: number | null;
  readonly leased: number;
  readonly dead: number;
}

export class Status {
  readonly #leases: Leases;
  readonly #counts: Statement;
  readonly #waiting: Statement;
  readonly #dead: Statement;

  constructor(db: DatabaseSync, leases: Leases) {
    this.#leases = leases;
    // The counting is done by scope in the indexes on waiting and dead objects; lane / 2 is the scope.
    this.#counts = prepare(
      db,
      `
      WITH waiting AS (
        SELECT o.lane / 2 AS scope, count(*) AS count, min(o.dirty_since) AS oldest
        FROM trueup_object o WHERE o.due IS NOT NULL AND ${UNLEASED} GROUP BY 1
      ), leased AS (
        SELECT o.scope, count(*) AS count FROM json_each(?1) l CROSS JOIN trueup_object o ON o.n = l.value GROUP BY 1
      ), dead AS (
        SELECT scope, count(*) AS count FROM trueup_object WHERE dead IS NOT NULL GROUP BY 1
      )
      SELECT s.provider, s.connection, s.resource, s.present, s.last_error, coalesce(w.count, 0) AS dirty,
        w.oldest, coalesce(l.count, 0) AS leased, coalesce(d.count, 0) AS dead
      FROM trueup_scope s LEFT JOIN waiting w ON w.scope = s.n LEFT JOIN leased l ON l.scope = s.n
        LEFT JOIN dead d ON d.scope = s.n
      WHERE s.forgotten IS NULL ORDER BY s.n`,
    );
    this.#waiting = prepare(
      db,
      `
      SELECT coalesce(sum(w.count), 0) AS waiting, coalesce(sum(CASE WHEN t.held_until <= ?2 THEN w.due END), 0) AS due
      FROM (
        SELECT o.lane, count(*) AS count, sum(o.due <= ?2) AS due
        FROM trueup_object o WHERE o.due IS NOT NULL AND ${UNLEASED} GROUP BY o.lane
      ) w JOIN trueup_lane t ON t.n = w.lane`,
    );
    this.#dead = prepare(
      db,
      `
      SELECT count(*) AS count FROM trueup_object o JOIN trueup_scope s ON s.n = o.scope
      WHERE o.dead IS NOT NULL AND s.forgotten IS NULL`,
    );
  }

  counts(): RouteCounts[] {
    const leased = this.#leases.committed().numbers();
    return (this.#counts.all(leased) as unknown as ScopeCounts[]).map((row) => ({
      provider: row.provider,
      connection: row.connection,
      resource: row.resource,
      dirty: row.dirty,
      leased: row.leased,
      dead: row.dead,
      present: row.present,
      oldestDirtySince: row.oldest ?? undefined,
      lastError: row.last_error === null ? undefined : toFailure(row.last_error),
    }));
  }

  pending(dueBy: number): Pending {
    const leases = this.#leases.committed();
    const { waiting, due } = this.#waiting.get(leases.numbers(), dueBy) as { waiting: number; due: number };
    const { count: dead } = this.#dead.get() as { count: number };
    return { due, leased: leases.size, later: waiting - due, dead };
  }
}
