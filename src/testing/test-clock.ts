/**
 * A clock that stands still until a test moves it.
 *
 * @module
 */

import type { Clock } from "../core/clock.ts";

/** Where a {@link TestClock} starts unless told: a round moment that is easy to recognise in messages. */
const DEFAULT_START_MS = Date.UTC(2030, 0, 1);

/** Turns of the event loop that {@link TestClock.settle} waits: enough for chains of promises and of `setImmediate`. */
const SETTLE_TURNS = 5;

interface Timer {
  readonly at: number;
  /** Timers of one moment fire in the order in which they were set. */
  readonly order: number;
  readonly callback: () => void;
}

/**
 * A {@link Clock} driven by hand. Time passes only in {@link advance}, which fires the timers that come due on the way,
 * in order, each at its own moment. No test that uses it waits for real time, and none depends on it.
 *
 * @example
 * const clock = new TestClock();
 * const waiting = sleep(clock, 5_000);
 * await clock.advance(5_000); // fires the timer; what awaits it has run when this resolves
 * await waiting;
 */
export class TestClock implements Clock {
  #now: number;
  #monotonic = 0;
  #timers: Timer[] = [];
  #order = 0;

  /** @param startMs Milliseconds since the epoch; 2030-01-01T00:00:00Z by default. */
  constructor(startMs: number = DEFAULT_START_MS) {
    this.#now = startMs;
  }

  // Arrow functions, so that `clock.now` can be handed on by itself, as `Date.now` can.
  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#monotonic;

  readonly setTimer = (callback: () => void, delayMs: number): (() => void) => {
    this.#order += 1;
    const timer: Timer = { at: this.#monotonic + Math.max(0, delayMs), order: this.#order, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  /** How many timers are set and have not fired: 0 proves that nothing was left behind. */
  get pendingTimers(): number {
    return this.#timers.length;
  }

  /** Milliseconds from now to the next timer; `undefined` when none is set. */
  get nextTimerInMs(): number | undefined {
    const next = this.#nextTimer();
    return next === undefined ? undefined : next.at - this.#monotonic;
  }

  /**
   * Lets time pass. Before it moves, after each timer, and at the end, promises get to settle (see {@link settle}), so
   * that a timer which such a promise sets is honoured too if it falls within the span.
   *
   * @param ms Milliseconds; 0 fires what is due now.
   */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    await this.settle();
    for (let next = this.#nextTimer(); next !== undefined && next.at <= end; next = this.#nextTimer()) {
      const fired = next;
      this.#timers = this.#timers.filter((timer) => timer !== fired);
      this.#pass(fired.at - this.#monotonic);
      fired.callback();
      await this.settle();
    }
    this.#pass(end - this.#monotonic);
  }

  /**
   * Sets the wall clock, forwards or back, as an administrator or NTP would: {@link now} jumps, {@link monotonic} and
   * the timers do not notice.
   *
   * @param epochMs Milliseconds since the epoch.
   */
  setWallClock(epochMs: number): void {
    this.#now = epochMs;
  }

  /**
   * Waits a few turns of the event loop, for chains of promises to run. It cannot know of I/O (a network, a thread):
   * wait for what that brings instead.
   */
  async settle(): Promise<void> {
    for (let turn = 0; turn < SETTLE_TURNS; turn += 1) {
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  }

  #pass(ms: number): void {
    if (ms <= 0) return;
    this.#monotonic += ms;
    this.#now += ms;
  }

  #nextTimer(): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (next === undefined || timer.at < next.at || (timer.at === next.at && timer.order < next.order)) {
        next = timer;
      }
    }
    return next;
  }
}
