/**
 * Repairs what a page of a list shows to differ.
 *
 * @module
 */

import type { TaskResult } from "./ending.ts";
import type { Scope } from "./event.ts";
import type { Fetcher, FetchResult } from "./fetcher.ts";
import type { Hooks } from "./hooks.ts";
import type { ListedPage, Row } from "./lister.ts";
import type { PassCounts, PassState } from "./pass.ts";
import type { Route } from "./registry.ts";
import type { AppendEntry, Claim, IndexEntry, Lock, Lookup, Store, WorkSession } from "./store.ts";
import type { TaskRunner } from "./task.ts";
import { compareRow, compareSummary, type RowComparison, versionsDiffer } from "./verdict.ts";

/** What repairing a page of one pass needs. */
export interface RepairContext {
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly runner: TaskRunner;
  readonly fetcher: Fetcher;
  readonly hooks: Hooks;
  readonly route: Route;
  readonly scope: Scope;
  readonly pass: string;
  readonly lock: Lock;
  readonly signal: AbortSignal;
  readonly state: PassState;
  /** What the page alone shows is counted here; what its repair shows, later, in the state's counts. */
  readonly counts: PassCounts;
  /** Whether the pass remembers what it saw (full passes, for their sweep). */
  readonly remembers: boolean;
  /** Whether the index learns and no handler runs. */
  readonly indexOnly: boolean;
  /** The checkpoint as of now: behind the page. */
  readonly checkpoint: () => string;
  /** The same before it. */
  readonly before: () => string;
}

/** A row that is not what the index says. */
export interface DifferingRow {
  readonly row: Row;
  readonly comparison: RowComparison;
  readonly index: IndexEntry | undefined;
  /** Work on it waits, or more is known of it than when the page was requested: the normal road has it. */
  readonly busy: boolean;
}

export interface RepairedPage {
  readonly differing: number;
  /** Resolves when all that the page brought into work is settled. Never rejects. */
  readonly settled: Promise<void>;
}

/** Compares a page with the index. Rows that are the same are counted, and cost no write. */
export async function comparePage(
  store: Store<unknown>,
  route: Route,
  scope: Scope,
  page: ListedPage,
): Promise<DifferingRow[]> {
  const lookups = await store.lookup(
    scope,
    page.rows.map((row) => row.id),
  );
  return page.rows.map((row, i) => {
    const lookup = lookups[i];
    return {
      row,
      comparison: compare(route, lookup, row),
      index: lookup?.index,
      busy: isBusy(lookup, page.mark),
    };
  });
}

export function isBusy(lookup: Lookup | undefined, mark: number): boolean {
  if (lookup === undefined) return false;
  return lookup.pending || lookup.touched > mark || (lookup.index?.evidence ?? 0) > mark;
}

function compare(route: Route, lookup: Lookup | undefined, row: Row): RowComparison {
  switch (row.kind) {
    case "object":
      return compareRow(route.resource, lookup?.index, row.evidence);
    case "summary":
      return compareSummary(route.resource, lookup?.index, row.version);
    case "refused":
      return "unclear";
  }
}

/** Records the page and takes what differs on its way. `all`: everything on the page is handled, whatever it is. */
export async function repairPage(
  context: RepairContext,
  page: ListedPage,
  all: boolean,
): Promise<RepairedPage> {
  const { counts, route, scope, store } = context;
  const compared = await comparePage(store, route, scope, page);
  const differing = new Map<string, DifferingRow>();
  const adopted: { id: string; index: IndexEntry }[] = [];
  for (const entry of compared) {
    if (isUnchanged(entry)) {
      counts.unchanged += 1;
      adopted.push(...adoption(entry, route));
      if (!all) continue;
    }
    differing.set(entry.row.id, entry);
    // Certain differences are counted with their page; what only a fetch can tell is counted when it has told.
    if (!entry.busy && isCertain(entry)) counts[entry.comparison] += 1;
  }
  if (adopted.length > 0) await store.record(scope, adopted);
  const announced = await presentOf(context, page.deleted);
  const busy = compared.filter((entry) => entry.busy).map(({ row }) => row.id);
  if (all) await force(context, busy); // before the page is recorded, so that no crash forgets it
  const claims = await record(
    context,
    page.mark,
    compared.map((entry) => entry.row.id),
    [...new Set([...differing.keys(), ...announced])],
    all ? context.before() : context.checkpoint(),
  );
  const settled = takeOn(context, page.mark, claims, differing, all);
  if (all) {
    try {
      const dealtWith = new Set([...busy, ...claims.map((claim) => claim.ref.id)]);
      await force(
        context,
        [...differing.keys()].filter((id) => !dealtWith.has(id)),
      );
      await record(context, page.mark, [], []); // only now: a crash before it reads the page again (I6)
    } catch (thrown) {
      await settled;
      throw thrown;
    }
  }
  return { differing: differing.size, settled };
}

