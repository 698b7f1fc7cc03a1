/**
 * The state as Keyv remembers it.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { Pause } from "../../core/store.ts";
import { FORMAT, type Meta } from "./counter.ts";
import type { LedgerBlock } from "./ledger.ts";
import type { ObjectRecord } from "./record.ts";
import { type LockState, type SeenPage, State } from "./state.ts";

/** @throws TrueupError `STORE_VERSION` when a newer trueup wrote it. */
export function readMeta(value: unknown): Meta | undefined {
  const meta = value as Meta | undefined;
  if (meta !== undefined && meta.format > FORMAT) {
    throw new TrueupError(
      "STORE_VERSION",
      `the Keyv was written in format ${meta.format}, by a newer trueup`,
    );
  }
  return meta;
}

/**
 * Builds the state from what the journal found, keyed by one letter for the kind, and a number or hash. An iterator
 * gives no order, and a crash may have left any call's writes in part; the order in which they are made is such that
 * all that is there can be believed.
 */
export function recover(found: ReadonlyMap<string, unknown>, eventTtlMs: number): State {
  const state = new State(eventTtlMs);
  const all = <T>(kind: string): [string, T][] =>
    [...found].filter(([key]) => key.startsWith(kind)).map(([key, value]) => [key, value as T]);

  // Pauses first: lanes that are paused then never enter their ring.
  for (const [, pause] of all<Pause>("p")) state.setPause(pause, true);
  const records = all<ObjectRecord>("o").map(([, record]) => record);
  for (const record of records.toSorted((a, b) => a.key - b.key)) state.put(record);
  const blocks = all<LedgerBlock>("d").map(([, block]) => block);
  for (const block of blocks.toSorted((a, b) => a.number - b.number)) state.ledger.add(block);
  for (const [, { name, value }] of all<{ name: string; value: string }>("c"))
    state.checkpoints.set(name, value);
  for (const [, lock] of all<LockState>("l")) state.locks.set(lock.name, lock);
  for (const [key, page] of all<SeenPage>("s")) state.addSeen(key, page);
  return state;
}
