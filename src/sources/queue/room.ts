/**
 * Room for messages: how many this process may hold at once.
 *
 * @module
 */

import { abortable } from "../../core/abortable.ts";

export class Room {
  #free: number;
  #freed = Promise.withResolvers<void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** Waits for a place, and takes as many as there are, up to `most`. None when the signal aborts first. */
  async take(most: number, signal: AbortSignal): Promise<number> {
    // Below none, where a driver returned more than it was asked for.
    while (this.#free <= 0) {
      if (signal.aborted) return 0;
      await abortable(this.#freed.promise, signal).catch(() => {});
    }
    const taken = Math.min(this.#free, most);
    this.#free -= taken;
    return taken;
  }

  give(places: number): void {
    if (places === 0) return;
    this.#free += places;
    this.#freed.resolve();
    this.#freed = Promise.withResolvers<void>();
  }
}
