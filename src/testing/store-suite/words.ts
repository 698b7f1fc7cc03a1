/**
 * Short words for what the store suite's tests hand in and look at.
 *
 * @module
 */

import assert from "node:assert/strict";
import { systemClock } from "../../core/clock.ts";
import { dedupeKey, type Hint, type ObjectRef, type Origin, type Scope } from "../../core/event.ts";
import type {
  AppendEntry,
  Claim,
  FailureRecord,
  IndexEntry,
  LaneKind,
  PageRecord,
  Settlement,
  Store,
  WorkSession,
} from "../../core/store.ts";
import { encodeVersion, versionOrder, type Version } from "../../core/version.ts";

export const SCOPE: Scope = { provider: "crm", connection: "default", resource: "contact" };
export const ROUTE = { provider: SCOPE.provider, resource: SCOPE.resource };

export function scopeOf(connection: string): Scope {
  return { ...SCOPE, connection };
}

export function refOf(id: string, scope: Scope = SCOPE): ObjectRef {
  return { ...scope, id };
}

export interface EntryOptions {
  readonly scope?: Scope;
  /** The provider's id of the event: gives the entry a dedupe key. */
  readonly eventId?: string;
  /** `false`: an entry without an event, as `trigger` makes it. */
  readonly event?: false;
  readonly lane?: LaneKind;
  readonly origin?: Origin;
  readonly force?: boolean;
  readonly hint?: Hint;
  readonly version?: Version;
  readonly receivedAt?: number;
  readonly data?: unknown;
}

/** One line of `append`, as the engine would make it of an event. */
export function entry(id: string, options: EntryOptions = {}): AppendEntry {
  const ref = refOf(id, options.scope);
  const origin = options.origin ?? "webhook";
  const version = encodeVersion(options.version);
  const event = {
    ...(options.eventId === undefined ? undefined : { id: options.eventId }),
    ...(options.hint === undefined ? undefined : { hint: options.hint }),
    ...(version === null ? undefined : { version }),
    ...(options.data === undefined ? undefined : { data: options.data }),
    origin,
    receivedAt: options.receivedAt ?? 0,
  };
  return {
    ref,
    dedupeKey: options.eventId === undefined ? undefined : dedupeKey(ref, options.eventId),
    event: options.event === false ? undefined : event,
    origin,
    lane: options.lane ?? "live",
    force: options.force,
    hint: options.hint,
    version: version ?? undefined,
    versionOrder: versionOrder(version) ?? undefined,
  };
}

/** Appends one entry for each id and returns the last generation. */
export async function appendIds<Tx>(
  store: Store<Tx>,
  ids: readonly string[],
  options?: EntryOptions,
): Promise<number> {
  const results = await store.append(ids.map((id) => entry(id, options)));
  return results.at(-1)?.generation ?? 0;
}

export async function claimUpTo<Tx>(session: WorkSession<Tx>, limit: number): Promise<Claim[]> {
  return await session.claim({ ...ROUTE, limit });
}

/** Claims what must be the only object that is due. */
export async function claimOnly<Tx>(session: WorkSession<Tx>): Promise<Claim> {
  const claims = await claimUpTo(session, 10);
  assert.equal(
    claims.length,
    1,
    `one object should be claimable, not ${claims.length} (${idsOf(claims).join(", ")})`,
  );
  return claims[0] as Claim;
}

/** Claims the object, which must be due, whatever else is. The other claims stay open. */
export async function claimId<Tx>(session: WorkSession<Tx>, id: string): Promise<Claim> {
  const claims = await claimUpTo(session, 1_000);
  const found = claims.find((claim) => claim.ref.id === id);
  assert.ok(found !== undefined, `${id} should be claimable; ${idsOf(claims).join(", ") || "nothing"} is`);
  return found;
}

export async function expectNothingDue<Tx>(session: WorkSession<Tx>, why: string): Promise<void> {
  const claims = await claimUpTo(session, 10);
  assert.deepEqual(idsOf(claims), [], why);
}

export function idsOf(items: readonly { readonly ref: ObjectRef }[]): string[] {
  return items.map((item) => item.ref.id);
}

export function sortedIds(items: readonly { readonly ref: ObjectRef }[]): string[] {
  return idsOf(items).toSorted();
}

export function indexEntry(overrides: Partial<IndexEntry> = {}): IndexEntry {
  return {
    state: "present",
    version: "n:1",
    hash: "h1",
    rowHash: null,
    revision: 1,
    evidence: 1,
    ...overrides,
  };
}

export function failure(code = "HANDLER_FAILED", at = 0): FailureRecord {
  return { code, message: "it did not work", at };
}

export function done(claim: Claim, index: IndexEntry | null = indexEntry(), notBefore?: number): Settlement {
  return { claim, kind: "done", index, notBefore };
}

export function retry(
  claim: Claim,
  due: number,
  options: Partial<Settlement & { kind: "retry" }> = {},
): Settlement {
  return { claim, kind: "retry", due, attempts: claim.attempt, lags: claim.lags, begun: false, ...options };
}

export function dead(claim: Claim, options: { begun?: boolean; error?: FailureRecord } = {}): Settlement {
  return { claim, kind: "dead", begun: options.begun ?? false, error: options.error ?? failure() };
}

/** Makes objects dead letters, each with one event. */
export async function makeDead<Tx>(
  { store, session }: { store: Store<Tx>; session: WorkSession<Tx> },
  ids: readonly string[],
  options: { scope?: Scope; begun?: boolean } = {},
): Promise<void> {
  const scope = options.scope ?? SCOPE;
  await store.append(ids.map((id) => entry(id, { scope, eventId: `event of ${id}` })));
  const claims = await session.claim({
    provider: scope.provider,
    resource: scope.resource,
    limit: ids.length,
  });
  assert.deepEqual(sortedIds(claims), ids.toSorted(), "what is to be made dead should be claimable");
  await session.settle(claims.map((claim) => dead(claim, { begun: options.begun ?? false })));
}

/** Puts objects into the index without any work being left. */
export async function makePresent<Tx>(
  store: Store<Tx>,
  ids: readonly string[],
  scope: Scope = SCOPE,
): Promise<void> {
  const written = await store.record(
    scope,
    ids.map((id) => ({ id, index: indexEntry() })),
  );
  assert.equal(written, ids.length, "record should write the entries of objects that are not pending");
}

/** A page of a pass with nothing on it but what is given. */
export function page(given: Partial<PageRecord> & Pick<PageRecord, "lock" | "mark">): PageRecord {
  return { scope: SCOPE, pass: PASS, seen: [], differing: [], lease: true, checkpoint: "{}", ...given };
}

/** The pass that tests make pages of. */
export const PASS = "pass:contacts";

/** Real time that a call gets which should be over already; only a store that fails makes a test wait for it. */
const PATIENCE_MS = 3_000;

/** The call's result; fails, rather than hang, when it does not come. */
export async function inTime<T>(call: Promise<T>, why: string): Promise<T> {
  let cancel = () => {};
  const tooLate = new Promise<never>((_, reject) => {
    cancel = systemClock.setTimer(() => reject(new assert.AssertionError({ message: why })), PATIENCE_MS);
  });
  try {
    return await Promise.race([call, tooLate]);
  } finally {
    cancel();
  }
}

/** The call must reject with a TrueupError of this code. */
export async function rejectsWith(code: string, call: Promise<unknown>, why: string): Promise<void> {
  await assert.rejects(
    call,
    (error: unknown) => {
      assert.equal((error as { code?: unknown }).code, code, `${why}; it rejected with ${String(error)}`);
      return true;
    },
    why,
  );
}
