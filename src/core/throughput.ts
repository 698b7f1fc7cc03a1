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

/** Whether the store works in this process, on its event loop, or in one of its own. */
export type StorePlace = "here" | "elsewhere";

/**
 * Most objects leased by one claim for being done fast: a turn of the event loop should not last for them. What is claimed
 * elsewhere is only read in it.
 */
const MOST_AHEAD: Readonly<Record<StorePlace, number>> = { here: 256, elsewhere: 512 };

/** After so long without anything done, it is anybody's guess how fast it would be. */
const STALE_MS = 10 * AHEAD_MS;

export class Throughput {
  #since: number;
  #done = 0;
  #ahead = 0;
  readonly #most: number;

  /** @param now here and below: by a clock that never goes back */
  constructor(now: number, store: StorePlace) {
    this.#since = now;
    this.#most = MOST_AHEAD[store];
  }

  add(done: number): void {
    this.#done += done;
  }

  /** How many objects get done in {@link AHEAD_MS}, as far as is known. */
  ahead(now: number): number {
    const elapsed = now - this.#since;
    if (elapsed >= AHEAD_MS && (this.#done > 0 || elapsed >= STALE_MS)) {
      this.#ahead = Math.min(this.#most, Math.floor((this.#done * AHEAD_MS) / elapsed));
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
