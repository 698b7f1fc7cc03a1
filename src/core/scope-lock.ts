/**
 * One pass over a scope at a time, over all processes: a fenced lock of the store, renewed while it is held.
 *
 * @module
 */

import { abortable } from "./abortable.ts";
import { sleep, type Clock } from "./clock.ts";
import { TrueupError } from "./errors.ts";
import type { Lock, Store } from "./store.ts";

export interface ScopeLockOptions {
  readonly store: Store<unknown>;
  readonly clock: Clock;
  /** How long the lock outlives a holder that died, in milliseconds. */
  readonly ttlMs: number;
}

/** How often a waiting caller asks for a lock that another process holds. */
const ASK_AGAIN_MS = 500;

/** What {@link ScopeLocks.tryRun} answers where it did not run. */
export const BUSY = Symbol("busy");

export class ScopeLocks {
  readonly #options: ScopeLockOptions;
  /** Holders in this process, so that callers here wait for each other without asking the store. */
  readonly #held = new Map<string, Promise<unknown>>();

  constructor(options: ScopeLockOptions) {
    this.#options = options;
  }

  /** Whether a holder in this process has it. */
  busy(name: string): boolean {
    return this.#held.has(name);
  }

  /**
   * Runs under the lock, waiting for it until `signal` aborts. The signal that `run` gets aborts when the lock is lost,
   * and with `signal`.
   */
  async run<T>(
    name: string,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    for (let held = this.#held.get(name); held !== undefined; held = this.#held.get(name))
      await abortable(held, signal);
    return this.#inTurn(name, async () => this.#runHeld(await this.#take(name, signal), signal, run));
  }

  /** As {@link run}, but does not wait: `BUSY` where another holder is at it, here or in another process. */
  async tryRun<T>(
    name: string,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<T>,
  ): Promise<T | typeof BUSY> {
    if (this.#held.has(name)) return BUSY;
    const { store, ttlMs } = this.#options;
    return this.#inTurn(name, async () => {
      const lock = await store.lock(name, ttlMs);
      return lock === undefined ? BUSY : this.#runHeld(lock, signal, run);
    });
  }

  async #inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const turn = run();
    const ended = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#held.set(name, ended);
    try {
      return await turn;
    } finally {
      this.#held.delete(name);
    }
  }

  async #runHeld<T>(
    lock: Lock,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, store, ttlMs } = this.#options;
    const { name } = lock;
    const lost = new AbortController();
    let held = true;
    let cancel = () => {};
    const renewLater = () => {
      if (!held) return; // it was given up while a renewal was under way
      cancel = clock.setTimer(() => {
        store.lock(name, ttlMs, lock).then(
          (renewed) => {
            if (renewed === undefined)
              lost.abort(new TrueupError("LEASE_LOST", `another process took over ${name}`));
            else renewLater();
          },
          // The store cannot be reached: what the pass writes next will say so, if it lasts.
          renewLater,
        );
      }, ttlMs / 3);
    };
    renewLater();
    try {
      return await run(lock, AbortSignal.any([signal, lost.signal]));
    } finally {
      held = false;
      cancel();
      await store.unlock(lock).catch(() => {}); // it ends by itself
    }
  }

  async #take(name: string, signal: AbortSignal): Promise<Lock> {
    const { clock, store, ttlMs } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      const lock = await store.lock(name, ttlMs);
      if (lock !== undefined) return lock;
      await sleep(clock, ASK_AGAIN_MS, signal);
    }
  }
}
