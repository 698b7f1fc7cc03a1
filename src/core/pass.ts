/**
 * A pass over a list: what it is asked for, how far it got, and what it found. The state is plain JSON and lives in
 * the store's checkpoint, so that a pass goes on where it stopped, in this process or another.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { HttpError } from "./errors.ts";
import type { Scope } from "./event.ts";
import type { Route } from "./registry.ts";
import { connectionKey } from "./store.ts";

export type PassMode = "incremental" | "full";

/** Counts of a pass; all survive a resume. */
export interface PassCounts {
  /** Pages read. */
  pages: number;
  /** Calls of `list`, failed ones included. */
  requests: number;
  /** Rows seen. */
  listed: number;
  /** Rows that are what the index says. */
  unchanged: number;
  /** Objects that the index did not have. */
  missing: number;
  /** Objects that the index had otherwise. */
  stale: number;
  /** Objects that the index has and the provider has not, confirmed by a fetch. */
  extra: number;
  /** Objects that went back behind what was handed over, and were believed. */
  regressed: number;
  /** Deletions that were handed over. */
  deleted: number;
  /** Deletions that the shrink guard held back. */
  suppressedDeletes: number;
}

/** How a pass over a list went. */
export interface ReconcileReport extends Readonly<PassCounts> {
  readonly route: string;
  /** `"*"` where the counts are those of all connections together. */
  readonly connection: string;
  readonly mode: PassMode;
  /** Whether the whole list was read, and (in a full pass) what it lacked was dealt with. */
  readonly complete: boolean;
  /** Whether it went on where an earlier one had stopped. */
  readonly resumed: boolean;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  /** Where the next pass goes on: `cursor` while this one is incomplete, `since` for the next incremental one. */
  readonly checkpoint: { readonly cursor: string | undefined; readonly since: Date | undefined };
}

/** Differences that a report shows at most. */
export const MOST_SAMPLES = 20;

/** One difference that `verify` found. */
export interface DriftSample {
  readonly id: string;
  readonly kind: "missing" | "stale" | "extra";
}

