/**
 * What arrives by which way, for each connection: the number that tells a user that a webhook is broken. Pure: it is
 * told what happens and when, and keeps counts of the last 24 hours, by the hour, of a bounded number of connections.
 *
 * @module
 */

import type { Origin } from "./event.ts";
import type { ConnectionRef } from "./hooks.ts";

/** Sources that bring events. */
export type SourceKind = "webhook" | "queue" | "poll";
/** By what a change was first heard of; `"reconcile"`: by nothing but a pass. */
export type Arrival = SourceKind | "reconcile";

export type LastEvents = { readonly [Kind in SourceKind]?: number };

/** How events of one connection arrive. Counts are of the last 24 hours, by the hour, and of this process. */
export interface DeliveryStatus extends ConnectionRef {
  /** When the last event came, over all processes and restarts, to the minute. Milliseconds since the epoch. */
  readonly lastEvent: Readonly<Record<SourceKind, number | undefined>>;
  readonly eventsPerHour: Readonly<Record<SourceKind, number>>;
  /** Deliveries whose signature did not fit. */
  readonly signatureFailures: number;
  /** Changes that handlers applied, by what first told of them. First passes, and passes with `handle: "all"`, aside. */
  readonly changes: Readonly<Record<Arrival, number>>;
  /** The same as parts of 1; `undefined` where there were none. A high `reconcile` says that events are lost. */
  readonly shares: Readonly<Record<Arrival, number>> | undefined;
  /** Since when this process counts, in milliseconds since the epoch. */
  readonly countedSince: number;
  /** Where `webhooks.quiet` was told and holds: when the last event came, or when the counting began. */
  readonly quietSince: number | undefined;
}

/** What `webhooks.quiet` tells. */
export interface Quiet {
  readonly missed: number;
  readonly quietSince: number;
  readonly lastEventAt: number | undefined;
  readonly signatureFailures: number;
}

export const SOURCE_KINDS = ["webhook", "queue", "poll"] as const;
const ARRIVALS = [...SOURCE_KINDS, "reconcile"] as const;

const HOUR_MS = 3_600_000;
const HOURS = 24;
/** Columns of an hour: events by kind, changes by arrival, failed signatures. */
const CHANGES_AT = SOURCE_KINDS.length;
const FAILURES_AT = CHANGES_AT + ARRIVALS.length;
const COLUMNS = FAILURES_AT + 1;

/** Some kilobyte each; over it, the connection goes whose last sign of life is the oldest. */
const MOST_CONNECTIONS = 10_000;

/** Without an event for so long, changes that only passes find are no lag of a webhook. */
const QUIET_MS = HOUR_MS;
/** So many of them are no accident, such as a kind of change that the provider announces to nobody. */
const LEAST_MISSED = 3;

/** What a pass says about the changes that it finds. */
interface PassFacts {
  /** They are news: the copy was complete before, and only what differs is handled. */
  readonly news: boolean;
  /** A webhook should have told of them while this process was there: an earlier pass of it was complete. */
  readonly expected: boolean;
}

interface Row {
  readonly ref: ConnectionRef;
  readonly counts: Uint32Array;
  /** The hour that the newest column set is of, since the epoch. */
  hour: number;
  readonly lastEvent: { [Kind in SourceKind]?: number };
  /** Last passes by resource, and whether one was complete. */
  readonly passes: Map<string, PassFacts>;
  readonly completed: Set<string>;
  /** When anything was last heard of a change by a webhook or a queue. */
  lastTold: number | undefined;
  /** Changes since then that only passes found. */
  missed: number;
  quietSince: number | undefined;
}

export class DeliveryHealth {
  readonly #since: number;
  /** The least recently touched first. */
  readonly #rows = new Map<string, Row>();
  #latest: Row | undefined;

  constructor(now: number) {
    this.#since = now;
  }

  /** Events came from a source, whatever became of them. */
  delivered(ref: ConnectionRef, origin: Origin, events: number, now: number): void {
    const kind = SOURCE_KINDS.indexOf(origin as SourceKind);
    if (kind < 0) return;
    const row = this.#touch(ref, now);
    add(row, kind, events);
    this.#heard(row, { [SOURCE_KINDS[kind] as SourceKind]: now });
  }

