/**
 * Waiting until nothing is left to do, in any process.
 *
 * @module
 */

import { sleep, type Clock } from "./clock.ts";
import { drainResult, type DrainResult } from "./status.ts";
import type { Store } from "./store.ts";
import type { Worker } from "./worker.ts";

/** The shortest pause between two looks at the store. */
const LOOK_MS = 20;

export interface DrainOptions {
  readonly store: Pick<Store<unknown>, "pending">;
  readonly clock: Clock;
  /** Who works in this process. */
  readonly worker: () => Worker | undefined;
  /** Aborts when the engine stops: nobody waits any longer then. */
  readonly signal: AbortSignal;
}

/** Resolves when nothing is dirty or leased, nor due within `timeoutMs`; or when that has passed, with what is left. */
export async function drained(
  { clock, signal, store, worker }: DrainOptions,
  timeoutMs: number,
): Promise<DrainResult> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const askedAt = clock.monotonic();
    const working = worker()?.quiet === false;
    // What is due is so by the wall clock, which may be set while this waits.
    const pending = await store.pending(clock.now() + Math.max(0, deadline - askedAt));
    const now = clock.monotonic();
    if ((pending.due === 0 && pending.leased === 0) || now >= deadline || signal.aborted)
      return drainResult(pending);
    // Counting a long backlog costs the worker its time: it is asked for a tenth of it at most.
    const pauseMs = Math.min(Math.max(LOOK_MS, 10 * (now - askedAt)), Math.max(1, deadline - now));
    const over = new AbortController();
    const pause = sleep(clock, pauseMs, AbortSignal.any([signal, over.signal])).catch(() => {});
    // All that is left is in work: once this process has done its own, there may be nothing more.
    const lastOnes = working && pending.due === 0 ? worker()?.whenQuiet() : undefined;
    await Promise.race(lastOnes === undefined ? [pause] : [pause, lastOnes]);
    over.abort();
  }
}
