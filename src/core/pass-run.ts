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
import { ListWarnings } from "./list-warnings.ts";
import {
  emptyCounts,
  refusesCursor,
  sumCounts,
  type PassCounts,
  type PassHandle,
  type PassMode,
  type PassState,
  type ReconcileReport,
} from "./pass.ts";
import { completedBefore, PassCheckpoint } from "./pass-checkpoint.ts";
import type { Route } from "./registry.ts";
import { wasUnanswered } from "./retry.ts";
import { recordOnly, repairPage, type RepairContext } from "./repair.ts";
import type { Lock, Store, WorkSession } from "./store.ts";
import type { TaskRunner } from "./task.ts";

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
  readonly #checkpoint: PassCheckpoint;
  readonly #warnings: ListWarnings;
  readonly #inWork = new Set<Promise<void>>();
  #revived = false;

  constructor(parts: PassParts, { route, scope, request, pass, lock, signal }: PassUnderLock) {
    this.#parts = parts;
    this.#route = route;
    this.#scope = scope;
    this.#request = request;
    this.#pass = pass;
    this.#lock = lock;
    this.#signal = signal;
    const { mode } = pass;
    const { handle, pageSize, since } = request;
    this.#checkpoint = new PassCheckpoint({
      ...parts,
      scope,
      mode,
      resource: route.resource,
      handle,
      since,
      pageSize,
      lock,
    });
    this.#warnings = new ListWarnings(route, scope, parts.hooks);
  }

  async run(): Promise<ReconcileReport> {
    const { clock, hooks } = this.#parts;
    const began = clock.monotonic();
    let state = await this.#checkpoint.begin();
    this.#request.onBegun?.(state.startMark);
    const backfill = state.handle === "all" || !(await completedBefore(this.#parts.store, this.#scope));
    hooks.emit("pass.started", { ...this.#pass, resumed: this.#checkpoint.resumed, backfill });
    let complete: boolean;
    try {
      complete = await this.#toTheEnd(state);
    } catch (thrown) {
      if (!this.#checkpoint.resumed || !refusesCursor(thrown)) throw thrown;
      // A cursor does not live for ever. Nothing is lost: the pass begins anew, and says so.
      hooks.emit("warning", {
        code: "CURSOR_EXPIRED",
        message: `the list of ${this.#route.name} refused the cursor of an interrupted pass; it begins anew`,
        scope: this.#scope,
      });
      state = await this.#checkpoint.anew(state.handle);
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
    try {
      if (state.phase === "list") await this.#list(state);
      await this.#settled();
      if (this.#pass.mode === "full")
        await sweepDeletes(this.#repairContext(state, state.counts, () => state));
    } catch (thrown) {
      await this.#settled();
      // A list that runs in a circle is read from its start the next time, and not from within the circle.
      if (thrown instanceof TrueupError && thrown.code === "CURSOR_REPEATED")
        await this.#checkpoint.anew().catch(() => {});
      // What was counted since the last page is kept; a lost lock must not write, and neither need a failed store.
      else await this.#checkpoint.save(state).catch(() => {});
      if (this.#request.signal.aborted) return false;
      throw thrown;
    }
    await this.#settled();
    await this.#checkpoint.complete(state);
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
    this.#warnings.page(state.since, page);
    const tracked: Promise<void> = settled.finally(() => this.#inWork.delete(tracked));
    this.#inWork.add(tracked);
    hooks.emit("pass.page", { ...this.#pass, page: state.counts.pages, listed: page.rows.length, differing });
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
      pass: this.#checkpoint.key,
      lock: this.#lock,
      signal: this.#signal,
      state,
      counts,
      remembers: this.#pass.mode === "full",
      indexOnly: state.handle === "none",
      checkpoint: () => this.#checkpoint.text(next()),
      before: () => this.#checkpoint.text(state),
    };
  }

  async #settled(): Promise<void> {
    while (this.#inWork.size > 0) await Promise.allSettled(this.#inWork);
  }

  #report(state: PassState, complete: boolean): ReconcileReport {
    const { clock } = this.#parts;
    const { counts } = state;
    const { watermark } = this.#checkpoint;
    return {
      route: this.#route.name,
      connection: this.#scope.connection,
      mode: this.#pass.mode,
      complete,
      resumed: this.#checkpoint.resumed,
      ...counts,
      startedAt: new Date(state.startedAt),
      finishedAt: new Date(clock.now()),
      checkpoint: {
        cursor: complete ? undefined : (state.cursor ?? undefined),
        since: watermark === null ? undefined : new Date(watermark),
      },
    };
  }
}