/** What the normal road has, which would hand over only what differs. What is dead stays dead. */
async function force({ scope, store }: RepairContext, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const { items } = await store.listDead({ ...scope, ids }, { cursor: undefined, limit: ids.length });
  const dead = new Set(items.map(({ ref }) => ref.id));
  const entries = ids
    .filter((id) => !dead.has(id))
    .map((id): AppendEntry => ({
      ref: { ...scope, id },
      origin: "reconcile",
      lane: "repair",
      force: true,
    }));
  if (entries.length > 0) await store.append(entries);
}

function isUnchanged({ comparison }: DifferingRow): boolean {
  return comparison === "same" || comparison === "adopted";
}

/** The index entry under the present revision's hash, where that is all there is to do. */
function adoption(
  { comparison, index, row }: DifferingRow,
  route: Route,
): { id: string; index: IndexEntry }[] {
  if (comparison !== "adopted" || index === undefined || row.kind !== "object") return [];
  const { hash, version } = row.evidence;
  const { revision } = route.resource;
  return [
    {
      id: row.id,
      index: { ...index, version: version ?? index.version, hash: null, rowHash: hash, revision },
    },
  ];
}

/** Ids that a feed says are deleted, and that the index holds. */
async function presentOf(context: RepairContext, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const named = [...new Set(ids)];
  const lookups = await context.store.lookup(context.scope, named);
  return named.filter((_, i) => lookups[i]?.index?.state === "present");
}

function isCertain(entry: DifferingRow): entry is DifferingRow & { comparison: "missing" | "stale" } {
  return entry.row.kind === "object" && (entry.comparison === "missing" || entry.comparison === "stale");
}

/** One commit: what was seen, what differs, how far the pass got. */
export function record(
  context: RepairContext,
  mark: number,
  seen: readonly string[],
  differing: readonly string[],
  checkpoint = context.checkpoint(),
): Promise<Claim[]> {
  const { lock, pass, remembers, scope, session } = context;
  return session.recordPage({
    scope,
    pass,
    lock,
    mark,
    seen: remembers ? seen : [],
    differing,
    lease: true,
    checkpoint,
  });
}

/** @param mark the store's counter before the page was requested: a row is no evidence against what is newer */
async function takeOn(
  context: RepairContext,
  mark: number,
  claims: readonly Claim[],
  differing: ReadonlyMap<string, DifferingRow>,
  all: boolean,
): Promise<void> {
  const { route, runner } = context;
  const works: Promise<void>[] = [];
  const toFetch: Claim[] = [];
  for (const leased of claims) {
    const entry = differing.get(leased.ref.id);
    // `begun` outlives this attempt, should it fail: then too the object is handed over, whatever it is.
    const claim = all ? { ...leased, forced: true, begun: true } : leased;
    const newer = (claim.index?.evidence ?? 0) > mark;
    if (!newer && entry?.row.kind === "object" && (isCertain(entry) || isUnchanged(entry))) {
      works.push(
        runner.row(route, claim, entry.row.evidence).then((result) => tally(context, result, entry)),
      );
    } else {
      toFetch.push(claim);
    }
  }
  works.push(
    fetchAll(context, toFetch, (claim, result) => tallyFetched(context, result, differing.get(claim.ref.id))),
  );
  await Promise.allSettled(works);
}

/** Fetches claims in the resource's batches. */
export async function fetchAll(
  context: RepairContext,
  claims: readonly Claim[],
  onResult: (claim: Claim, result: TaskResult) => Promise<void> | void,
): Promise<void> {
  const { route, runner } = context;
  const batchSize = route.resource.fetchMany === undefined ? 1 : route.resource.batchSize;
  const batches: Promise<void>[] = [];
  for (let start = 0; start < claims.length; start += batchSize) {
    const batch = claims.slice(start, start + batchSize);
    batches.push(
      runner.fetch(route, batch).then(async (results) => {
        for (const [i, claim] of batch.entries()) await onResult(claim, results[i] as TaskResult);
      }),
    );
  }
  await Promise.allSettled(batches);
}

