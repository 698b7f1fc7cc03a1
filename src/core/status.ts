/**
 * How things stand: what waits, for how long, and what went wrong last.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { DeliveryStatus } from "./delivery-health.ts";
import type { DeliveryWatch } from "./delivery-watch.ts";
import type { FailureRecord, Pause, Pending, RouteCounts, Store, StoreGuarantees } from "./store.ts";

export interface RouteStatus {
  /** `"provider.resource"`. */
  readonly route: string;
  readonly connection: string;
  /** Objects that need work, leased ones included. */
  readonly backlog: number;
  readonly leased: number;
  /** How long the oldest of them has waited, in milliseconds; 0 without a backlog. */
  readonly oldestAgeMs: number;
  readonly deadLetters: number;
  /** Objects that the index holds. */
  readonly objects: number;
  readonly lastError: FailureRecord | undefined;
  /** Until when the connection is paused (milliseconds since the epoch; `null`: until resumed), and why. */
  readonly paused: { readonly until: number | null; readonly reason: string } | undefined;
}

export interface EngineStatus {
  readonly started: boolean;
  readonly store: StoreGuarantees;
  readonly backlog: number;
  readonly deadLetters: number;
  readonly routes: readonly RouteStatus[];
  readonly pauses: readonly Pause[];
  /** How events arrive, for each connection; of a thousand connections at most. */
  readonly deliveries: readonly DeliveryStatus[];
}

export interface DrainResult {
  /** Nothing is dirty or leased, in any process. */
  readonly idle: boolean;
  readonly counts: {
    /** Objects that wait: `due` by the deadline, `later` behind it or on a paused connection. */
    readonly dirty: number;
    readonly due: number;
    readonly later: number;
    readonly leased: number;
    readonly dead: number;
  };
}

export async function readStatus(
  store: Store<unknown>,
  clock: Clock,
  started: boolean,
  watch: DeliveryWatch,
): Promise<EngineStatus> {
  const [counts, pauses] = await Promise.all([store.counts(), store.pauses()]);
  const routes = counts.map((row) => routeStatus(row, pauses, clock.now()));
  return {
    started,
    store: store.guarantees,
    backlog: routes.reduce((sum, route) => sum + route.backlog, 0),
    deadLetters: routes.reduce((sum, route) => sum + route.deadLetters, 0),
    routes,
    pauses,
    deliveries: await watch.status(counts),
  };
}

function routeStatus(row: RouteCounts, pauses: readonly Pause[], now: number): RouteStatus {
  const pause = pauses.find(
    ({ provider, connection }) => provider === row.provider && connection === row.connection,
  );
  return {
    route: `${row.provider}.${row.resource}`,
    connection: row.connection,
    backlog: row.dirty + row.leased,
    leased: row.leased,
    oldestAgeMs: row.oldestDirtySince === undefined ? 0 : Math.max(0, now - row.oldestDirtySince),
    deadLetters: row.dead,
    objects: row.present,
    lastError: row.lastError,
    paused: pause === undefined ? undefined : { until: pause.until, reason: pause.reason },
  };
}

export function drainResult(pending: Pending): DrainResult {
  const { dead, due, later, leased } = pending;
  const dirty = due + later;
  return { idle: dirty === 0 && leased === 0, counts: { dirty, due, later, leased, dead } };
}
