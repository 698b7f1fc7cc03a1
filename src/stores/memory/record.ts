/**
 * One object as the store keeps it, and how each call changes it. Records are immutable and JSON throughout: what is
 * written to Keyv is what lies in memory, and a change that cannot be written is dropped by dropping its new record.
 *
 * @module
 */

import { type MergedHint, mergeHints } from "../../core/hint.ts";
import type { Hint, ObjectRef, Origin, StoredEvent } from "../../core/event.ts";
import type {
  AppendEntry,
  Claim,
  FailureRecord,
  IndexEntry,
  LaneKind,
  Settlement,
} from "../../core/store.ts";
import type { EncodedVersion } from "../../core/version.ts";

/** An event, and when it was appended: its time to live runs from there. */
export interface KeptEvent {
  readonly at: number;
  readonly event: StoredEvent;
}

/** Appends that one handling will answer for, merged. */
export interface Work {
  /** Of the first append. */
  readonly origin: Origin;
  /** When the first append came, in milliseconds since the epoch. */
  readonly since: number;
  /** `"live"` as soon as one of the appends is. */
  readonly lane: LaneKind;
  readonly force: boolean;
  readonly hint?: Hint | undefined;
  readonly version?: EncodedVersion | undefined;
  readonly versionOrder?: string | undefined;
  readonly eventCount: number;
  /** The newest, oldest first. */
  readonly events: readonly KeptEvent[];
}

export interface ObjectRecord {
  /** The store's number for the object: a value of the counter, never given twice. */
  readonly key: number;
  readonly ref: ObjectRef;
  readonly state: "idle" | "waiting" | "leased" | "dead";
  /** Waiting: when to claim it. Idle: no claim before this (`coalesceMs`). Milliseconds since the epoch. */
  readonly due: number;
  /** When `state` last became what it is, in milliseconds since the epoch. */
  readonly stateSince: number;
  readonly generation: number;
  /** Of the latest lease, live only while `state` is `"leased"`. */
  readonly fence: number;
  readonly touched: number;
  /** Attempts that were begun, the present one included. */
  readonly attempts: number;
  readonly lags: number;
  readonly begun: boolean;
  readonly index: IndexEntry | null;
  /** What the present or next claim sees; `null` exactly while idle. */
  readonly work: Work | null;
  /** What was appended since the present claim. */
  readonly late: Work | null;
  /** Of the latest retry or death. */
  readonly error: FailureRecord | null;
}

export function newRecord(key: number, ref: ObjectRef, now: number): ObjectRecord {
  const { provider, connection, resource, id } = ref;
  return {
    key,
    ref: { provider, connection, resource, id },
    state: "idle",
    due: 0,
    stateSince: now,
    generation: 0,
    fence: 0,
    touched: 0,
    attempts: 0,
    lags: 0,
    begun: false,
    index: null,
    work: null,
    late: null,
    error: null,
  };
}

export function isPending(record: ObjectRecord): boolean {
  return record.state !== "idle";
}

/** Whether something is going to be done about it. */
export function isUnderWay(record: ObjectRecord): boolean {
  return record.state === "waiting" || record.state === "leased";
}

/** Whether the object is one that a list should show. */
export function isPresent(record: ObjectRecord): boolean {
  return record.index?.state === "present";
}

export function eventsHeld(record: ObjectRecord): number {
  return (record.work?.events.length ?? 0) + (record.late?.events.length ?? 0);
}

/** What one append adds. */
export function workOf(entry: AppendEntry, now: number): Work {
  return {
    origin: entry.origin,
    since: now,
    lane: entry.lane,
    force: entry.force === true,
    hint: entry.hint,
    version: entry.version,
    versionOrder: entry.versionOrder,
    eventCount: entry.event === undefined ? 0 : 1,
    events: entry.event === undefined ? [] : [{ at: now, event: entry.event }],
  };
}

/** What a pass adds that found the object to differ. */
export function repairWork(now: number): Work {
  return { origin: "reconcile", since: now, lane: "repair", force: false, eventCount: 0, events: [] };
}

function merged(work: Work | null, later: Work, maxEvents: number): Work {
  if (work === null) return later;
  return {
    origin: work.origin,
    since: work.since,
    lane: work.lane === "live" ? "live" : later.lane,
    force: work.force || later.force,
    ...mergedHint(work, later),
    eventCount: work.eventCount + later.eventCount,
    events: later.events.length === 0 ? work.events : [...work.events, ...later.events].slice(-maxEvents),
  };
}

function mergedHint(work: Work, later: Work): Pick<Work, "hint" | "version" | "versionOrder"> {
  const { hint, version, order } = mergeHints(hintOf(work), hintOf(later));
  return { hint: hint ?? undefined, version: version ?? undefined, versionOrder: order ?? undefined };
}

function hintOf({ hint, version, versionOrder }: Work): MergedHint {
  return { hint: hint ?? null, version: version ?? null, order: versionOrder ?? null };
}

/** A moment of the store: its counter just advanced, the time, and the cap on events. */
export interface Moment {
  readonly counter: number;
  readonly now: number;
  readonly maxEvents: number;
}

