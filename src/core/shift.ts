/**
 * A shift: the time in which this process has the right to work on the store, with all that works in it. `start`,
 * `reconcile`, `verify` and `tick` share one; it ends when the last of them leaves, or when another process took over.
 *
 * @module
 */

import type { ApiClients } from "./api.ts";
import { Deadlines } from "./deadline.ts";
import { Endings, type EndingsOptions } from "./ending.ts";
import { TrueupError } from "./errors.ts";
import { Fetcher } from "./fetcher.ts";
import { HintedPasses } from "./hinted-pass.ts";
import { Reconciler } from "./reconciler.ts";
import { asError, codeOf } from "./retry.ts";
import { ScopeLocks } from "./scope-lock.ts";
import { Semaphore } from "./semaphore.ts";
import { createSettle } from "./settler.ts";
import { ShrinkGuard } from "./shrink-guard.ts";
import type { Store, WorkSession } from "./store.ts";
import { TaskRunner } from "./task.ts";
import { Verifier } from "./verifier.ts";

export interface ShiftOptions extends Omit<EndingsOptions, "settle"> {
  readonly store: Store<unknown>;
  readonly apis: ApiClients;
}

/** Beats in a lease: a holder may miss two before anybody takes over. */
const BEATS_PER_LEASE = 3;

export class Shift {
  readonly session: WorkSession<unknown>;
  readonly endings: Endings;
  readonly runner: TaskRunner;
  readonly reconciler: Reconciler;
  readonly hintedPasses: HintedPasses;
  readonly verifier: Verifier;
  readonly fetchSlots: Semaphore;
  readonly deadlines: Deadlines;
  /** Aborts when the shift is over before its time: taken over, or out of patience while stopping. */
  readonly ended = new AbortController();
  /** How many share it; the last to leave ends it. */
  holders = 0;
  readonly #options: ShiftOptions;
  #over = false;
  #cancelBeat = () => {};
  /** Whether the store failed, and nobody was told that it answers again; and whether it did since the last heartbeat. */
  #failing = { told: false, lately: false };
  #unhear = () => {};

  private constructor(options: ShiftOptions, session: WorkSession<unknown>) {
    const { clock, hooks, limits, store } = options;
    this.#options = options;
    this.session = session;
    this.deadlines = new Deadlines(clock);
    this.fetchSlots = new Semaphore(limits.concurrency);
    const fetcher = new Fetcher({
      ...options,
      deadlines: this.deadlines,
      slots: this.fetchSlots,
      fetchTimeoutMs: limits.fetchTimeoutMs,
    });
    this.endings = new Endings({
      ...options,
      settle: createSettle(session, clock, hooks, this.ended.signal),
    });
    this.runner = new TaskRunner({
      ...options,
      session,
      fetcher,
      endings: this.endings,
      deadlines: this.deadlines,
      guard: new ShrinkGuard(),
    });
    const locks = new ScopeLocks({ store, clock, ttlMs: limits.leaseMs });
    const parts = { ...options, session, fetcher, runner: this.runner, locks, deadlines: this.deadlines };
    this.reconciler = new Reconciler(parts);
    this.hintedPasses = new HintedPasses({
      clock,
      endings: this.endings,
      reconciler: this.reconciler,
      concurrency: limits.concurrency,
    });
    this.verifier = new Verifier(parts);
  }

  /** @throws TrueupError `STORE_IN_USE`, `STORE_FAILED` */
  static async begin(options: ShiftOptions, signal: AbortSignal): Promise<Shift> {
    const session = await options.store.work({ leaseMs: options.limits.leaseMs, signal });
    const shift = new Shift(options, session);
    shift.#unhear = options.hooks.on("error", ({ error }) => {
      if (codeOf(error) === "STORE_FAILED") shift.#failing = { told: true, lately: true };
    });
    shift.#beatLater();
    return shift;
  }

  /** Aborts all that runs. Fetches and handlers end with this reason, and their claims are not settled as failures. */
  abort(reason: Error): void {
    this.deadlines.abort(reason);
    this.ended.abort(reason);
  }

  /** Whether nobody holds it any more. */
  get over(): boolean {
    return this.#over;
  }

  async end(): Promise<void> {
    this.#over = true;
    this.#cancelBeat();
    this.#unhear();
    try {
      await this.session.release();
    } catch (thrown) {
      // The leases end by themselves; nothing is lost but time.
      this.#options.hooks.emit("error", { error: asError(thrown), during: "releasing the store" });
    }
  }

  #beatLater(): void {
    const { clock, limits } = this.#options;
    this.#cancelBeat = clock.setTimer(() => void this.#beat(), limits.leaseMs / BEATS_PER_LEASE);
  }

  async #beat(): Promise<void> {
    try {
      const lives = await this.session.heartbeat();
      if (this.#over) return; // its answer was under way when the right to work was given up
      if (!lives) {
        this.lost(new TrueupError("STORE_LOST", "another process took over this store"));
        return;
      }
      this.#answered();
    } catch (thrown) {
      if (this.#over) return;
      this.#options.hooks.emit("error", { error: asError(thrown), during: "the heartbeat" });
    }
    if (!this.ended.signal.aborted) this.#beatLater();
  }

  /** Who read that the store failed reads that it does no more, once it has gone well from one heartbeat to the next. */
  #answered(): void {
    const { lately, told } = this.#failing;
    this.#failing = { told: told && lately, lately: false };
    if (!told || lately) return;
    this.#options.hooks.emit("warning", { code: "STORE_ANSWERS", message: "the store answers again" });
  }

  /** Another process works now: this one must write nothing more. */
  lost(error: Error): void {
    if (this.ended.signal.aborted) return;
    this.#options.hooks.emit("error", { error, during: "working" });
    this.abort(error);
  }
}
