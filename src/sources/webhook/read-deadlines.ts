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
  readonly dueAt: number;
  readonly expire: () => void;
}

/**
 * All readings have the same timeout, so the oldest is the first to fall due and a single timer, set for it, serves all.
 * It is set only for what is still being read when the event loop has gone round: most bodies come with their heads and
 * cost no timer. While nothing is read, none is set.
 */
export class ReadDeadlines {
  readonly #clock: Clock;
  // A Set keeps the order in which it was filled.
  readonly #readings = new Set<Reading>();
  #cancelTimer: (() => void) | undefined;
  #armed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `expire` once the time is up, unless the reading is ended before. */
  begin(expire: () => void): Reading {
    const reading = { dueAt: this.#clock.monotonic() + READ_TIMEOUT_MS, expire };
    this.#readings.add(reading);
    if (!this.#armed) {
      this.#armed = true;
      setImmediate(this.#arm);
    }
    return reading;
  }

  end(reading: Reading): void {
    if (!this.#readings.delete(reading) || this.#readings.size > 0 || this.#cancelTimer === undefined) return;
    this.#cancelTimer();
    this.#cancelTimer = undefined;
    this.#armed = false;
  }

  readonly #arm = (): void => {
    const [oldest] = this.#readings;
    this.#armed = oldest !== undefined;
    if (oldest === undefined) return;
    this.#cancelTimer = this.#clock.setTimer(
      this.#sweep,
      Math.max(0, oldest.dueAt - this.#clock.monotonic()),
    );
  };

  readonly #sweep = (): void => {
    this.#cancelTimer = undefined;
    const now = this.#clock.monotonic();
    for (const reading of this.#readings) {
      if (reading.dueAt > now) break;
      this.#readings.delete(reading);
      reading.expire();
    }
    this.#arm();
  };
}
