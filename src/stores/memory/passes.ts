/**
 * What passes over lists leave behind, and what they did not see.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { Scope } from "../../core/event.ts";
import type { Claim, Lock, PageRecord } from "../../core/store.ts";
import type { Draft } from "./draft.ts";
import { appended, claimOf, isPending, isPresent, leasedFromPage, repairWork } from "./record.ts";
import { scopeKey, seenKey, type State } from "./state.ts";

/** @throws TrueupError `LEASE_LOST` when the lock has another holder by now. */
export function recordPage(draft: Draft, page: PageRecord): Claim[] {
  requireLock(draft, page.lock);
  const { scope } = page;
  const claims: Claim[] = [];
  for (const id of new Set(page.differing)) {
    const record = draft.findOrCreate({ ...scope, id });
    if (record.state === "idle" && record.touched <= page.mark && page.lease && record.due <= draft.now) {
      claims.push(claimOf(draft.put(leasedFromPage(record, draft.moment()))));
    } else if (record.state === "idle" || (record.state === "leased" && record.late === null)) {
      draft.put(appended(record, repairWork(draft.now), draft.moment()));
    }
    // What waits is on its way already, and what is dead waits for somebody to look at it.
  }
  if (page.seen.length > 0) {
    const objects = page.seen.map((id) => draft.find({ ...scope, id })?.key ?? id);
    draft.addSeen({ scope, pass: page.pass, objects });
  }
  draft.setCheckpoint(page.pass, page.checkpoint);
  return claims;
}

/** @throws TrueupError `LEASE_LOST` when the lock has another holder by now. */
export function endPass(
  draft: Draft,
  scope: Scope,
  pass: string,
  lock: Lock,
  checkpoint: string | null,
): void {
  requireLock(draft, lock);
  draft.endSeen(seenKey(scope, pass));
  draft.setCheckpoint(pass, checkpoint);
}

export function unseen(
  state: State,
  scope: Scope,
  pass: string,
  options: { readonly mark: number; readonly after: string | undefined; readonly limit: number },
): { id: string; position: string }[] {
  const found: { id: string; position: string }[] = [];
  const known = state.scopes.get(scopeKey(scope));
  if (known === undefined) return found;
  const seen = state.seen.get(seenKey(scope, pass))?.objects;
  for (const key of state.keysAfter(known, Number(options.after ?? 0))) {
    if (found.length >= options.limit) break;
    const record = state.objects.get(key);
    if (record === undefined || !isPresent(record) || isPending(record) || record.touched > options.mark)
      continue;
    if (seen?.has(key) === true || seen?.has(record.ref.id) === true) continue;
    found.push({ id: record.ref.id, position: String(key) });
  }
  return found;
}

// The fence decides, not the time: a lock that ran out and that nobody else took is still its holder's.
function requireLock(draft: Draft, lock: Lock): void {
  if (draft.state.locks.get(lock.name)?.fence === lock.fence) return;
  throw new TrueupError(
    "LEASE_LOST",
    `the lock "${lock.name}" has another holder by now: nothing was written`,
  );
}
