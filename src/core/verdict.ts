/**
 * What evidence about an object means: the one place that decides between handling, waiting and leaving alone (I4,
 * I13). Everything here is a pure function of what is known.
 *
 * @module
 */

import { contentHash } from "./content.ts";
import type { AnyResource } from "./resource.ts";
import type { Claim, IndexEntry } from "./store.ts";
import { compareEncoded, encodeVersion, type EncodedVersion } from "./version.ts";

/** The authoritative state of one object, as it was requested under a claim. */
export type Evidence =
  | {
      readonly kind: "object";
      /** As the schema put it out. */
      readonly object: unknown;
      readonly version: EncodedVersion | null;
      readonly hash: string;
      /** Where it was read: by `fetch`, or from a row of a list, which may have another shape. */
      readonly shape: "fetch" | "row";
    }
  | { readonly kind: "gone" };

export type Verdict =
  | {
      readonly kind: "handle";
      readonly change: "upsert" | "delete";
      readonly regressed: boolean;
      readonly index: IndexEntry;
    }
  /** Nothing to hand over. `index` is what is known now; `null`: there is nothing to remember. */
  | { readonly kind: "unchanged"; readonly index: IndexEntry | null }
  /** The evidence contradicts an event, or what was handed over before: ask again later. */
  | { readonly kind: "wait"; readonly reason: string; readonly retryInMs: number };

/** Makes evidence of an object that its schema accepted. */
export function objectEvidence(
  resource: AnyResource,
  object: unknown,
  shape: "fetch" | "row",
): Evidence & { kind: "object" } {
  return {
    kind: "object",
    object,
    version: encodeVersion(resource.versionOf?.(object)),
    hash: contentHash(resource.contentOf === undefined ? object : resource.contentOf(object)),
    shape,
  };
}

/** @param now milliseconds since the epoch */
export function judge(resource: AnyResource, claim: Claim, evidence: Evidence, now: number): Verdict {
  const doubt =
    evidence.kind === "gone" ? doubtGone(resource, claim) : doubtObject(resource, claim, evidence);
  const retryInMs = doubt && retryDelay(resource, claim, doubt, now);
  if (doubt !== undefined && retryInMs !== undefined)
    return { kind: "wait", reason: doubt.reason, retryInMs };
  if (evidence.kind === "gone") return judgeGone(resource, claim);
  return judgeObject(resource, claim, evidence, doubt?.regressed === true);
}

/**
 * How long to wait before asking again; `undefined` when the API is to be believed. What was announced while an earlier
 * doubt was waited for gets its own time, doubling from its receipt, but for no more retries than the schedule has: an
 * API that is always behind must not keep a busy object waiting for ever.
 */
function retryDelay({ freshness }: AnyResource, claim: Claim, doubt: Doubt, now: number): number | undefined {
  const scheduled = lagDelay(claim.lags, freshness);
  if (scheduled !== undefined || !doubt.announced) return scheduled;
  if (lagDelay(Math.floor(claim.lags / 2), freshness) === undefined) return undefined;
  const announcement = claim.events.findLast(
    ({ hint, version }) => hint !== undefined || version !== undefined,
  );
  if (announcement === undefined) return undefined;
  const age = Math.max(0, now - announcement.receivedAt);
  const left = freshness.believeAfterMs - age;
  return left > 0 ? Math.min(Math.max(freshness.firstRetryMs, age), left) : undefined;
}

/**
 * How long to wait before asking a lagging API again: doubling from `firstRetryMs`, the last retry falling
 * `believeAfterMs` after the first request. `undefined` when it was asked often enough to be believed.
 */
export function lagDelay(lags: number, freshness: AnyResource["freshness"]): number | undefined {
  const waited = freshness.firstRetryMs * (2 ** lags - 1);
  if (waited >= freshness.believeAfterMs) return undefined;
  return Math.min(freshness.firstRetryMs * 2 ** lags, freshness.believeAfterMs - waited);
}

interface Doubt {
  readonly reason: string;
  /** Whether an event says otherwise. */
  readonly announced: boolean;
  /** Whether believing it means going back behind what is known. */
  readonly regressed: boolean;
}

