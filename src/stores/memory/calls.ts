/**
 * The store's smaller calls: looking, recording, counting, forgetting and sweeping.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
import type { IndexEntry, Lookup, Pending, RouteCounts } from "../../core/store.ts";
import type { Draft } from "./draft.ts";
import { isPending } from "./record.ts";
import type { State } from "./state.ts";

/** How many keys or objects one slice of sweeping looks at. */
const SWEEP_SLICE = 1_000;

export function lookup(state: State, scope: Scope, ids: readonly string[]): (Lookup | undefined)[] {
  const known = state.scope(scope);
  return ids.map((id) => {
    const record = state.findIn(known, id);
    if (record === undefined) return undefined;
    const { key, index, touched } = record;
    return { key, index: index ?? undefined, pending: isPending(record), touched };
  });
}

export function recordIndex(
  draft: Draft,
  scope: Scope,
  entries: readonly { readonly id: string; readonly index: IndexEntry }[],
): number {
  let written = 0;
  for (const { id, index } of entries) {
    const found = draft.findOrCreate({ ...scope, id });
    if (isPending(found) || (found.index?.evidence ?? 0) > index.evidence) continue;
    draft.put({ ...found, index });
    written += 1;
  }
  return written;
}

export function counts(state: State): RouteCounts[] {
  const oldest = new Map<object, number>();
  for (const key of state.lanes.waiting()) {
    const found = state.objects.get(key);
    const scope = found === undefined ? undefined : state.scope(found.ref);
    const since = found?.work?.since;
    if (scope === undefined || since === undefined) continue;
    oldest.set(scope, Math.min(since, oldest.get(scope) ?? since));
  }
  return [...state.scopes.values()].map((one) => {
    const { scope, dirty, leased, dead, present, lastError } = one;
    return { ...scope, dirty, leased, dead, present, oldestDirtySince: oldest.get(one), lastError };
  });
}

export function pending(state: State, dueBy: number): Pending {
  return { ...state.lanes.countDue(dueBy), leased: state.leased.size, dead: state.dead.size };
}

/** @param prefix With what the names of the connection's checkpoints and locks begin. */
export function forget(
  draft: Draft,
  { provider, connection }: { readonly provider: string; readonly connection: string },
  prefix: string,
): void {
  const { state } = draft;
  const isTheirs = (scope: Scope) => scope.provider === provider && scope.connection === connection;
  for (const { scope, byId } of state.scopes.values()) {
    if (isTheirs(scope)) for (const key of byId.values()) draft.delete(key);
  }
  for (const [name, seen] of state.seen) if (isTheirs(seen.scope)) draft.endSeen(name);
  for (const name of state.checkpoints.keys()) if (name.startsWith(prefix)) draft.setCheckpoint(name, null);
  // Fence 0 is nobody's.
  for (const name of state.locks.keys())
    if (name.startsWith(prefix)) draft.setLock({ name, fence: 0, until: 0 });
  const pause = state.pauseOf(provider, connection);
  if (pause !== undefined) draft.setPause(pause, false);
  draft.forgetConnection(provider, connection);
}

/** One slice of housekeeping. True: there may be more to do now. */
export function sweep(draft: Draft): boolean {
  const { state, now } = draft;
  const blocks = state.ledger.expired(now, SWEEP_SLICE);
  draft.sweepBlocks(blocks);
  const keys = state.housekeeping.take(now, SWEEP_SLICE);
  const records = keys.flatMap((key) => state.objects.get(key) ?? []);
  draft.onAbandon(() => {
    for (const found of records) state.housekeeping.note(found);
  });
  for (const found of records) {
    const left = state.housekeeping.swept(found, now);
    if (left === undefined) draft.delete(found.key);
    else if (left === found) state.housekeeping.note(found);
    else draft.put(left);
  }
  for (const pause of state.pauses.values()) {
    if (pause.until !== null && pause.until <= now) draft.setPause(pause, false);
  }
  const sweptKeys = blocks.reduce((sum, block) => sum + block.keys.length, 0);
  return sweptKeys >= SWEEP_SLICE || keys.length >= SWEEP_SLICE;
}
