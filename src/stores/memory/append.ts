/**
 * Appending: an event's id into the ledger, its object dirty.
 *
 * @module
 */

import type { AppendEntry, AppendResult } from "../../core/store.ts";
import type { Draft } from "./draft.ts";
import { appended, isUnderWay, workOf } from "./record.ts";

export function append(draft: Draft, entries: readonly AppendEntry[]): AppendResult[] {
  return entries.map((entry) => {
    const { dedupeKey } = entry;
    const key = dedupeKey === undefined ? undefined : hex(dedupeKey);
    if (key !== undefined && draft.isDuplicate(key)) {
      const known = draft.find(entry.ref);
      return {
        status: "duplicate",
        generation: known !== undefined && isUnderWay(known) ? known.generation : 0,
      };
    }
    if (key !== undefined) draft.remember(key);
    const record = draft.findOrCreate(entry.ref);
    const { generation } = draft.put(appended(record, workOf(entry, draft.now), draft.moment()));
    return { status: "accepted", generation };
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
