/**
 * What is left to do, counted, and dead letters as they are listed.
 *
 * @module
 */

import { invalidOption } from "../../core/errors.ts";
import type { DeadLetterFilter, DeadRecord, Pending, RouteCounts } from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import type { Database } from "./database.ts";
import { eventTexts, toFailure } from "./rows.ts";
import type { StoreTime } from "./time.ts";

export interface ScopeRow {
  readonly n: number;
  readonly provider: string;
  readonly connection: string;
  readonly resource: string;
}

export class Status {
  readonly #database: Database;
  readonly #time: StoreTime;

  constructor(database: Database, time: StoreTime) {
    this.#database = database;
    this.#time = time;
  }

  async counts(): Promise<RouteCounts[]> {
    const { quoted: s } = this.#database;
    const text = `
      WITH work AS (
        SELECT w.lane / 2 AS scope, count(*) FILTER (WHERE w.fence IS NULL AND NOT w.dead) AS dirty,
          min(w.dirty_since) FILTER (WHERE w.fence IS NULL AND NOT w.dead) AS oldest,
          count(*) FILTER (WHERE w.fence IS NOT NULL) AS leased, count(*) FILTER (WHERE w.dead) AS dead
        FROM ${s}.work w GROUP BY 1
      ), change AS (SELECT p.scope, sum(p.change)::bigint AS change FROM ${s}.present_change p GROUP BY 1)
      SELECT c.provider, c.connection, c.resource, c.present + coalesce(p.change, 0), c.last_error, coalesce(w.dirty, 0), w.oldest,
        coalesce(w.leased, 0), coalesce(w.dead, 0), ${s}.moment($1)
      FROM ${s}.scope c LEFT JOIN work w ON w.scope = c.n LEFT JOIN change p ON p.scope = c.n
      WHERE NOT c.forgotten ORDER BY c.n`;
    const rows = await this.#database.query({ text }, [this.#time.moment]);
    return rows.map((row) => {
      const [provider, connection, resource, present, error, dirty, oldest, leased, dead, storeNow] =
        row as readonly [
          string,
          string,
          string,
          number,
          string | null,
          number,
          number | null,
          number,
          number,
          number,
        ];
      return {
        provider,
        connection,
        resource,
        dirty,
        leased,
        dead,
        present,
        oldestDirtySince: oldest === null ? undefined : this.#time.local(oldest, storeNow),
        lastError: error === null ? undefined : toFailure(error),
      };
    });
  }

  async pending(dueBy: number): Promise<Pending> {
    const { quoted: s } = this.#database;
    const text = `
      WITH moment AS MATERIALIZED (SELECT ${s}.moment($1) + $2::bigint AS due_by), lane AS (
        SELECT w.lane, count(*) FILTER (WHERE w.fence IS NULL AND NOT w.dead) AS waiting,
          count(*) FILTER (WHERE w.fence IS NULL AND NOT w.dead AND w.due <= m.due_by) AS due,
          count(*) FILTER (WHERE w.fence IS NOT NULL) AS leased, count(*) FILTER (WHERE w.dead) AS dead
        FROM ${s}.work w CROSS JOIN moment m GROUP BY 1
      )
      SELECT coalesce(sum(w.due) FILTER (WHERE l.held_until <= m.due_by), 0)::bigint, coalesce(sum(w.leased), 0)::bigint,
        coalesce(sum(w.waiting), 0)::bigint, coalesce(sum(w.dead), 0)::bigint
      FROM lane w JOIN ${s}.lane l ON l.n = w.lane CROSS JOIN moment m`;
    const [row] = await this.#database.query({ text }, [this.#time.moment, this.#time.delay(dueBy)]);
    const [due, leased, waiting, dead] = row as readonly [number, number, number, number];
    return { due, leased, later: waiting - due, dead };
  }

  async scopes({ provider, connection, resource }: DeadLetterFilter): Promise<ScopeRow[]> {
    const text = `
      SELECT c.n, c.provider, c.connection, c.resource FROM ${this.#database.quoted}.scope c
      WHERE NOT c.forgotten AND ($1::text IS NULL OR c.provider = $1) AND ($2::text IS NULL OR c.connection = $2)
        AND ($3::text IS NULL OR c.resource = $3)`;
    const rows = await this.#database.query({ text }, [
      provider ?? null,
      connection ?? null,
      resource ?? null,
    ]);
    return rows.map((row) => {
      const [n, ...names] = row as readonly [number, string, string, string];
      return { n, provider: names[0], connection: names[1], resource: names[2] };
    });
  }

  /** In the order of objects. */
  async listDead(
    filter: DeadLetterFilter,
    page: { cursor: string | undefined; limit: number },
    maxEvents: number,
  ): Promise<{ items: DeadRecord[]; next: string | undefined }> {
    const scopes = new Map((await this.scopes(filter)).map((scope) => [scope.n, scope]));
    const { quoted: s } = this.#database;
    const text = `
      SELECT w.n, w.lane / 2, o.id, w.error, w.attempts, w.event_count, w.dirty_since, ${s}.moment($1), (
        SELECT string_agg(e.body, ',' ORDER BY e.seq) FROM (
          SELECT v.seq, v.body FROM ${s}.event v WHERE v.object = w.n ORDER BY v.seq DESC LIMIT $6) e)
      FROM ${s}.work w JOIN ${s}.object o ON o.n = w.n
      WHERE w.dead AND w.lane / 2 = ANY($2::bigint[]) AND ($3::text[] IS NULL OR o.id = ANY($3)) AND w.n > $4 ORDER BY w.n LIMIT $5`;
    const rows = await this.#database.query({ text }, [
      this.#time.moment,
      [...scopes.keys()],
      filter.ids ?? null,
      readCursor(page.cursor),
      page.limit + 1,
      maxEvents,
    ]);
    const items = rows.slice(0, page.limit).map((row): DeadRecord => {
      const [, scope, id, error, attempts, eventCount, dirtySince, storeNow, events] = row as readonly [
        number,
        number,
        string,
        string,
        number,
        number,
        number,
        number,
        string | null,
      ];
      const { provider, connection, resource } = scopes.get(scope) as ScopeRow;
      const record = {
        ref: { provider, connection, resource, id },
        error: toFailure(error),
        attempts,
        eventCount,
        dirtySince: this.#time.local(dirtySince, storeNow),
      };
      return withStoredEvents(record, eventTexts(events));
    });
    const last = rows.length > page.limit ? (rows[page.limit - 1]?.[0] as number) : undefined;
    return { items, next: last?.toString() };
  }
}

function readCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (!/^\d{1,15}$/.test(cursor))
    throw invalidOption(`${JSON.stringify(cursor)} is no cursor of a list of dead letters`);
  return Number(cursor);
}
