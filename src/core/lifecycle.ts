/**
 * The life of an engine: opening the store, working in shifts, starting and stopping what runs by itself.
 *
 * @module
 */

import { sleep } from "./clock.ts";
import type { ConnectionRegistry } from "./connections.ts";
import { TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import { Scheduler, type Schedule, type ScheduledRun } from "./scheduler.ts";
import type { PassMode } from "./pass.ts";
import type { Poller } from "./poller.ts";
import type { Route, RouteRegistry } from "./registry.ts";
import { asError } from "./retry.ts";
import { Shift, type ShiftOptions } from "./shift.ts";
import type { Claim, StoreEnvironment } from "./store.ts";
import type { SourceRunner } from "./source-runner.ts";
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
const SWEEP_EVERY_MS = 60_000;
/** Between two tries to work again after another process took the store over, as a part of the lease. */
const REGAIN = 0.5;

export class Lifecycle {
  readonly #options: LifecycleOptions;
  #opened: Promise<void> | undefined;
  #isOpen = false;
  #shift: Promise<Shift> | undefined;
  #ending: Promise<void> = Promise.resolve();
  #holders = 0;
  #allLeft: (() => void) | undefined;
  /** What `start` began. */
  #work: { readonly shift: Shift; readonly worker: Worker } | undefined;
  /** Whom new work wakes: the worker of `start`, or of a tick. */
  #worker: Worker | undefined;
  #tick: Promise<void> | undefined;
  #nextTick: Promise<void> | undefined;
  #scheduler: Scheduler | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  readonly #stop = new AbortController();
  #cancelSweep = () => {};
  #unsubscribe = () => {};

  constructor(options: LifecycleOptions) {
    this.#options = options;
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

  get worker(): Worker | undefined {
    return this.#worker;
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
      await this.#leave(shift);
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
    const worker = this.#makeWorker(shift);
    this.#work = { shift, worker };
    this.#worker = worker;
    worker.start();
    // Work that other processes bring; without it, the worker would find it at its next poll.
    this.#unsubscribe = this.#options.store.subscribe?.(() => worker.wake()) ?? (() => {});
    shift.ended.signal.addEventListener("abort", () => void this.#regain(), { once: true });
    this.#sweepLater();
  }

  /** Stops what `#beginWork` began, once. */
  async #endWork(): Promise<void> {
    const work = this.#work;
    if (work === undefined) return;
    this.#unsubscribe();
    await work.worker.stop();
    if (this.#work !== work) return; // another caller was first
    this.#work = undefined;
    this.#worker = undefined;
    await this.#leave(work.shift);
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
    const { endings, fetchSlots, runner, session } = shift;
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
      runPass: (route, claim) => this.#hintedPass(shift, route, claim),
      onLost: (error) => shift.lost(error),
    });
  }

  /** An event said that something of a resource changed: a pass finds out what. */
  async #hintedPass(shift: Shift, route: Route, claim: Claim): Promise<void> {
    if (shift.endings.isWornOut(claim)) {
      await shift.endings.giveUp(route, claim);
      return;
    }
    try {
      if (route.resource.list !== undefined) {
        const signal = AbortSignal.any([this.#stop.signal, shift.ended.signal]);
        const { provider, connection, resource } = claim.ref;
        const report = await shift.reconciler.reconcileAfter(
          route,
          { provider, connection, resource },
          {
            mode: claim.forced ? "full" : route.resource.onHint,
            handle: "changed",
            signal,
          },
          claim.generation,
        );
        if (!report.complete) throw stopped();
      }
      await shift.endings.done(route, { claim, kind: "done", index: null });
    } catch (thrown) {
      await shift.endings.fail(route, claim, asError(thrown), false);
    }
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

  /**
   * One bounded slice of work, due schedules and due polls, after which no timer, lease or heartbeat is left. One at a time:
   * callers during a slice, which may be about to end, share the next.
   */
  tick(timeoutMs: number, idle: () => Promise<boolean>): Promise<void> {
    this.#nextTick ??= (async () => {
      await this.#tick?.catch(() => {}); // its own callers hear of it
      this.#nextTick = undefined;
      this.#tick = this.#runTick(timeoutMs, idle);
      await this.#tick;
    })();
    return this.#nextTick;
  }

  async #runTick(timeoutMs: number, idle: () => Promise<boolean>): Promise<void> {
    const { clock } = this.#options;
    await this.ready();
    const deadline = clock.monotonic() + timeoutMs;
    await this.inShift(async (shift) => {
      const started = this.#work?.shift === shift ? this.#work.worker : undefined; // `start` came in between
      const worker = started ?? this.#makeWorker(shift);
      const scheduler = this.#makeScheduler();
      this.#worker = worker;
      worker.start();
      const timer = new AbortController();
      const late = sleep(clock, timeoutMs, timer.signal).catch(() => {});
      const polling = new AbortController();
      const polled = this.#pollDue(polling.signal);
      try {
        await Promise.race([Promise.all([scheduler.runDue(), polled]), late]);
        while (
          !this.#stop.signal.aborted &&
          clock.monotonic() < deadline &&
          !(worker.quiet && (await idle()))
        ) {
          await Promise.race([sleep(clock, TICK_POLL_MS, timer.signal).catch(() => {}), late]);
        }
        await this.#sweep(); // one slice: who only ticks has no other housekeeping
      } finally {
        if (worker !== started && this.#worker === worker) this.#worker = undefined;
        polling.abort(stopped());
        const workEnds = worker === started ? undefined : worker.stop();
        const over = Promise.all([scheduler.stop(stopped()), workEnds, polled]);
        await Promise.race([over, late]);
        // What is still in flight at the deadline goes back as it came, unless somebody else needs the shift.
        if (!worker.quiet && shift.holders === 1) shift.abort(stopped());
        await over;
        timer.abort();
      }
    });
  }

  async #pollDue(signal: AbortSignal): Promise<void> {
    const { hooks, pollers } = this.#options;
    const one = async (poller: Poller) => {
      try {
        await poller.runDue(AbortSignal.any([signal, this.#stop.signal]));
      } catch (thrown) {
        if (!signal.aborted)
          hooks.emit("error", { error: asError(thrown), during: `polling ${poller.name}` });
      }
    };
    await Promise.all(pollers.map(one));
  }

  /** Stops intake, claims no more, waits for what is in flight, and at the deadline aborts it. Idempotent. */
  stop(timeoutMs = STOP_TIMEOUT_MS): Promise<void> {
    this.#stopping ??= this.#shutDown(timeoutMs);
    return this.#stopping;
  }

  async #shutDown(timeoutMs: number): Promise<void> {
    const { apis, clock, hooks, sources, store } = this.#options;
    const reason = stopped();
    this.#stop.abort(reason);
    this.#cancelSweep();
    await this.#starting?.catch(() => {});
    const shift = await this.#shift?.catch(() => undefined);
    const late = new AbortController();
    const deadline = sleep(clock, timeoutMs, late.signal).then(
      () => shift?.abort(reason),
      () => {},
    );
    // A source that does not heed its signal must not keep the process: after the deadline nobody waits for it.
    await Promise.race([sources.stop(reason), deadline]);
    await Promise.all([this.#scheduler?.stop(reason), this.#endWork()]);
    // Calls of `reconcile`, `verify` and `tick` leave by themselves: their signal has aborted.
    if (this.#holders > 0) await new Promise<void>((resolve) => (this.#allLeft = resolve));
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
    this.#holders += 1;
    try {
      this.#shift ??= this.#beginShift();
      const shift = await this.#shift;
      shift.holders += 1;
      return shift;
    } catch (error) {
      this.#left();
      throw error;
    }
  }

  async #beginShift(): Promise<Shift> {
    await this.#ending; // the one before gives the store back first
    try {
      const shift = await Shift.begin(
        {
          ...this.#options,
          onRedue: (route, due) => this.#worker?.redue(route.name, due),
          onPause: (connection) => this.#worker?.holdBack(connection),
        },
        this.#stop.signal,
      );
      // Nobody joins a shift that is over; its holders leave by themselves.
      shift.ended.signal.addEventListener("abort", () => (this.#shift = undefined), { once: true });
      return shift;
    } catch (error) {
      this.#shift = undefined;
      throw error;
    }
  }

  async #leave(shift: Shift): Promise<void> {
    shift.holders -= 1;
    if (shift.holders === 0) {
      if (!shift.ended.signal.aborted) this.#shift = undefined;
      this.#ending = shift.end();
      await this.#ending;
    }
    this.#left();
  }

  #left(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#allLeft?.();
  }

  #sweepLater(): void {
    const { clock } = this.#options;
    this.#cancelSweep();
    const run = async (): Promise<void> => {
      while (!this.#stop.signal.aborted && (await this.#sweep()))
        await new Promise((resolve) => setImmediate(resolve));
      if (!this.#stop.signal.aborted) this.#cancelSweep = clock.setTimer(() => void run(), SWEEP_EVERY_MS);
    };
    this.#cancelSweep = clock.setTimer(() => void run(), SWEEP_EVERY_MS);
  }

  /** One slice of housekeeping. @returns whether there may be more to do now */
  async #sweep(): Promise<boolean> {
    const { hooks, store } = this.#options;
    try {
      return await store.sweep();
    } catch (thrown) {
      hooks.emit("error", { error: asError(thrown), during: "sweeping the store" });
      return false;
    }
  }
}

const TICK_POLL_MS = 20;

function stopped(): TrueupError<"STOPPED"> {
  return new TrueupError("STOPPED", "the engine is stopping or stopped");
}
