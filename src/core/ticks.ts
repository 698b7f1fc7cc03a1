/**
 * Ticks: for processes that may not work on their own, one bounded slice of it at each call.
 *
 * @module
 */

import { sleep, type Clock } from "./clock.ts";
import { stopped } from "./errors.ts";
import type { Hooks } from "./hooks.ts";
import type { Housekeeping } from "./housekeeping.ts";
import type { Poller } from "./poller.ts";
import { asError } from "./retry.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Shift } from "./shift.ts";
import type { Worker } from "./worker.ts";

export interface TicksOptions {
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly housekeeping: Housekeeping;
  readonly pollers: readonly Poller[];
  /** Whom `start` made work in this shift, if it did. */
  readonly startedIn: (shift: Shift) => Worker | undefined;
  readonly makeWorker: (shift: Shift) => Worker;
  readonly makeScheduler: () => Scheduler;
  /** Runs with the right to work on the store. */
  readonly inShift: <T>(run: (shift: Shift) => Promise<T>) => Promise<T>;
  /** Hears whom new work wakes; `undefined` at the end of the tick. */
  readonly onWorker: (worker: Worker | undefined) => void;
  /** Aborts when the engine stops. */
  readonly signal: AbortSignal;
}

/** How often a tick looks whether nothing is left to do. */
const LOOK_MS = 20;

export class Ticks {
  readonly #options: TicksOptions;
  #now: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(options: TicksOptions) {
    this.#options = options;
  }

  /**
   * One slice of work, due schedules and due polls, after which no timer, lease or heartbeat is left. One at a time:
   * callers during a slice, which may be about to end, share the next.
   *
   * @param timeoutMs what is not done by then goes back as it came
   * @param idle whether nothing is left in the store either
   */
  run(timeoutMs: number, idle: () => Promise<boolean>): Promise<void> {
    this.#next ??= (async () => {
      await this.#now?.catch(() => {}); // its own callers hear of it
      this.#next = undefined;
      this.#now = this.#slice(timeoutMs, idle);
      await this.#now;
    })();
    return this.#next;
  }

  async #slice(timeoutMs: number, idle: () => Promise<boolean>): Promise<void> {
    const { clock, housekeeping, inShift, makeScheduler, makeWorker, onWorker, signal, startedIn } =
      this.#options;
    await inShift(async (shift) => {
      const deadline = clock.monotonic() + timeoutMs;
      const started = startedIn(shift); // `start` came in between
      const worker = started ?? makeWorker(shift);
      const scheduler = makeScheduler();
      onWorker(worker);
      worker.start();
      const timer = new AbortController();
      const late = sleep(clock, timeoutMs, timer.signal).catch(() => {});
      const polling = new AbortController();
      const polled = this.#pollDue(AbortSignal.any([polling.signal, signal]));
      try {
        await Promise.race([Promise.all([scheduler.runDue(), polled]), late]);
        while (!signal.aborted && clock.monotonic() < deadline && !(worker.quiet && (await idle())))
          await Promise.race([sleep(clock, LOOK_MS, timer.signal).catch(() => {}), late]);
        await housekeeping.slice(); // who only ticks has no other
      } finally {
        onWorker(undefined);
        polling.abort(stopped());
        const workEnds = started === undefined ? worker.stop() : undefined;
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
        await poller.runDue(signal);
      } catch (thrown) {
        if (!signal.aborted)
          hooks.emit("error", { error: asError(thrown), during: `polling ${poller.name}` });
      }
    };
    await Promise.all(pollers.map(one));
  }
}
