/**
 * One run of a pass: page after page is listed, compared and repaired, and in a full pass what the list lacked is swept
 * at the end. How far it got is in its checkpoint, from which another run goes on.
 *
 * @module
 */

import type { ApiClients } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Deadlines } from "./deadline.ts";
import { sweepDeletes } from "./delete-sweep.ts";
import { TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import type { Fetcher } from "./fetcher.ts";
import type { Hooks, PassRef } from "./hooks.ts";
import { listPages, type ListedPage } from "./lister.ts";
import type { Limits } from "./options.ts";
import {
  emptyCounts,
  goesOnAs,
  newCycle,
  parsePassRecord,
  passKey,
  refusesCursor,
  sumCounts,
  type CompletedPass,
  type PassCounts,
  type PassHandle,
  type PassMode,
  type PassRecord,
  type PassState,
  type ReconcileReport,
} from "./pass.ts";
import type { Route } from "./registry.ts";
import { wasUnanswered } from "./retry.ts";
import { recordOnly, repairPage, type RepairContext } from "./repair.ts";
import type { Lock, Store, WorkSession } from "./store.ts";
import type { TaskRunner } from "./task.ts";
import { compareEncoded, encodeVersion } from "./version.ts";

/** What passes work with. */
export interface PassParts {
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly runner: TaskRunner;
  readonly fetcher: Fetcher;
  readonly apis: ApiClients;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly limits: Limits;
}

export interface PassRequest {
  readonly mode: PassMode;
  /** Instead of where the last pass ended. */
  readonly since?: Date | undefined;
  readonly pageSize?: number | undefined;
  /** `"changed"`: what differs. `"all"`: everything listed. `"none"`: nothing; only the index learns. */
  readonly handle: PassHandle;
  /** Ends the pass early, with `complete: false`. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((report: ReconcileReport) => void) | undefined;
  /** Hears the store's counter as it was when the pass began: in this run, or in the one that it goes on from. */
  readonly onBegun?: ((startMark: number) => void) | undefined;
}

/** A pass that may run now. */
export interface PassUnderLock {
  readonly route: Route;
  readonly scope: Scope;
  readonly request: PassRequest;
  readonly pass: PassRef;
  readonly lock: Lock;
  /** Aborts with the request's signal, and when the lock is lost. */
  readonly signal: AbortSignal;
}

/** Dead letters that are looked at together. */
const DEAD_STEP = 100;

/** A long page is recorded in slices of so many rows, so that an API without paging costs neither memory nor long stalls. */
const SLICE = 1_000;

/** Slices in work behind the one that is being compared. */
const SLICES_IN_WORK = 2;

/** A part of a page. The cursor moves on with the last one only. */
interface PageSlice extends ListedPage {
  readonly last: boolean;
}

function slicesOf(page: ListedPage): PageSlice[] {
  const longest = Math.max(page.rows.length, page.deleted.length, 1);
  return Array.from({ length: Math.ceil(longest / SLICE) }, (_, i) => {
    const [from, to] = [i * SLICE, (i + 1) * SLICE];
    const rows = page.rows.slice(from, to);
    const deleted = page.deleted.slice(from, to);
    return { ...page, rows, deleted, unreadable: i === 0 ? page.unreadable : [], last: to >= longest };
  });
}

/** One run of a pass under its lock. */
export class PassRun {
  readonly #parts: PassParts;
  readonly #route: Route;
  readonly #scope: Scope;
  readonly #request: PassRequest;
  readonly #pass: PassRef;
  readonly #lock: Lock;
  readonly #signal: AbortSignal;
  readonly #inWork = new Set<Promise<void>>();
  #last: CompletedPass | null = null;
  #resumed = false;
  #filterWarned = false;
  #revived = false;

  constructor(parts: PassParts, { route, scope, request, pass, lock, signal }: PassUnderLock) {
    this.#parts = parts;
    this.#route = route;
    this.#scope = scope;
    this.#request = request;
    this.#pass = pass;
    this.#lock = lock;
    this.#signal = signal;
  }

  async run(): Promise<ReconcileReport> {
    const { clock, hooks } = this.#parts;
    const began = clock.monotonic();
    let state = await this.#begin();
    this.#request.onBegun?.(state.startMark);
    const backfill = state.handle === "all" || !(await completedBefore(this.#parts.store, this.#scope));
    hooks.emit("pass.started", { ...this.#pass, resumed: this.#resumed, backfill });
    let complete: boolean;
    try {
      complete = await this.#toTheEnd(state);
    } catch (thrown) {
      if (!this.#resumed || !refusesCursor(thrown)) throw thrown;
      // A cursor does not live for ever. Nothing is lost: the pass begins anew, and says so.
      hooks.emit("warning", {
        code: "CURSOR_EXPIRED",
        message: `the list of ${this.#route.name} refused the cursor of an interrupted pass; it begins anew`,
        scope: this.#scope,
      });
      state = await this.#anew(state.handle);
      this.#request.onBegun?.(state.startMark);
      complete = await this.#toTheEnd(state);
    }
    const report = this.#report(state, complete);
    hooks.emit("pass.finished", {
      ...this.#pass,
      complete,
      listed: report.listed,
      repaired: report.missing + report.stale + report.extra,
      deleted: report.deleted,
      durationMs: clock.monotonic() - began,
    });
    return report;
  }

  /** Lists, repairs, sweeps. @returns false when the signal ended it early */
  async #toTheEnd(state: PassState): Promise<boolean> {
    const { store } = this.#parts;
    try {
      if (state.phase === "list") await this.#list(state);
      await this.#settled();
      if (this.#pass.mode === "full")
        await sweepDeletes(this.#repairContext(state, state.counts, () => state));
    } catch (thrown) {
      await this.#settled();
      // A list that runs in a circle is read from its start the next time, and not from within the circle.
      if (thrown instanceof TrueupError && thrown.code === "CURSOR_REPEATED")
        await this.#anew().catch(() => {});
      // What was counted since the last page is kept; a lost lock must not write, and neither need a failed store.
      else await this.#saveProgress(state).catch(() => {});
      if (this.#request.signal.aborted) return false;
      throw thrown;
    }
    await this.#settled();
    const completed: CompletedPass = {
      startedAt: state.startedAt,
      finishedAt: this.#parts.clock.now(),
      watermark: (await this.#provesWatermark(state)) ? state.watermark : (this.#last?.watermark ?? null),
      counts: state.counts,
    };
    this.#last = completed;
    const record: PassRecord = { current: null, last: completed };
    await store.endPass(this.#scope, this.#key, this.#lock, JSON.stringify(record));
    return true;
  }

  async #list(state: PassState): Promise<void> {
    const { apis, deadlines, limits, store } = this.#parts;
    const pages = listPages(
      {
        scope: this.#scope,
        resource: this.#route.resource,
        since: state.since,
        limit: state.pageSize,
        cursor: state.cursor,
        cycle: state.cycle,
        mark: () => store.counter(this.#scope),
        onRequest: () => (state.counts.requests += 1),
        signal: this.#signal,
      },
      { apis, deadlines, fetchTimeoutMs: limits.fetchTimeoutMs },
    );
    for await (const page of pages) {
      if (!this.#revived) await this.#reviveUnanswered();
      for (const slice of slicesOf(page)) await this.#slice(state, slice);
      this.#request.onProgress?.(this.#report(state, false));
      if (page.next !== null) this.#signal.throwIfAborted();
    }
  }

  /**
   * What died because the API did not answer gets another life, now that it does (I5). Its events were about states that
   * an incremental list may not show any more.
   */
  async #reviveUnanswered(): Promise<void> {
    this.#revived = true;
    const { store } = this.#parts;
    let cursor: string | undefined;
    do {
      const { items, next } = await store.listDead(this.#scope, { cursor, limit: DEAD_STEP });
      const ids = items.filter(({ error }) => wasUnanswered(error.code)).map(({ ref }) => ref.id);
      if (ids.length > 0) await store.retryDead({ ...this.#scope, ids });
      cursor = next;
    } while (cursor !== undefined);
  }

  /** The state moves on only with what is recorded: a page that fails is read again (I6). */
  async #slice(state: PassState, page: PageSlice): Promise<void> {
    const { clock, hooks } = this.#parts;
    while (this.#inWork.size >= SLICES_IN_WORK) await Promise.race(this.#inWork);
    const counts = {
      ...emptyCounts(),
      pages: page.last ? 1 : 0,
      listed: page.rows.length + page.unreadable.length,
    };
    const after: Omit<PassState, "counts"> = {
      ...state,
      watermark: state.watermark ?? page.asOf ?? clock.now(),
      cursor: page.last ? page.next : state.cursor,
      cycle: page.last ? page.cycle : state.cycle,
      phase: page.last && page.next === null ? "listed" : "list",
      unreadable: state.unreadable || page.unreadable.length > 0,
    };
    const repair = state.handle === "none" ? recordOnly : repairPage;
    const context = this.#repairContext(state, counts, () => ({
      ...after,
      counts: sumCounts(state.counts, counts),
    }));
    const { differing, settled } = await repair(context, page, state.handle === "all");
    // The tasks count into the state's own counts meanwhile, which therefore stay one object.
    Object.assign(state, after);
    Object.assign(state.counts, sumCounts(state.counts, counts));
    this.#warnOfRows(state, page);
    const tracked: Promise<void> = settled.finally(() => this.#inWork.delete(tracked));
    this.#inWork.add(tracked);
    hooks.emit("pass.page", { ...this.#pass, page: state.counts.pages, listed: page.rows.length, differing });
  }

  #warnOfRows(state: PassState, page: ListedPage): void {
    const { hooks } = this.#parts;
    const { name, resource } = this.#route;
    if (page.unreadable.length > 0) {
      hooks.emit("warning", {
        code: "LIST_INVALID",
        message: `${page.unreadable.length} rows of ${name} have no id that can be read: ${page.unreadable[0]?.message}`,
        scope: this.#scope,
      });
    }
    if (this.#filterWarned || state.since === null || page.rows.length === 0) return;
    const since = encodeVersion(new Date(state.since));
    const before = page.rows.every((row) => {
      const version =
        row.kind === "object" ? row.evidence.version : row.kind === "summary" ? row.version : null;
      return (
        (compareEncoded(
          version,
          since,
          resource.compareVersions === undefined ? undefined : () => undefined,
        ) ?? 0) < 0
      );
    });
    if (!before) return;
    this.#filterWarned = true;
    hooks.emit("warning", {
      code: "LIST_FILTER_IGNORED",
      message: `the list of ${name} returned only rows from before \`since\`: the API seems to ignore the filter`,
      scope: this.#scope,
    });
  }

  /** Where the pass goes on, or a new one. */
  async #begin(): Promise<PassState> {
    const record = parsePassRecord(await this.#parts.store.getCheckpoint(this.#key));
    this.#last = record.last;
    const { since, pageSize } = this.#request;
    const { current } = record;
    const handle = current === null ? undefined : goesOnAs(current, this.#request.handle);
    if (current === null || handle === undefined || since !== undefined) return this.#anew();
    if (pageSize !== undefined && pageSize !== current.pageSize) return this.#anew();
    this.#resumed = true;
    return { ...current, handle };
  }

  async #anew(handle = this.#request.handle): Promise<PassState> {
    const { clock, store } = this.#parts;
    this.#resumed = false;
    // What an earlier pass has seen is not what this one sees.
    await store.endPass(
      this.#scope,
      this.#key,
      this.#lock,
      JSON.stringify({ current: null, last: this.#last }),
    );
    return {
      handle,
      startedAt: clock.now(),
      startMark: await store.counter(this.#scope),
      since:
        this.#pass.mode === "full" ? null : (this.#request.since?.getTime() ?? (await this.#sinceLastPass())),
      pageSize: this.#request.pageSize ?? this.#route.resource.pageSize,
      watermark: null,
      cursor: null,
      phase: "list",
      sweptTo: null,
      unreadable: false,
      counts: emptyCounts(),
      cycle: newCycle(),
    };
  }

  /** The watermark of the last complete pass of either mode, less the overlap. */
  async #sinceLastPass(): Promise<number | null> {
    const watermark = await lastWatermark(this.#parts.store, this.#scope);
    return watermark === undefined ? null : watermark - this.#route.resource.overlapMs;
  }

  /** A pass that was told to begin later than the last one ended leaves a gap, and must not hide it. */
  async #provesWatermark({ since }: PassState): Promise<boolean> {
    if (since === null) return true;
    const last = await lastWatermark(this.#parts.store, this.#scope);
    return last !== undefined && since <= last;
  }

  #repairContext(state: PassState, counts: PassCounts, next: () => PassState): RepairContext {
    const { fetcher, hooks, runner, session, store } = this.#parts;
    return {
      fetcher,
      hooks,
      runner,
      session,
      store,
      route: this.#route,
      scope: this.#scope,
      pass: this.#key,
      lock: this.#lock,
      signal: this.#signal,
      state,
      counts,
      remembers: this.#pass.mode === "full",
      indexOnly: state.handle === "none",
      checkpoint: () => JSON.stringify({ current: next(), last: this.#last } satisfies PassRecord),
    };
  }

  async #saveProgress(state: PassState): Promise<void> {
    const { session } = this.#parts;
    await session.recordPage({
      scope: this.#scope,
      pass: this.#key,
      lock: this.#lock,
      mark: state.startMark,
      seen: [],
      differing: [],
      lease: false,
      checkpoint: JSON.stringify({ current: state, last: this.#last } satisfies PassRecord),
    });
  }

  async #settled(): Promise<void> {
    while (this.#inWork.size > 0) await Promise.allSettled(this.#inWork);
  }

  #report(state: PassState, complete: boolean): ReconcileReport {
    const { clock } = this.#parts;
    const { counts } = state;
    return {
      route: this.#route.name,
      connection: this.#scope.connection,
      mode: this.#pass.mode,
      complete,
      resumed: this.#resumed,
      ...counts,
      startedAt: new Date(state.startedAt),
      finishedAt: new Date(clock.now()),
      checkpoint: {
        cursor: complete ? undefined : (state.cursor ?? undefined),
        since: this.#last?.watermark == null ? undefined : new Date(this.#last.watermark),
      },
    };
  }

  get #key(): string {
    return passKey(this.#scope, this.#pass.mode);
  }
}

/** How far a complete pass of any mode has got, in milliseconds since the epoch by the provider's clock. */
export async function lastWatermark(store: Store<unknown>, scope: Scope): Promise<number | undefined> {
  const records = await passRecords(store, scope);
  const watermarks = records.flatMap((record) =>
    record.last?.watermark == null ? [] : [record.last.watermark],
  );
  return watermarks.length === 0 ? undefined : Math.max(...watermarks);
}

/** Whether any pass over the scope was complete, of either mode. */
async function completedBefore(store: Store<unknown>, scope: Scope): Promise<boolean> {
  return (await passRecords(store, scope)).some((record) => record.last !== null);
}

function passRecords(store: Store<unknown>, scope: Scope): Promise<PassRecord[]> {
  return Promise.all(
    (["incremental", "full"] as const).map(async (mode) =>
      parsePassRecord(await store.getCheckpoint(passKey(scope, mode))),
    ),
  );
}
