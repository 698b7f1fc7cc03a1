/**
 * Counted permits: how many things of a kind may be under way at once.
 *
 * @module
 */

export class Semaphore {
  readonly #waiting: (() => void)[] = [];
  #free: number;
  /** Hears when a permit is free again that nobody waited for. */
  onFree: () => void = () => {};

  constructor(permits: number) {
    this.#free = permits;
  }

  /** Permits that could be taken now; none while somebody waits. */
  get free(): number {
    return this.#waiting.length > 0 ? 0 : this.#free;
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
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next();
      return;
    }
    this.#free += 1;
    this.onFree();
  }
}