/** Adds work: an idle or dead object becomes due, a waiting one keeps its due date, a leased one its lease. */
export function appended(record: ObjectRecord, added: Work, moment: Moment): ObjectRecord {
  const { counter, now, maxEvents } = moment;
  const changed = { ...record, generation: counter, touched: counter };
  switch (record.state) {
    case "idle":
      return freshWork(changed, added, Math.max(now, record.due), now);
    case "waiting":
      return { ...changed, work: merged(record.work, added, maxEvents) };
    case "leased":
      return { ...changed, late: merged(record.late, added, maxEvents) };
    case "dead":
      return freshWork(changed, revived(record.work, added, maxEvents), now, now);
  }
}

/** The events of before stay, the rest is that of the append which brings the object back. */
function revived(work: Work | null, added: Work, maxEvents: number): Work {
  return { ...merged(work, added, maxEvents), origin: added.origin, since: added.since, lane: added.lane };
}

function freshWork(record: ObjectRecord, work: Work, due: number, now: number): ObjectRecord {
  return { ...record, state: "waiting", stateSince: now, due, work, late: null, attempts: 0, lags: 0 };
}

/** Leases the object; the counter is the fence. */
export function leased(record: ObjectRecord, { counter, now }: Moment): ObjectRecord {
  return {
    ...record,
    state: "leased",
    stateSince: now,
    fence: counter,
    touched: counter,
    attempts: record.attempts + 1,
  };
}

/** Leases an object that a pass found to differ and that nobody has work for. */
export function leasedFromPage(record: ObjectRecord, moment: Moment): ObjectRecord {
  const waiting = freshWork(record, repairWork(moment.now), moment.now, moment.now);
  return leased({ ...waiting, generation: moment.counter }, moment);
}

/** Ends the lease as the settlement says. The caller has checked the fence. */
export function settled(record: ObjectRecord, settlement: Settlement, moment: Moment): ObjectRecord {
  const { counter, now, maxEvents } = moment;
  const { late } = record;
  const changed = { ...record, touched: counter };
  switch (settlement.kind) {
    case "done": {
      const due = settlement.notBefore ?? 0;
      const clean = { ...changed, index: settlement.index, begun: false, error: null };
      return late === null ? idle(clean, due, now) : freshWork(clean, late, Math.max(now, due), now);
    }
    case "retry":
      return {
        ...changed,
        ...(late === null ? undefined : { work: merged(record.work, late, maxEvents), late: null }),
        state: "waiting",
        stateSince: now,
        due: settlement.due,
        attempts: settlement.attempts,
        lags: settlement.lags,
        begun: record.begun || settlement.begun,
        error: settlement.error ?? record.error,
      };
    case "dead": {
      const failed = { ...changed, begun: record.begun || settlement.begun, error: settlement.error };
      if (late !== null) return freshWork(failed, revived(record.work, late, maxEvents), now, now);
      return { ...failed, state: "dead", stateSince: now };
    }
  }
}

function idle(record: ObjectRecord, due: number, now: number): ObjectRecord {
  return { ...record, state: "idle", stateSince: now, due, work: null, late: null, attempts: 0, lags: 0 };
}

/**
 * Ends a lease that nobody will settle: due again at once. Its holder may have begun a handler, and nobody knows how
 * that ended. A crash counts as an attempt; an orderly release does not.
 */
export function unleased(record: ObjectRecord, how: "crashed" | "released", moment: Moment): ObjectRecord {
  const { late } = record;
  return {
    ...record,
    state: "waiting",
    stateSince: moment.now,
    due: moment.now,
    touched: moment.counter,
    attempts: how === "crashed" ? record.attempts : record.attempts - 1,
    begun: true,
    work: late === null ? record.work : merged(record.work, late, moment.maxEvents),
    late: null,
  };
}

export function retriedDead(record: ObjectRecord, now: number): ObjectRecord {
  return record.work === null ? record : freshWork(record, { ...record.work, since: now }, now, now);
}

/** Drops dead work. Where a handler may have begun, nothing is known any more of what the user's copy holds. */
export function discardedDead(record: ObjectRecord, now: number): ObjectRecord {
  const { revision = 0, evidence = 0 } = record.index ?? {};
  const unknown = { state: "present", version: null, hash: null, rowHash: null, revision, evidence } as const;
  return idle({ ...record, error: null, index: record.begun ? unknown : record.index }, 0, now);
}

/** Without the events that were appended at or before the given moment. */
export function withoutEventsUntil(record: ObjectRecord, cutoff: number): ObjectRecord {
  const trim = (work: Work | null) =>
    work === null ? null : { ...work, events: work.events.filter((kept) => kept.at > cutoff) };
  return { ...record, work: trim(record.work), late: trim(record.late) };
}

/** A leased record as its holder sees it; `begun` as it was before this lease. */
export function claimOf(record: ObjectRecord): Claim {
  const { work } = record;
  if (work === null) throw new Error(`object ${record.key} is leased without work`);
  return {
    ref: record.ref,
    key: record.key,
    fence: record.fence,
    generation: record.generation,
    attempt: record.attempts,
    lags: record.lags,
    begun: record.begun,
    forced: work.force,
    lane: work.lane,
    origin: work.origin,
    hint: work.hint,
    hintVersion: work.version,
    events: work.events.map((kept) => kept.event),
    eventCount: work.eventCount,
    dirtySince: work.since,
    index: record.index ?? undefined,
  };
}