function doubtGone(resource: AnyResource, claim: Claim): Doubt | undefined {
  if (claim.hint !== "upsert") return undefined;
  // An event from before the deletion that is already known says nothing against it.
  if (claim.index?.state === "gone") {
    const order = compareEncoded(claim.hintVersion ?? null, claim.index.version, resource.compareVersions);
    if (order !== undefined && order <= 0) return undefined;
  }
  return {
    reason: "an event announced the object, and the API does not have it",
    announced: true,
    regressed: false,
  };
}

function doubtObject(
  resource: AnyResource,
  claim: Claim,
  evidence: Evidence & { kind: "object" },
): Doubt | undefined {
  const compare = (than: EncodedVersion | null) =>
    compareEncoded(evidence.version, than, resource.compareVersions);
  const againstHint = compare(claim.hintVersion ?? null);
  const { index } = claim;
  const behindIndex =
    index?.state === "present" && (compare(index.version) ?? 0) < 0 && !sameContent(index, evidence);
  const behindTombstone = index?.state === "gone" && !((compare(index.version) ?? 0) > 0);
  const regressed = behindIndex || behindTombstone;
  if (claim.hint === "delete" && !((againstHint ?? 0) > 0)) {
    const reason = "an event announced the deletion, and the API still has the object";
    return { reason, announced: true, regressed };
  }
  if (claim.hint !== "delete" && againstHint !== undefined && againstHint < 0) {
    const reason = "the API has an older version than an event announced";
    return { reason, announced: true, regressed };
  }
  if (claim.hint !== "delete" && announcedOnly(resource, claim, evidence)) {
    const reason = "an event announced a version, and the API has none yet";
    return { reason, announced: true, regressed };
  }
  if (behindTombstone) {
    const reason = "the API has an object whose deletion is known";
    return { reason, announced: false, regressed };
  }
  if (behindIndex) {
    const reason = "the API has an older version than was handed over";
    return { reason, announced: false, regressed };
  }
  return undefined;
}

/** Some providers have no version of an object before its first change, and announce that change before they commit it. */
function announcedOnly(
  resource: AnyResource,
  claim: Claim,
  evidence: Evidence & { kind: "object" },
): boolean {
  return resource.versionOf !== undefined && evidence.version === null && claim.hintVersion !== undefined;
}

function judgeGone(resource: AnyResource, claim: Claim): Verdict {
  const { index } = claim;
  const tombstone: IndexEntry = {
    state: "gone",
    version: latest(resource, claim.hintVersion ?? null, index?.version ?? null),
    hash: null,
    rowHash: null,
    revision: resource.revision,
    evidence: claim.fence,
  };
  // Where a handler may have begun, the user's copy may hold what the index knows nothing of.
  if (index?.state === "present" || claim.forced || claim.begun) {
    return { kind: "handle", change: "delete", regressed: false, index: tombstone };
  }
  // Without a version, nothing could tell an object that is made later from one that a slow replica still shows.
  const announced = claim.hint === "delete" && claim.hintVersion !== undefined;
  return { kind: "unchanged", index: index === undefined && !announced ? null : tombstone };
}

function judgeObject(
  resource: AnyResource,
  claim: Claim,
  evidence: Evidence & { kind: "object" },
  regressed: boolean,
): Verdict {
  const { index } = claim;
  const next: IndexEntry = {
    ...hashesAfter(index, evidence),
    state: "present",
    version: evidence.version,
    revision: resource.revision,
    evidence: claim.fence,
  };
  // Where a handler may have begun with another state, the copy may hold that one, though the index and the API agree.
  if (!claim.forced && !claim.begun && index?.state === "present") {
    // An equal version is believed only where no event says that something happened: versions can lie.
    const quiet = claim.eventCount === 0;
    if (index.revision !== resource.revision) {
      if (quiet && adoptsRevision(resource, index, evidence)) return { kind: "unchanged", index: next };
    } else if (sameContent(index, evidence) || (quiet && trustedVersion(resource, index, evidence))) {
      return { kind: "unchanged", index: next };
    }
  }
  return { kind: "handle", change: "upsert", regressed, index: next };
}

/** Whether the index holds this very content. Shapes are kept apart where both are known. */
export function sameContent(index: IndexEntry, evidence: Evidence & { kind: "object" }): boolean {
  const [own, other] = evidence.shape === "fetch" ? [index.hash, index.rowHash] : [index.rowHash, index.hash];
  return (own ?? other) === evidence.hash;
}

