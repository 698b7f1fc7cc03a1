/**
 * Counted permits: how many things of a kind may be under way at once.
 *
 * @module
 */

export class Semaphore {
  readonly #permits: number;
  readonly #waiting: (() => void)[] = [];
  #free: number;
  /** Whether the last permit that was given back went to who waits. */
  #servedWaiting = false;
  #offering = false;
  /**
   * Hears when a permit is free. While others wait, it has every second one: of two that work for the same end, one
   * waiting here for a thousand permits and the other taking what it sees, neither starves.
   */
  onFree: () => void = () => {};

  constructor(permits: number) {
    this.#permits = permits;
    this.#free = permits;
  }

  /** Permits that could be taken now; none while somebody waits, but for one that {@link onFree} is offered. */
  get free(): number {
    return this.#waiting.length > 0 && !this.#offering ? 0 : this.#free;
  }

  /** Permits that who takes them in {@link onFree} can reckon with: half of all while others wait. */
  get expected(): number {
    return this.#waiting.length > 0 ? Math.ceil(this.#permits / 2) : this.#free;
  }

  /** Takes a permit if there is one. */
  tryAcquire(): boolean {
    if (this.free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /** Waits for a permit, in the order of asking. */
  async acquire(): Promise<void> {
    if (this.tryAcquire()) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  release(): void {
    this.#free += 1;
    if (this.#waiting.length === 0) {
      this.onFree();
      return;
    }
    if (this.#servedWaiting && this.#isTakenInTurn()) return;
    this.#free -= 1;
    this.#servedWaiting = true;
    this.#waiting.shift()?.();
  }

  /** Offers the permit that is free to who does not wait. */
  #isTakenInTurn(): boolean {
    this.#servedWaiting = false;
    this.#offering = true;
    this.onFree();
    this.#offering = false;
    return this.#free === 0;
  }
}
