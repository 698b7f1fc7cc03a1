/**
 * Tells the index what the user's copy already holds, so that a first reconciliation repairs only what is wrong.
 *
 * @module
 */

import type { ObjectRef, Scope } from "./event.ts";
import { objectIdText } from "./event.ts";
import { checkedEvidence } from "./fetcher.ts";
import type { Route } from "./registry.ts";
import type { IdValue } from "./resource.ts";
import type { IndexEntry, Store } from "./store.ts";
import { encodeVersion, type Version } from "./version.ts";

/** One object of the user's copy. The more is said, the less has to be handled again. */
export interface AdoptRow {
  readonly id: IdValue;
  /** Believed as long as the provider's is the same. */
  readonly version?: Version | null | undefined;
  /** As the schema accepts it: then content decides. */
  readonly object?: unknown;
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
  let entries: { id: string; index: IndexEntry }[] = [];
  const evidence = await store.counter(scope);
  for await (const row of rows) {
    entries.push(await entryOf(route, { ...scope, id: objectIdText(row.id) }, row, evidence));
    if (entries.length < STEP) continue;
    written += await store.record(scope, entries);
    entries = [];
  }
  return written + (await store.record(scope, entries));
}

async function entryOf(
  route: Route,
  ref: ObjectRef,
  row: AdoptRow,
  counter: number,
): Promise<{ id: string; index: IndexEntry }> {
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
