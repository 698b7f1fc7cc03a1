/**
 * The life of an engine: opening the store, working in shifts, starting and stopping what runs by itself.
 *
 * @module
 */

import { sleep } from "./clock.ts";
import type { ConnectionRegistry } from "./connections.ts";
import { stopped } from "./errors.ts";
import type { Scope } from "./event.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Scheduler, type Schedule, type ScheduledRun } from "./scheduler.ts";
import type { PassMode } from "./pass.ts";
import type { Poller } from "./poller.ts";
import type { Route, RouteRegistry } from "./registry.ts";
import { asError } from "./retry.ts";
import { Shift, type ShiftOptions } from "./shift.ts";
import { ShiftShare } from "./shift-share.ts";
import type { StoreEnvironment } from "./store.ts";
import type { SourceRunner } from "./source-runner.ts";
import { Ticks } from "./ticks.ts";
import { Worker } from "./worker.ts";

export interface LifecycleOptions extends Omit<ShiftOptions, "onRedue" | "onPause"> {
  readonly connections: ConnectionRegistry;
  readonly environment: StoreEnvironment;
  readonly routes: RouteRegistry;
  readonly sources: SourceRunner;
  readonly pollers: readonly Poller[];
  readonly schedules: () => readonly Schedule[];
  /** Called when the engine stops, after the last work has ended. */
  readonly onStopped: () => Promise<void>;
}

export interface StartOptions {
  /** Claim and handle dirty objects. @default true */
  readonly work?: boolean | undefined;
  /** Run the sources. @default true */
  readonly sources?: boolean | undefined;
  /** Run the schedules. @default true */
  readonly schedules?: boolean | undefined;
}

const STOP_TIMEOUT_MS = 10_000;
/** Between two tries to work again after another process took the store over, as a part of the lease. */
const REGAIN = 0.5;

export class Lifecycle {
  readonly #options: LifecycleOptions;
  #opened: Promise<void> | undefined;
  #isOpen = false;
  /** What `start` began. */
  #work: { readonly shift: Shift; readonly worker: Worker } | undefined;
  /** The worker of a tick under way. */
  #ticking: Worker | undefined;
  #scheduler: Scheduler | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  readonly #stop = new AbortController();
  readonly #shifts = new ShiftShare(() => this.#beginShift());
  readonly #housekeeping: Housekeeping;
  readonly #ticks: Ticks;
  #unsubscribe = () => {};

  constructor(options: LifecycleOptions) {
    this.#options = options;
    const { signal } = this.#stop;
    this.#housekeeping = new Housekeeping({ ...options, signal });
    this.#ticks = new Ticks({
      ...options,
      signal,
      housekeeping: this.#housekeeping,
      startedIn: (shift) => (this.#work?.shift === shift ? this.#work.worker : undefined),
      makeWorker: (shift) => this.#makeWorker(shift),
      makeScheduler: () => this.#makeScheduler(),
      inShift: (run) => this.inShift(run),
      onWorker: (worker) => (this.#ticking = worker),
    });
  }

  get accepting(): boolean {
    return this.#stopping === undefined;
  }

  /** Whether `start` was called, for whatever part, and did not fail. */
  get begun(): boolean {
    return this.#starting !== undefined;
  }

  /** Whether `start` made it work; a tick is none. */
  get started(): boolean {
    return this.#work !== undefined;
  }

  /** Whom new work wakes. A tick's is about to end. */
  get worker(): Worker | undefined {
    return this.#work?.worker ?? this.#ticking;
  }

  /** Aborts when the engine stops. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Opens the store, once; again after a failure. `undefined`: it is open. */
  ready(): Promise<void> | undefined {
    if (this.#stopping !== undefined) return Promise.reject(stopped());
    if (this.#isOpen) return undefined;
    if (this.#opened === undefined) {
      const opened = this.#open();
      this.#opened = opened;
      opened.then(
        () => (this.#isOpen = true),
        () => {
          if (this.#opened === opened) this.#opened = undefined;
        },
      );
    }
    return this.#opened;
  }

  async #open(): Promise<void> {
    const { environment, redactor, store } = this.#options;
    try {
      await store.open(environment);
    } catch (thrown) {
      throw redactor.error(asError(thrown), {}); // drivers quote what they connect by
    }
  }

  /** Runs with the right to work on the store, which all callers share. */
  async inShift<T>(run: (shift: Shift) => Promise<T>): Promise<T> {
    const shift = await this.#join();
    try {
      return await run(shift);
    } finally {
      await this.#shifts.leave(shift);
    }
  }

  start(options: StartOptions = {}): Promise<void> {
    if (this.#stopping !== undefined) return Promise.reject(stopped());
    this.#starting ??= this.#start(options).catch((error: unknown) => {
      this.#starting = undefined;
      throw error;
    });
    return this.#starting;
  }

  async #start({ work = true, sources = true, schedules = true }: StartOptions): Promise<void> {
    await this.ready();
    if (work) await this.#beginWork();
    if (schedules) this.#beginSchedules();
    if (sources) this.#options.sources.start();
  }

  async #beginWork(): Promise<void> {
    const shift = await this.#join();
    if (this.#stop.signal.aborted) {
      await this.#shifts.leave(shift);
      throw stopped(); // `stop` may have looked for work to end already
    }
    const worker = this.#makeWorker(shift);
    this.#work = { shift, worker };
    worker.start();
    // Work that other processes bring; without it, the worker would find it at its next poll.
    this.#unsubscribe = this.#options.store.subscribe?.(() => worker.wake()) ?? (() => {});
    shift.ended.signal.addEventListener("abort", () => void this.#regain(), { once: true });
    this.#housekeeping.begin();
  }

  /** Stops what `#beginWork` began, once. */
  async #endWork(): Promise<void> {
    const work = this.#work;
    if (work === undefined) return;
    this.#unsubscribe();
    await work.worker.stop();
    if (this.#work !== work) return; // another caller was first
    this.#work = undefined;
    await this.#shifts.leave(work.shift);
  }

  #beginSchedules(): void {
    this.#scheduler = this.#makeScheduler();
    this.#scheduler.start();
  }