function tally(context: RepairContext, result: TaskResult, entry: DifferingRow | undefined): void {
  const { counts } = context.state;
  if (result.kind !== "handled") return;
  if (result.change === "delete") {
    counts.deleted += 1;
    counts.extra += entry === undefined || entry.index?.state === "present" ? 1 : 0;
  } else if (result.regressed) {
    counts.regressed += 1;
  }
}

async function tallyFetched(
  context: RepairContext,
  result: TaskResult,
  entry: DifferingRow | undefined,
): Promise<void> {
  const { counts } = context.state;
  tally(context, result, entry);
  if (entry === undefined) return;
  const found = entry.comparison === "missing" || entry.index?.state !== "present" ? "missing" : "stale";
  if (result.kind === "unchanged") {
    counts.unchanged += 1;
    await learnRow(context, entry, result.index);
  } else if (result.kind === "handled") {
    if (result.change === "upsert" && !result.regressed) counts[found] += 1;
  } else if (entry.comparison !== "unclear") {
    counts[found] += 1; // it differs, whatever became of the repair: it failed, or the API is given time (I4)
  }
}

/**
 * The fetched object is what the index says, so the row is another view of the same content: next time it compares. Not
 * where it has another version: then a slow replica has shown what was before, or what comes next.
 */
async function learnRow(
  context: RepairContext,
  { row }: DifferingRow,
  index: IndexEntry | null,
): Promise<void> {
  if (index === null || row.kind !== "object" || index.rowHash === row.evidence.hash) return;
  const { route, scope, store } = context;
  if (versionsDiffer(route.resource, row.evidence.version, index.version)) return;
  await store.record(scope, [{ id: row.id, index: { ...index, rowHash: row.evidence.hash } }]);
}

/** For `handle: "none"`: the index learns what the provider has, and nobody is told. */
export async function recordOnly(context: RepairContext, page: ListedPage): Promise<RepairedPage> {
  const { counts, fetcher, route, scope, store } = context;
  const compared = await comparePage(store, route, scope, page);
  const entries: { id: string; index: IndexEntry }[] = [];
  let differing = 0;
  for (const entry of compared) {
    if (isUnchanged(entry)) {
      counts.unchanged += 1;
      entries.push(...adoption(entry, route));
    }
    if (isUnchanged(entry) || entry.busy) continue;
    differing += 1;
    const evidence =
      entry.row.kind === "object"
        ? entry.row.evidence
        : await fetcher.one(route.resource, { ...scope, id: entry.row.id }, "repair");
    const index = indexOf(evidence, route, page.mark);
    if (index === undefined) continue;
    counts[entry.index?.state === "present" ? "stale" : "missing"] += 1;
    entries.push({ id: entry.row.id, index });
  }
  await store.record(scope, entries);
  await forgetGone(context, await presentOf(context, page.deleted));
  await record(
    context,
    page.mark,
    compared.map((entry) => entry.row.id),
    [],
  );
  return { differing, settled: Promise.resolve() };
}

/** The index learns which of these are gone, as a fetch says. */
export async function forgetGone(context: RepairContext, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const { fetcher, route, scope, state, store } = context;
  const requested = await store.counter(scope);
  const results = await fetcher.many(route.resource, scope, ids, "repair");
  // What was in work all the while may have been handled on evidence from before, and is not pending any more.
  const lookups = await store.lookup(scope, ids);
  const gone = ids.flatMap((id, i) => {
    const result = results[i];
    const index = result?.kind === "gone" ? indexOf(result, route, requested) : undefined;
    return index === undefined || isBusy(lookups[i], requested) ? [] : [{ id, index }];
  });
  state.counts.extra += await store.record(scope, gone);
}

/** What the index says after believing evidence as it is. */
export function indexOf(evidence: FetchResult, route: Route, requested: number): IndexEntry | undefined {
  if (evidence.kind === "error") return undefined;
  const known = { revision: route.resource.revision, evidence: requested };
  if (evidence.kind === "gone") return { ...known, state: "gone", version: null, hash: null, rowHash: null };
  const hashes =
    evidence.shape === "fetch"
      ? { hash: evidence.hash, rowHash: null }
      : { hash: null, rowHash: evidence.hash };
  return { ...known, ...hashes, state: "present", version: evidence.version };
}