/**
 * Whether what was handled under another revision is taken for the same in a new shape. Without versions nobody can tell
 * that from a change; but of which nothing is known (a dead letter of it was discarded), the copy may hold anything.
 */
function adoptsRevision(
  resource: AnyResource,
  { hash, rowHash, version }: IndexEntry,
  evidence: Evidence & { kind: "object" },
): boolean {
  if (version === null && hash === null && rowHash === null) return false;
  return resource.onRevision === "adopt" && !versionsDiffer(resource, version, evidence.version);
}

/** The user said (`adopt`) that the copy holds this version, and nobody knows its content: the version is believed. */
function trustedVersion(
  resource: AnyResource,
  index: IndexEntry,
  evidence: Evidence & { kind: "object" },
): boolean {
  const { hash, rowHash, version } = index;
  if (hash !== null || rowHash !== null) return false;
  return compareEncoded(version, evidence.version, resource.compareVersions) === 0;
}

function hashesAfter(
  index: IndexEntry | undefined,
  evidence: Evidence & { kind: "object" },
): Pick<IndexEntry, "hash" | "rowHash"> {
  // What is known of the other shape stays true only as long as the content does.
  const keep = index?.state === "present" && sameContent(index, evidence);
  if (evidence.shape === "fetch") return { hash: evidence.hash, rowHash: keep ? index.rowHash : null };
  return { hash: keep ? index.hash : null, rowHash: evidence.hash };
}

/** By order, not by text: the same instant may come as a string here and as a Date there. */
export function versionsDiffer(
  resource: AnyResource,
  a: EncodedVersion | null,
  b: EncodedVersion | null,
): boolean {
  return a !== null && b !== null && compareEncoded(a, b, resource.compareVersions) !== 0;
}

function latest(
  resource: AnyResource,
  a: EncodedVersion | null,
  b: EncodedVersion | null,
): EncodedVersion | null {
  if (a === null || b === null) return a ?? b;
  return (compareEncoded(a, b, resource.compareVersions) ?? 0) >= 0 ? a : b;
}

/** How a row of a list compares with the index. */
export type RowComparison =
  | "same"
  /** The same object, whose hash is not known or of an earlier revision: the row's is taken over quietly. */
  | "adopted"
  | "missing"
  | "stale"
  /** The row's shape cannot be compared with what is known: only a fetch can tell. */
  | "unclear"
  /** The row is older than what was handed over, or its deletion was: the normal road decides, with time (I4). */
  | "regressed";

export function compareRow(
  resource: AnyResource,
  index: IndexEntry | undefined,
  row: Evidence & { kind: "object" },
): RowComparison {
  if (index === undefined) return "missing";
  const order = compareEncoded(row.version, index.version, resource.compareVersions);
  if (index.state === "gone") return order !== undefined && order > 0 ? "missing" : "regressed";
  if (index.revision !== resource.revision) {
    return adoptsRevision(resource, index, row) ? "adopted" : "stale";
  }
  if (resource.compare === "version" && order === 0) return "same";
  // Once: with the hash that is learned here, content decides from now on.
  if (trustedVersion(resource, index, row)) return "adopted";
  if (sameContent(index, row)) return "same";
  if (order !== undefined && order < 0) return "regressed";
  const comparable = index.rowHash !== null || index.hash === null || (order !== undefined && order > 0);
  return comparable ? "stale" : "unclear";
}

/** The same for a row that is only an id and perhaps a version. */
export function compareSummary(
  resource: AnyResource,
  index: IndexEntry | undefined,
  version: EncodedVersion | null,
): RowComparison {
  if (index === undefined) return "missing";
  const order = compareEncoded(version, index.version, resource.compareVersions);
  if (index.state === "gone") return order !== undefined && order > 0 ? "missing" : "regressed";
  if (index.revision !== resource.revision && resource.onRevision === "handle") return "stale";
  if (order === 0) return "same";
  // Without an order (no version, or one that says only "different") nothing but a fetch can tell.
  if (order === undefined) return version !== null && index.version !== null ? "stale" : "unclear";
  return order < 0 ? "regressed" : "stale";
}
