/**
 * Rows of objects as the store contract's values, and the merging of hints.
 *
 * @module
 */

import type { SQLOutputValue } from "node:sqlite";
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
  /** What stands in `trueup_event` under `head`. */
  readonly head_body: string | null;
}

export const WORK_COLUMNS = `n, id, lane, due, dirty_since, generation, attempts, lags, begun, forced, origin, hint,
  hint_version, event_count, head, first_event, ${INDEX_COLUMNS},
  (SELECT body FROM trueup_event WHERE seq = head) AS head_body`;

/** A row of {@link WORK_COLUMNS}, from its values in that order. */
export function workRow(values: readonly SQLOutputValue[]): WorkRow {
  return {
    n: values[0] as number,
    id: values[1] as string,
    lane: values[2] as number,
    due: values[3] as number,
    dirty_since: values[4] as number,
    generation: values[5] as number,
    attempts: values[6] as number,
    lags: values[7] as number,
    begun: values[8] as number,
    forced: values[9] as number,
    origin: values[10] as Origin,
    hint: values[11] as Hint | null,
    hint_version: values[12] as string | null,
    event_count: values[13] as number,
    head: values[14] as number | null,
    first_event: values[15] as string | null,
    state: values[16] as IndexEntry["state"] | null,
    version: values[17] as string | null,
    hash: values[18] as string | null,
    row_hash: values[19] as string | null,
    revision: values[20] as number | null,
    evidence: values[21] as number | null,
    head_body: values[22] as string | null,
  };
}

export function failureText(error: FailureRecord): string {
  return JSON.stringify(error);
}

export function toFailure(text: string): FailureRecord {
  return JSON.parse(text) as FailureRecord;
}
