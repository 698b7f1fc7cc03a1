/**
 * The store's housekeeping: what is kept no longer is thrown away, a slice at a time, beside the work.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { Hooks } from "./hooks.ts";
import { asError } from "./retry.ts";
import type { Store } from "./store.ts";

const EVERY_MS = 60_000;

export interface HousekeepingOptions {
  readonly store: Pick<Store<unknown>, "sweep">;
  readonly clock: Clock;
  readonly hooks: Hooks;
  /** Aborts when the engine stops. */
  readonly signal: AbortSignal;
}

export class Housekeeping {
  readonly #options: HousekeepingOptions;
  #cancel = () => {};

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  /** Once in a while from now on, each time until there is nothing more to do. */
  begin(): void {
    const { clock, signal } = this.#options;
    this.stop();
    const run = async (): Promise<void> => {
      while (!signal.aborted && (await this.slice())) await new Promise((resolve) => setImmediate(resolve));
      if (!signal.aborted) this.#cancel = clock.setTimer(() => void run(), EVERY_MS);
    };
    this.#cancel = clock.setTimer(() => void run(), EVERY_MS);
  }

  stop(): void {
    this.#cancel();
  }

  /** A failure is told and no more: the next slice is soon enough. @returns whether there may be more to do now */
  async slice(): Promise<boolean> {
    const { hooks, store } = this.#options;
    try {
      return await store.sweep();
    } catch (thrown) {
      hooks.emit("error", { error: asError(thrown), during: "sweeping the store" });
      return false;
    }
  }
}
