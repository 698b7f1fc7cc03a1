/**
 * Time and randomness as parameters. This is the only file that reads the clock.
 *
 * @module
 */

/** Where the engine takes time from. Replace it to test (see `TestClock` in `trueup/testing`). */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds from an arbitrary start that never go back; for measuring durations. */
  monotonic(): number;
  /** Calls back once after `delayMs`; the returned function cancels. */
  setTimer(callback: () => void, delayMs: number): () => void;
}

/** A number in [0, 1), as `Math.random`. */
export type Random = () => number;

/** Node's limit; a longer delay would fire at once. */
const MAX_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), MAX_TIMER_MS));
    return () => clearTimeout(timer);
  },
};

export const systemRandom: Random = () => Math.random();

/** Waits. Rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = () => {
      cancel();
      reject(signal?.reason as Error);
    };
    const cancel = clock.setTimer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
