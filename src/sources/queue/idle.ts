/**
 * How long to leave an empty queue alone.
 *
 * @module
 */

import { sleep, type Clock, type Random } from "../../core/clock.ts";
import { abortable } from "../../core/abortable.ts";

export interface IdleBounds {
  readonly minMs: number;
  readonly maxMs: number;
}

/**
 * The pauses of all who poll one queue. While it is empty one of them looks, ever more rarely; the others wait for what
 * that one finds. A find ends all waiting, and the next pause is short again.
 */
export class Idle {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #bounds: IdleBounds;
  #empties = 0;
  #looking = false;
  #found = Promise.withResolvers<void>();

  constructor(clock: Clock, random: Random, bounds: IdleBounds) {
    this.#clock = clock;
    this.#random = random;
    this.#bounds = bounds;
  }

  /** The queue had something. */
  found(): void {
    if (this.#empties === 0) return;
    this.#empties = 0;
    this.#found.resolve();
    this.#found = Promise.withResolvers<void>();
  }

  /** The queue had nothing: waits until it is worth looking again. Ends when the signal aborts. */
  async pause(signal: AbortSignal): Promise<void> {
    const found = this.#found.promise;
    if (this.#looking) {
      await abortable(found, signal).catch(() => {});
      return;
    }
    this.#looking = true;
    this.#empties += 1;
    const over = new AbortController();
    const slept = sleep(this.#clock, this.#pauseMs(), AbortSignal.any([signal, over.signal]));
    await Promise.race([found, slept.catch(() => {})]);
    over.abort();
    this.#looking = false;
  }

  /** Doubles with each empty answer, and is drawn from its upper half: those who began together drift apart. */
  #pauseMs(): number {
    const { minMs, maxMs } = this.#bounds;
    const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(this.#empties - 1, 30));
    return Math.ceil(ceiling * (0.5 + 0.5 * this.#random()));
  }
}
