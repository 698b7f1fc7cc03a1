/**
 * The end of a full pass: what the index has and the complete list had not. Each such object is fetched before it is
 * believed to be gone, and a list that shrank too much is not believed at all (I7).
 *
 * @module
 */

import { fetchAll, forgetGone, record, type RepairContext } from "./repair.ts";
import { deletesAllowed } from "./shrink-guard.ts";

/** Candidates that are fetched and handled together. */
const STEP = 100;
const MOST_SAMPLES = 10;

export async function sweepDeletes(context: RepairContext): Promise<void> {
  if (!(await listIsCredible(context))) return;
  const { state } = context;
  for (;;) {
    context.signal.throwIfAborted();
    const found = await unseen(context, state.sweptTo, STEP);
    const last = found.at(-1);
    if (last === undefined) return;
    const ids = found.map((candidate) => candidate.id);
    await (context.indexOnly ? forgetGone(context, ids) : repairCandidates(context, ids));
    // Only now: candidates that could not be recorded must be found again (I6).
    state.sweptTo = last.position;
  }
}

async function repairCandidates(context: RepairContext, ids: readonly string[]): Promise<void> {
  const { counts } = context.state;
  const claims = await record(context, context.state.startMark, [], ids);
  await fetchAll(context, claims, (_claim, result) => {
    if (result.kind !== "handled" || result.change !== "delete") return;
    counts.extra += 1;
    counts.deleted += 1;
  });
}

/** Whether so few objects are missing from the list that it can be true. Only counts; nothing is touched before. */
async function listIsCredible(context: RepairContext): Promise<boolean> {
  const { hooks, route, scope, state, store } = context;
  if (state.unreadable) return false;
  if (state.sweptTo !== null) return true; // it was judged before the sweep began
  const indexed = await store.countPresent(scope);
  const emptied = state.counts.listed === 0 && route.resource.shrinkGuard !== false;
  const allowed = emptied ? 0 : deletesAllowed(route.resource, indexed);
  const samples: string[] = [];
  let candidates = 0;
  let after: string | null = null;
  for (;;) {
    const found = await unseen(context, after, STEP);
    candidates += found.length;
    samples.push(...found.slice(0, MOST_SAMPLES - samples.length).map((candidate) => candidate.id));
    if (found.length < STEP) break;
    after = found.at(-1)?.position ?? null;
  }
  if (candidates <= allowed) return true;
  state.counts.extra += candidates;
  state.counts.suppressedDeletes += candidates;
  hooks.emit("deletes.suppressed", { ...scope, count: candidates, indexed, samples });
  return false;
}

function unseen(
  context: RepairContext,
  after: string | null,
  limit: number,
): Promise<{ readonly id: string; readonly position: string }[]> {
  const { pass, scope, state, store } = context;
  return store.unseen(scope, pass, { mark: state.startMark, after: after ?? undefined, limit });
}