  signatureRefused(ref: ConnectionRef, now: number): void {
    add(this.#touch(ref, now), FAILURES_AT, 1);
  }

  changed(ref: ConnectionRef & { readonly resource: string }, origin: Origin, now: number): void {
    const arrival = ARRIVALS.indexOf(origin as Arrival);
    if (arrival < 0) return; // somebody asked for it by hand
    const row = this.#touch(ref, now);
    if (origin === "reconcile") {
      const { expected, news } = row.passes.get(ref.resource) ?? { news: true, expected: false };
      if (!news) return;
      if (expected) row.missed += 1;
    } else if (origin !== "poll") this.#told(row, now); // its event may have come to another process
    add(row, CHANGES_AT + arrival, 1);
  }

  /** @param pass `news`: whether what it finds is what events should have told */
  passStarted(
    ref: ConnectionRef & { readonly resource: string },
    pass: { readonly news: boolean },
    now: number,
  ): void {
    const row = this.#touch(ref, now);
    row.passes.set(ref.resource, { ...pass, expected: pass.news && row.completed.has(ref.resource) });
  }

  passCompleted(ref: ConnectionRef & { readonly resource: string }, now: number): void {
    this.#touch(ref, now).completed.add(ref.resource);
  }

  /** Takes over what is known elsewhere: from before a restart, or from another process. */
  remembered(ref: ConnectionRef, last: LastEvents): void {
    const row = this.#rows.get(keyOf(ref));
    if (row !== undefined) this.#heard(row, last);
    else if (Object.keys(last).length > 0) this.#heard(this.#newRow(ref, this.#since), last);
  }

  /** Whether webhooks seem to be broken, and nobody was told yet. */
  suspects(ref: ConnectionRef, now: number): Quiet | undefined {
    const row = this.#rows.get(keyOf(ref));
    if (row === undefined || row.quietSince !== undefined || row.missed < LEAST_MISSED) return undefined;
    // It is polled, and never had a webhook.
    if (row.lastTold === undefined && row.lastEvent.poll !== undefined) return undefined;
    // What came before this process was there says nothing of how long it has been waiting.
    const quietSince = Math.max(row.lastTold ?? 0, this.#since);
    if (now - quietSince < QUIET_MS) return undefined;
    turnTo(row, now);
    return {
      missed: row.missed,
      quietSince: row.lastTold ?? this.#since,
      lastEventAt: row.lastTold,
      signatureFailures: sumOf(row, FAILURES_AT),
    };
  }

  /** It is told now, and not again before an event comes. */
  quietTold(ref: ConnectionRef, { quietSince }: Quiet): void {
    const row = this.#rows.get(keyOf(ref));
    if (row !== undefined) row.quietSince = quietSince;
  }

  lastEvents(ref: ConnectionRef): LastEvents {
    return { ...this.#rows.get(keyOf(ref))?.lastEvent };
  }

  /** Connections that something was heard of, the latest first. */
  connections(): ConnectionRef[] {
    return Array.from(this.#rows.values(), ({ ref }) => ref).toReversed();
  }

  status(ref: ConnectionRef, now: number): DeliveryStatus {
    const row = this.#rows.get(keyOf(ref));
    if (row !== undefined) turnTo(row, now);
    const sum = (column: number) => (row === undefined ? 0 : sumOf(row, column));
    const hours = Math.min(HOURS, Math.max(1, (now - this.#since) / HOUR_MS));
    const changes = named(ARRIVALS, (i) => sum(CHANGES_AT + i));
    const all = ARRIVALS.reduce((total, arrival) => total + changes[arrival], 0);
    return {
      provider: ref.provider,
      connection: ref.connection,
      lastEvent: named(SOURCE_KINDS, (i) => row?.lastEvent[SOURCE_KINDS[i] as SourceKind]),
      eventsPerHour: named(SOURCE_KINDS, (i) => sum(i) / hours),
      signatureFailures: sum(FAILURES_AT),
      changes,
      shares: all === 0 ? undefined : named(ARRIVALS, (i) => changes[ARRIVALS[i] as Arrival] / all),
      countedSince: this.#since,
      quietSince: row?.quietSince,
    };
  }

  forget(ref: ConnectionRef): void {
    this.#latest = undefined;
    this.#rows.delete(keyOf(ref));
  }

  #heard(row: Row, last: LastEvents): void {
    for (const kind of SOURCE_KINDS) {
      const at = last[kind];
      if (at === undefined || at <= (row.lastEvent[kind] ?? -Infinity)) continue;
      row.lastEvent[kind] = at;
      if (kind !== "poll") this.#told(row, at);
    }
  }

  #told(row: Row, at: number): void {
    if (at <= (row.lastTold ?? -Infinity)) return;
    row.lastTold = at;
    row.missed = 0;
    row.quietSince = undefined;
  }

  #touch({ connection, provider }: ConnectionRef, now: number): Row {
    // Each webhook comes by here, and most come for the same connection as the one before.
    const latest = this.#latest;
    if (latest?.ref.connection === connection && latest.ref.provider === provider) {
      turnTo(latest, now);
      return latest;
    }
    const key = keyOf({ connection, provider });
    const known = this.#rows.get(key);
    if (known === undefined) return this.#newRow({ provider, connection }, now);
    this.#rows.delete(key);
    this.#rows.set(key, known);
    this.#latest = known;
    turnTo(known, now);
    return known;
  }

  #newRow(ref: ConnectionRef, now: number): Row {
    if (this.#rows.size >= MOST_CONNECTIONS) this.#rows.delete(this.#rows.keys().next().value as string);
    const row = newRow(ref, now);
    this.#rows.set(keyOf(ref), row);
    this.#latest = row;
    return row;
  }
}

function newRow(ref: ConnectionRef, now: number): Row {
  return {
    ref,
    counts: new Uint32Array(HOURS * COLUMNS),
    hour: Math.floor(now / HOUR_MS),
    lastEvent: {},
    passes: new Map(),
    completed: new Set(),
    lastTold: undefined,
    missed: 0,
    quietSince: undefined,
  };
}

/** Makes room for the present hour. A clock that was set back counts on in the hour that it was in. */
function turnTo(row: Row, now: number): void {
  const hour = Math.floor(now / HOUR_MS);
  const passed = Math.min(HOURS, hour - row.hour);
  for (let i = 0; i < passed; i += 1) {
    const start = ((hour - i) % HOURS) * COLUMNS;
    row.counts.fill(0, start, start + COLUMNS);
  }
  if (passed > 0) row.hour = hour;
}

function add(row: Row, column: number, count: number): void {
  const at = (row.hour % HOURS) * COLUMNS + column;
  row.counts[at] = (row.counts[at] ?? 0) + count;
}

function sumOf({ counts }: Row, column: number): number {
  let sum = 0;
  for (let at = column; at < counts.length; at += COLUMNS) sum += counts[at] ?? 0;
  return sum;
}

function named<Name extends string, Value>(
  names: readonly Name[],
  value: (index: number) => Value,
): Record<Name, Value> {
  return Object.fromEntries(names.map((name, i) => [name, value(i)])) as Record<Name, Value>;
}

function keyOf({ connection, provider }: ConnectionRef): string {
  return `${provider}/${connection}`; // a provider's name has no slash
}
