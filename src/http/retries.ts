/**
 * Retries within one logical request: some seconds, for what passes by itself. Whatever takes longer is the work item's
 * to retry, since waiting here holds a worker.
 *
 * @module
 */

import pRetry from "p-retry";
import { type Clock, type Random, sleep } from "../core/clock.ts";
import { RateLimitError, type TrueupError } from "../core/errors.ts";
import { clampPause } from "./rate-headers.ts";

/** After the first attempt. */
export const MAX_RETRIES = 3;
/** No retry begins later than this after the first attempt began. */
export const RETRY_WINDOW_MS = 8_000;
/** The wait before the first retry is random from 0 to this ("full jitter"), then twice as much each time. */
export const FIRST_BACKOFF_MS = 500;

/** Thrown by an attempt that may be repeated. Never leaves {@link withRetries}. */
export class Repeatable extends Error {
  readonly error: TrueupError;
  /** What the provider asked for with a 503; a wait that does not fit ends the request with a RateLimitError. */
  readonly retryAfterMs: number | undefined;

  constructor(error: TrueupError, retryAfterMs?: number) {
    super(error.message);
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }

  /** What the caller gets when there is no further attempt. */
  final(): TrueupError {
    if (this.retryAfterMs === undefined) return this.error;
    return new RateLimitError(clampPause(this.retryAfterMs), this.error.message, { cause: this.error });
  }
}

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly onRetry: (error: TrueupError, delayMs: number) => void;
}

/**
 * Repeats an attempt that throws {@link Repeatable}.
 *
 * p-retry counts and steers. The waiting is ours, inside `shouldRetry`: p-retry's own goes by real timers, knows no full
 * jitter, and tells `Math.random` to choose.
 */
export async function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, random, signal, onRetry } = options;
  const beganAt = clock.monotonic();
  try {
    return await pRetry(attempt, {
      retries: MAX_RETRIES,
      minTimeout: 0,
      signal,
      shouldRetry: async ({ error, attemptNumber }) => {
        if (!(error instanceof Repeatable)) return false;
        const backoff = random() * FIRST_BACKOFF_MS * 2 ** (attemptNumber - 1);
        const delayMs = Math.max(backoff, error.retryAfterMs ?? 0);
        if (clock.monotonic() - beganAt + delayMs > RETRY_WINDOW_MS) return false;
        onRetry(error.error, delayMs);
        await sleep(clock, delayMs, signal);
        return true;
      },
    });
  } catch (error) {
    throw error instanceof Repeatable ? error.final() : error;
  }
}
