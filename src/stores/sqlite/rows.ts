/**
 * Rows of objects as the store contract's values, and the merging of hints.
 *
 * @module
 */

import type { Hint, Origin } from "../../core/event.ts";
import type { FailureRecord, IndexEntry } from "../../core/store.ts";

export interface IndexColumns {
  readonly state: IndexEntry["state"] | null;
  readonly version: string | null;
  readonly hash: string | null;
  readonly row_hash: string | null;
  readonly revision: number | null;
  readonly evidence: number | null;
}

export const INDEX_COLUMNS = "state, version, hash, row_hash, revision, evidence";

export function toIndex(row: IndexColumns): IndexEntry | undefined {
  if (row.state === null) return undefined;
  return {
    state: row.state,
    version: row.version,
    hash: row.hash,
    rowHash: row.row_hash,
    revision: row.revision ?? 0,
    evidence: row.evidence ?? 0,
  };
}

/** The values of {@link INDEX_COLUMNS}. */
export function indexValues(index: IndexEntry | null): (string | number | null)[] {
  if (index === null) return [null, null, null, null, null, null];
  return [index.state, index.version, index.hash, index.rowHash, index.revision, index.evidence];
}

/** What a claim needs of an object. */
export interface WorkRow extends IndexColumns {
  readonly n: number;
  readonly id: string;
  readonly lane: number;
  readonly due: number;
  readonly dirty_since: number;
  readonly generation: number;
  readonly attempts: number;
  readonly lags: number;
  readonly begun: number;
  readonly forced: number;
  readonly origin: Origin;
  readonly hint: Hint | null;
  readonly hint_version: string | null;
  readonly event_count: number;
  readonly head: number | null;
  readonly first_event: string | null;
}

export const WORK_COLUMNS = `n, id, lane, due, dirty_since, generation, attempts, lags, begun, forced, origin, hint,
  hint_version, event_count, head, first_event, ${INDEX_COLUMNS}`;

export function failureText(error: FailureRecord): string {
  return JSON.stringify(error);
}

export function toFailure(text: string): FailureRecord {
  return JSON.parse(text) as FailureRecord;
}
