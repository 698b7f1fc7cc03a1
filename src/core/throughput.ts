/**
 * How fast work gets done, and so how much of it is worth leasing at once.
 *
 * @module
 */

/**
 * Work is leased for so long ahead. A claim costs the store as much as a dozen objects of it, and shared stores a round
 * trip; but what is leased waits for nobody else, and is fetched once more when an event comes meanwhile.
 */
export const AHEAD_MS = 25;

/** Most objects leased by one claim for being done fast: a turn of the event loop should not last for them. */
const MOST_AHEAD = 1_024;

/** After so long without anything done, it is anybody's guess how fast it would be. */
const STALE_MS = 10 * AHEAD_MS;

export class Throughput {
  #since: number;
  #done = 0;
  #ahead = 0;

  /** @param now here and below: by a clock that never goes back */
  constructor(now: number) {
    this.#since = now;
  }

  add(done: number): void {
    this.#done += done;
  }

  /** How many objects get done in {@link AHEAD_MS}, as far as is known. */
  ahead(now: number): number {
    const elapsed = now - this.#since;
    if (elapsed >= AHEAD_MS && (this.#done > 0 || elapsed >= STALE_MS)) {
      this.#ahead = Math.min(MOST_AHEAD, Math.floor((this.#done * AHEAD_MS) / elapsed));
      this.#done = 0;
      this.#since = now;
    }
    return this.#ahead;
  }

  /** Something is wrong, and it will not go on as it went. */
  reset(now: number): void {
    this.#since = now;
    this.#done = 0;
    this.#ahead = 0;
  }
}
