/**
 * Tells the index what the user's copy already holds, so that a first reconciliation repairs only what is wrong.
 *
 * @module
 */

import type { ObjectRef, Scope } from "./event.ts";
import { objectIdText } from "./event.ts";
import { checkedEvidence } from "./fetcher.ts";
import type { Route } from "./registry.ts";
import { isBusy } from "./repair.ts";
import type { IdValue } from "./resource.ts";
import type { IndexEntry, Store } from "./store.ts";
import { versionsDiffer } from "./verdict.ts";
import { encodeVersion, type Version } from "./version.ts";

/** One object of the user's copy. The more is said, the less has to be handled again. */
export interface AdoptRow {
  readonly id: IdValue;
  /** Believed as long as the provider's is the same. */
  readonly version?: Version | null | undefined;
  /** As the schema accepts it: then content decides. */
  readonly object?: unknown;
}

interface Entry {
  readonly id: string;
  readonly index: IndexEntry;
}

/** Rows that are written in one transaction. */
const STEP = 1_000;

/** @returns how many were taken over; objects that wait for work are left to it */
export async function adoptRows(
  store: Store<unknown>,
  route: Route,
  scope: Scope,
  rows: Iterable<AdoptRow> | AsyncIterable<AdoptRow>,
): Promise<number> {
  let written = 0;
  let entries: Entry[] = [];
  const evidence = await store.counter(scope);
  for await (const row of rows) {
    entries.push(await entryOf(route, { ...scope, id: objectIdText(row.id) }, row, evidence));
    if (entries.length < STEP) continue;
    written += await recordRows(store, route, scope, entries);
    entries = [];
  }
  return written + (await recordRows(store, route, scope, entries));
}

/**
 * A handler that was under way when the rows began to be read may have ended since, on evidence from before: the row may
 * be what it has replaced. One that begins after this look leaves newer evidence, or its work waits.
 */
async function recordRows(
  store: Store<unknown>,
  route: Route,
  scope: Scope,
  entries: readonly Entry[],
): Promise<number> {
  const ids = entries.map(({ id }) => id);
  const lookups = await store.lookup(scope, ids);
  const news = entries.filter(({ index }, i) => {
    const lookup = lookups[i];
    return !isBusy(lookup, index.evidence) && !knowsMore(route, lookup?.index, index);
  });
  return store.record(scope, news);
}

/** A row that says less than what was handled, and nothing else, must not make it forgotten (I4). */
function knowsMore({ resource }: Route, known: IndexEntry | undefined, row: IndexEntry): boolean {
  if (known?.state !== "present" || row.hash !== null) return false;
  if (row.version === null) return true;
  return known.version !== null && !versionsDiffer(resource, known.version, row.version);
}

async function entryOf(route: Route, ref: ObjectRef, row: AdoptRow, counter: number): Promise<Entry> {
  const known = {
    state: "present",
    rowHash: null,
    revision: route.resource.revision,
    evidence: counter,
  } as const;
  if (row.object === undefined)
    return { id: ref.id, index: { ...known, version: encodeVersion(row.version), hash: null } };
  const found = await checkedEvidence(route.resource, row.object, "fetch", ref);
  return {
    id: ref.id,
    index: { ...known, version: found.version ?? encodeVersion(row.version), hash: found.hash },
  };
}