  #makeScheduler(): Scheduler {
    const { clock, hooks, random, schedules, store } = this.#options;
    return new Scheduler({
      store,
      clock,
      hooks,
      random,
      schedules: schedules(),
      connectionsOf: (provider) => this.connectionsOf(provider),
      runPass: (route, scope, mode, run) => this.#scheduledPass(route, scope, mode, run),
    });
  }

  #scheduledPass(
    route: Route,
    scope: Scope,
    mode: PassMode,
    { signal, isDue }: ScheduledRun,
  ): Promise<boolean> {
    return this.inShift((shift) => {
      const either = AbortSignal.any([signal, shift.ended.signal]);
      return shift.reconciler.reconcileIfDue(
        route,
        scope,
        { mode, handle: "changed", signal: either },
        isDue,
      );
    });
  }

  /** All connections of a provider: the user's list, and those that the store has heard of. */
  async connectionsOf(provider: string): Promise<string[]> {
    const { connections, store } = this.#options;
    return [...new Set([...(await connections.list(provider)), ...(await store.connections(provider))])];
  }

  #makeWorker(shift: Shift): Worker {
    const { apis, clock, hooks, limits, routes, store } = this.#options;
    const { endings, fetchSlots, hintedPasses, runner, session } = shift;
    const signal = AbortSignal.any([this.#stop.signal, shift.ended.signal]);
    return new Worker({
      routes: routes.handled(),
      store,
      session,
      runner,
      endings,
      fetchSlots,
      apis,
      clock,
      hooks,
      limits,
      runPass: (route, claim) => hintedPasses.run(route, claim, signal),
      onLost: (error) => shift.lost(error),
    });
  }

  /** Another process took over. Works again as soon as the store can be had, so as never to live on idle. */
  async #regain(): Promise<void> {
    const { clock, hooks, limits } = this.#options;
    await this.#endWork();
    while (this.#stopping === undefined) {
      try {
        await sleep(clock, limits.leaseMs * REGAIN, this.#stop.signal);
        await this.#beginWork();
        return;
      } catch (thrown) {
        if (this.#stop.signal.aborted) return;
        hooks.emit("error", { error: asError(thrown), during: "getting the store back" });
      }
    }
  }

  /** One bounded slice of work: see {@link Ticks.run}. Opening the store is not part of its time. */
  tick(timeoutMs: number, idle: () => Promise<boolean>): Promise<void> {
    return this.#ticks.run(timeoutMs, idle);
  }

  /** Stops intake, claims no more, waits for what is in flight, and at the deadline aborts it. Idempotent. */
  stop(timeoutMs = STOP_TIMEOUT_MS): Promise<void> {
    this.#stopping ??= this.#shutDown(timeoutMs);
    return this.#stopping;
  }

  async #shutDown(timeoutMs: number): Promise<void> {
    const { apis, clock, connections, hooks, sources, store } = this.#options;
    const reason = stopped();
    this.#stop.abort(reason);
    this.#housekeeping.stop();
    await this.#starting?.catch(() => {});
    const shift = await this.#shifts.current();
    const late = new AbortController();
    const deadline = sleep(clock, timeoutMs, late.signal).then(
      () => shift?.abort(reason),
      () => {},
    );
    // A source that does not heed its signal must not keep the process: after the deadline nobody waits for it.
    await Promise.race([sources.stop(reason), deadline]);
    await Promise.all([this.#scheduler?.stop(reason), this.#endWork()]);
    connections.close(reason);
    // Calls of `reconcile`, `verify` and `tick` leave by themselves: their signal has aborted.
    await this.#shifts.allLeft();
    await Promise.race([this.#options.onStopped(), deadline]);
    late.abort();
    await apis.close();
    if (this.#opened === undefined) return;
    await this.#opened
      .then(() => store.close())
      .catch((error: unknown) => {
        hooks.emit("error", { error: asError(error), during: "closing the store" });
      });
  }

  async #join(): Promise<Shift> {
    await this.ready();
    if (this.#stop.signal.aborted) throw stopped(); // while the store was opened
    return this.#shifts.join();
  }

  #beginShift(): Promise<Shift> {
    return Shift.begin(
      {
        ...this.#options,
        onRedue: (route, due) => this.worker?.redue(route.name, due),
        onPause: (connection) => this.worker?.holdBack(connection),
      },
      this.#stop.signal,
    );
  }
}
