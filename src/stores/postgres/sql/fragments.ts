/**
 * Pieces of SQL that several functions share.
 *
 * @module
 */

/**
 * Settings of the functions of the path. Their tables are empty when plans are made and large soon after: a plan must
 * never read a table as a whole where it looks up rows. A plan that must all the same, of a small table, counts as so
 * expensive then that it would be compiled, which takes longer than all the rest.
 */
export const LOOKS_UP = "SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off";

/** As {@link LOOKS_UP}, for functions that join tables with arrays: a row or two at a time, for which a bitmap is a detour. */
export const JOINS_BY_INDEX = `${LOOKS_UP} SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off`;

/** Error codes of our own, as SQLSTATEs. */
export const RAISED = {
  staleScope: "TRU01",
  sessionLost: "TRU02",
  lockLost: "TRU03",
  leaseLost: "TRU04",
} as const;

export function raise(code: keyof typeof RAISED): string {
  return `RAISE EXCEPTION '${code}' USING ERRCODE = '${RAISED[code]}'`;
}

/**
 * Arrays side by side, as a table: what `unnest` of several does in FROM, too, but by way of a table for each of them,
 * which costs three times as much.
 */
export function side(columns: Readonly<Record<string, string>>): string {
  const listed = Object.entries(columns).map(([column, array]) => `unnest(${array}) AS ${column}`);
  return `(SELECT ${listed.join(", ")})`;
}

/** Columns (or values) of a hint. */
export interface HintSql {
  readonly hint: string;
  readonly version: string;
  readonly order: string;
}

/** `mergeHints` of core/hint.ts, as the expressions of three columns. */
export function mergedHint(earlier: HintSql, later: HintSql): HintSql {
  const ordered = `(left(${earlier.order}, 1) = left(${later.order}, 1))`;
  const isOlder = `(${ordered} AND ${later.order} < ${earlier.order} COLLATE "C")`;
  const isNewer = `(${ordered} AND ${later.order} > ${earlier.order} COLLATE "C")`;
  const kept = `(${later.version} IS NULL OR ${isOlder})`;
  return {
    hint: `CASE WHEN ${later.version} IS NOT NULL AND ${isOlder} THEN ${earlier.hint}
      WHEN ${later.version} IS NOT NULL AND ${isNewer} THEN ${later.hint}
      ELSE coalesce(${later.hint}, ${earlier.hint}) END`,
    version: `CASE WHEN ${kept} THEN ${earlier.version} ELSE ${later.version} END`,
    order: `CASE WHEN ${kept} THEN ${earlier.order} ELSE ${later.order} END`,
  };
}

export function hintOf(table: string, prefix: "hint" | "since"): HintSql {
  return prefix === "hint"
    ? { hint: `${table}.hint`, version: `${table}.hint_version`, order: `${table}.hint_order` }
    : { hint: `${table}.since_hint`, version: `${table}.since_version`, order: `${table}.since_order` };
}

/** Ends a lease whose appends join what there was: for retries and voided leases. */
export function rejoined(table: string): string {
  const { hint, version, order } = mergedHint(hintOf(table, "hint"), hintOf(table, "since"));
  return `session = NULL, fence = NULL, hint = ${hint}, hint_version = ${version}, hint_order = ${order},
      forced = ${table}.forced OR ${table}.since_forced, ${NOTHING_SINCE}`;
}

const NOTHING_SINCE = `since = NULL, since_origin = NULL, since_hint = NULL, since_version = NULL,
      since_order = NULL, since_forced = false, since_count = 0`;

/** The columns that a claim is made of; see rows.ts. */
export const CLAIM_COLUMNS = `n bigint, lane bigint, id text, fence bigint, generation bigint, attempts integer, lags integer, begun boolean,
  forced boolean, origin text, hint text, hint_version text, event_count bigint, dirty_since bigint, state text, version text, hash text,
  row_hash text, revision bigint, evidence bigint, events text`;

/** From rows of `work` named l, what {@link CLAIM_COLUMNS} say. Most have one event, which takes no gathering. */
export function claimRows(s: string, leased: string, maxEvents: string): string {
  return `
    SELECT l.n, l.lane, o.id, l.fence, l.generation, l.attempts, l.lags, l.begun, l.forced, l.origin, l.hint, l.hint_version,
      l.event_count, l.dirty_since, o.state, o.version, o.hash, o.row_hash, o.revision, o.evidence,
      CASE WHEN l.event_count = 1 THEN (SELECT v.body FROM ${s}.event v WHERE v.object = l.n LIMIT 1)
      WHEN l.event_count > 1 THEN (
        SELECT string_agg(e.body, ',' ORDER BY e.seq) FROM (
          SELECT v.seq, v.body FROM ${s}.event v WHERE v.object = l.n ORDER BY v.seq DESC LIMIT ${maxEvents}) e) END
    FROM ${leased} l CROSS JOIN LATERAL (SELECT b.* FROM ${s}.object b WHERE b.n = l.n LIMIT 1) o`;
}
