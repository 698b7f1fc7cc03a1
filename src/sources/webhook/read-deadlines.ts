/**
 * Bounds how long bodies may take to arrive, with one timer for all of them.
 *
 * @module
 */

import type { Clock } from "../../core/clock.ts";

/** From the first byte of the body to its last. Slower senders hold a connection and memory for nothing. */
export const READ_TIMEOUT_MS = 10_000;

/** One body that is being read. */
export interface Reading {
  readonly expire: () => void;
  over: boolean;
  /** Known at the end of the turn in which it began. */
  dueAt: number;
}

/**
 * All readings have the same timeout, so the oldest is the first to fall due and a single timer, set for it, serves all.
 * Only what is still being read when the event loop has gone round is kept and timed: most bodies come with their heads
 * and cost next to nothing. While nothing is read, no timer is set.
 */
export class ReadDeadlines {
  readonly #clock: Clock;
  /** Begun in this turn of the event loop. */
  #fresh: Reading[] = [];
  // A Set keeps the order in which it was filled.
  readonly #readings = new Set<Reading>();
  #cancelTimer: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `expire` once the time is up, unless the reading is ended before. */
  begin(expire: () => void): Reading {
    const reading: Reading = { expire, over: false, dueAt: Number.POSITIVE_INFINITY };
    if (this.#fresh.push(reading) === 1) setImmediate(this.#keep);
    return reading;
  }

  end(reading: Reading): void {
    reading.over = true;
    if (!this.#readings.delete(reading) || this.#readings.size > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  /** At the end of the turn: what is not over yet takes longer. */
  readonly #keep = (): void => {
    const fresh = this.#fresh;
    this.#fresh = [];
    const open = fresh.filter((reading) => !reading.over);
    if (open.length === 0) return;
    const dueAt = this.#clock.monotonic() + READ_TIMEOUT_MS;
    for (const reading of open) {
      reading.dueAt = dueAt;
      this.#readings.add(reading);
    }
    this.#arm();
  };

  #arm(): void {
    const [oldest] = this.#readings;
    if (oldest === undefined || this.#cancelTimer !== undefined) return;
    const delayMs = Math.max(0, oldest.dueAt - this.#clock.monotonic());
    this.#cancelTimer = this.#clock.setTimer(this.#sweep, delayMs);
  }

  readonly #sweep = (): void => {
    this.#cancelTimer = undefined;
    const now = this.#clock.monotonic();
    for (const reading of this.#readings) {
      if (reading.dueAt > now) break;
      this.#readings.delete(reading);
      reading.over = true;
      reading.expire();
    }
    this.#arm();
  };
}