/** What `verify` found. In sync: `missing`, `stale` and `extra` are 0. */
export interface DriftReport {
  readonly route: string;
  readonly connection: string;
  readonly listed: number;
  /** At the provider, not in the index. */
  readonly missing: number;
  /** In both, and different. */
  readonly stale: number;
  /** In the index, not at the provider; confirmed by a fetch. */
  readonly extra: number;
  /** Objects that cannot be judged, because work on them is waiting or they changed meanwhile. */
  readonly pending: number;
  /** Some of the differences. */
  readonly samples: readonly DriftSample[];
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

/** What a pass does about objects: hands over what differs, hands over all, or only tells the index. */
export type PassHandle = "changed" | "all" | "none";

/** A pass under way. */
export interface PassState {
  /** What it was asked for. */
  readonly handle: PassHandle;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** The store's counter when it began: what is touched later is none of its business. */
  readonly startMark: number;
  /** What `list` gets as `since`, in milliseconds since the epoch. */
  readonly since: number | null;
  readonly pageSize: number;
  /** When the first page was requested, by the provider's clock: the next `since` is this, less the overlap. */
  watermark: number | null;
  cursor: string | null;
  /** `"listed"`: the list was read to its end. */
  phase: "list" | "listed";
  /** Where the sweep got to. */
  sweptTo: string | null;
  /** A row had no id that could be read: the list cannot prove that anything is missing from it. */
  unreadable: boolean;
  counts: PassCounts;
  cycle: CycleState;
}

/** What the checkpoint of one scope and mode holds. */
export interface PassRecord {
  readonly current: PassState | null;
  readonly last: CompletedPass | null;
}

export interface CompletedPass {
  readonly startedAt: number;
  readonly finishedAt: number;
  /** Where the next incremental pass starts, before its overlap; `null` where this pass proves nothing about that. */
  readonly watermark: number | null;
  readonly counts: PassCounts;
}

export function passKey(scope: Scope, name: PassMode | "verify"): string {
  return `${connectionKey(scope.provider, scope.connection)}pass:${scope.resource}:${name}`;
}

export function emptyCounts(): PassCounts {
  return {
    pages: 0,
    requests: 0,
    listed: 0,
    unchanged: 0,
    missing: 0,
    stale: 0,
    extra: 0,
    regressed: 0,
    deleted: 0,
    suppressedDeletes: 0,
  };
}

export function sumCounts(a: PassCounts, b: PassCounts): PassCounts {
  const sum = { ...a };
  for (const name of Object.keys(sum) as (keyof PassCounts)[]) sum[name] += b[name];
  return sum;
}

/**
 * Reads a checkpoint. One that cannot be read, or is of another shape, counts as none: the pass begins anew and lists
 * more than it would have to, where failing would end all passes of the scope.
 */
export function parsePassRecord(text: string | undefined): PassRecord {
  let record: unknown;
  try {
    record = JSON.parse(text ?? "null");
  } catch {
    record = null;
  }
  const { current, last } = (record ?? {}) as Partial<PassRecord>;
  return { current: isPassState(current) ? current : null, last: isCompletedPass(last) ? last : null };
}

function isPassState(state: unknown): state is PassState {
  const {
    handle,
    startedAt,
    startMark,
    pageSize,
    since,
    watermark,
    cursor,
    phase,
    sweptTo,
    unreadable,
    counts,
    cycle,
  } = (state ?? {}) as Partial<PassState>;
  return (
    [startedAt, startMark, pageSize, cycle?.steps, cycle?.limit].every(Number.isFinite) &&
    [since, watermark].every((at) => at === null || Number.isFinite(at)) &&
    [cursor, sweptTo, cycle?.anchor].every((at) => at === null || typeof at === "string") &&
    (handle === "changed" || handle === "all" || handle === "none") &&
    (phase === "list" || phase === "listed") &&
    typeof unreadable === "boolean" &&
    areCounts(counts)
  );
}

function isCompletedPass(pass: unknown): pass is CompletedPass {
  const { startedAt, finishedAt, watermark, counts } = (pass ?? {}) as Partial<CompletedPass>;
  const times = [startedAt, finishedAt, watermark ?? 0];
  return watermark !== undefined && times.every(Number.isFinite) && areCounts(counts);
}

function areCounts(counts: Partial<PassCounts> | undefined): boolean {
  return (Object.keys(emptyCounts()) as (keyof PassCounts)[]).every((name) =>
    Number.isFinite(counts?.[name]),
  );
}

/**
 * As what an interrupted pass may go on for somebody who asks for `asked`; `undefined`: it must begin anew, since what it
 * has listed by now was not treated so. One that was to hand over everything does so to its end, whoever goes on with it.
 */
export function goesOnAs({ handle }: PassState, asked: PassHandle): PassHandle | undefined {
  if (asked === "changed") return handle === "all" ? "all" : "changed";
  return handle === asked ? asked : undefined;
}

/** The reports of all connections of a route, added up. */
export function mergeReports(
  route: Route,
  mode: PassMode,
  reports: readonly ReconcileReport[],
  clock: Clock,
): ReconcileReport {
  const counts = emptyCounts();
  for (const name of Object.keys(counts) as (keyof PassCounts)[]) counts[name] = sumOf(reports, name);
  return {
    route: route.name,
    connection: "*",
    mode,
    ...counts,
    complete: reports.every((report) => report.complete),
    resumed: reports.some((report) => report.resumed),
    ...spanOf(reports, clock),
    checkpoint: { cursor: undefined, since: undefined },
  };
}

/** The same for `verify`. */
export function mergeDrift(route: Route, reports: readonly DriftReport[], clock: Clock): DriftReport {
  return {
    route: route.name,
    connection: "*",
    listed: sumOf(reports, "listed"),
    missing: sumOf(reports, "missing"),
    stale: sumOf(reports, "stale"),
    extra: sumOf(reports, "extra"),
    pending: sumOf(reports, "pending"),
    samples: reports.flatMap((report) => report.samples).slice(0, MOST_SAMPLES),
    ...spanOf(reports, clock),
  };
}

function sumOf<Name extends string>(reports: readonly Readonly<Record<Name, number>>[], name: Name): number {
  return reports.reduce((sum, report) => sum + report[name], 0);
}

type Span = Pick<DriftReport, "startedAt" | "finishedAt">;

function spanOf(reports: readonly Span[], clock: Clock): Span {
  const times = reports.flatMap(({ startedAt, finishedAt }) => [startedAt.getTime(), finishedAt.getTime()]);
  if (times.length === 0) times.push(clock.now()); // a provider without connections
  return { startedAt: new Date(Math.min(...times)), finishedAt: new Date(Math.max(...times)) };
}

/** What APIs answer to a cursor that they do not know any more. They answer it to other mistakes too. */
export function refusesCursor(thrown: unknown): boolean {
  return thrown instanceof HttpError && [400, 404, 410, 422].includes(thrown.status);
}

/** Finds that a list runs in a circle, remembering one cursor only (Brent's algorithm). */
export interface CycleState {
  anchor: string | null;
  steps: number;
  limit: number;
}

export function newCycle(): CycleState {
  return { anchor: null, steps: 0, limit: 1 };
}

/** Follows to the next cursor. @returns whether it was there before */
export function repeats(cycle: CycleState, cursor: string): boolean {
  if (cycle.anchor === cursor) return true;
  cycle.steps += 1;
  if (cycle.steps >= cycle.limit) {
    cycle.anchor = cursor;
    cycle.steps = 0;
    cycle.limit *= 2;
  }
  return false;
}
