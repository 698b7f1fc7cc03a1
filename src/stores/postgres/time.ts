/**
 * The store's time.
 *
 * Processes share the store and not their clocks, so leases, locks and due dates go by the server's clock: what lies
 * ahead is sent as a delay and added up there, what is read is turned back into this process's time. A clock that was
 * handed in on purpose (a `TestClock`) is obeyed as it is, by everything.
 *
 * @module
 */

import { type Clock, systemClock } from "../../core/clock.ts";

export class StoreTime {
  readonly #clock: Clock;
  readonly #given: boolean;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#given = clock !== systemClock;
  }

  /** What functions of the schema take as their moment; `null`: the server's. */
  get moment(): number | null {
    return this.#given ? this.#clock.now() : null;
  }

  /** How far ahead a moment of this process lies. */
  delay(moment: number): number {
    return Math.round(moment - this.#clock.now());
  }

  /** A stored moment as this process would name it. @param storeNow the store's time when it was read */
  local(stored: number, storeNow: number): number {
    return this.#given ? stored : stored - storeNow + this.#clock.now();
  }
}
