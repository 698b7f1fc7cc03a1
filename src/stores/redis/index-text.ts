/**
 * Index entries as records keep them. Scripts read of them only whether the object is present, and the evidence.
 *
 * @module
 */

import type { FailureRecord, IndexEntry } from "../../core/store.ts";

export type IndexParts = readonly [
  state: "p" | "g",
  version: string | null,
  hash: string | null,
  rowHash: string | null,
  revision: number,
  evidence: number,
];

/** What the index says of an object of whose copy nothing is known but that there may be one; without its evidence. */
export const UNKNOWN_PRESENT = indexText({
  state: "present",
  version: null,
  hash: null,
  rowHash: null,
  revision: 0,
  evidence: 0,
});

export function indexText({ state, version, hash, rowHash, revision, evidence }: IndexEntry): string {
  const parts: IndexParts = [state === "present" ? "p" : "g", version, hash, rowHash, revision, evidence];
  return JSON.stringify(parts);
}

export function toIndex([state, version, hash, rowHash, revision, evidence]: IndexParts): IndexEntry {
  return { state: state === "p" ? "present" : "gone", version, hash, rowHash, revision, evidence };
}

export function failureText(error: FailureRecord): string {
  return JSON.stringify(error);
}

export function toFailure(text: string): FailureRecord {
  return JSON.parse(text) as FailureRecord;
}
