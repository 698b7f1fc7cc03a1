/**
 * One pass over a scope at a time, over all processes: a fenced lock of the store, renewed while it is held.
 *
 * @module
 */

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
    while (this.#held.has(name)) {
      signal.throwIfAborted();
      await Promise.race([this.#held.get(name), aborted(signal)]);
    }
    return (await this.#turn(name, () => this.#take(name, signal), signal, run)) as T;
  }

  /** The same where nobody has it; otherwise nothing. */
  async runIfFree(
    name: string,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    if (this.#held.has(name)) return;
    await this.#turn(name, () => this.#options.store.lock(name, this.#options.ttlMs), signal, run);
  }

  async #turn<T>(
    name: string,
    take: () => Promise<Lock | undefined>,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    const turn = this.#runHeld(name, take, signal, run);
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
    name: string,
    take: () => Promise<Lock | undefined>,
    signal: AbortSignal,
    run: (lock: Lock, signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    const { clock, store, ttlMs } = this.#options;
    const lock = await take();
    if (lock === undefined) return undefined;
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

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
