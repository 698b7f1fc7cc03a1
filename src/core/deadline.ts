/**
 * Runs user code under a deadline: a fetch or a handler that never returns must not hold a worker for ever.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { TrueupError, type ErrorCode } from "./errors.ts";
import { asError } from "./retry.ts";

/** Runs calls that end by themselves, by their own deadline, or when everything is aborted. */
export class Deadlines {
  readonly #clock: Clock;
  readonly #running = new Set<(reason: Error) => void>();
  #aborted: Error | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls `run` with a signal. When `timeoutMs` passes first, the signal aborts and the promise rejects with `code`,
   * whatever `run` goes on doing.
   */
  run<T>(
    timeoutMs: number,
    code: ErrorCode,
    what: string,
    run: (signal: AbortSignal) => T | Promise<T>,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#aborted !== undefined) {
        reject(this.#aborted);
        return;
      }
      const controller = new AbortController();
      const end = () => {
        cancel();
        this.#running.delete(abort);
      };
      const abort = (reason: Error) => {
        end();
        controller.abort(reason);
        reject(reason);
      };
      const cancel = this.#clock.setTimer(
        () => abort(new TrueupError(code, `${what} did not end within ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.#running.add(abort);
      // A synchronous throw becomes a rejection; a result after the abort is nobody's any more.
      void new Promise<T>((settle) => settle(run(controller.signal))).then(
        (value): void => {
          end();
          resolve(value);
        },
        (error: unknown): void => {
          end();
          reject(asError(error));
        },
      );
    });
  }

  /** Aborts all that runs, and refuses what comes. */
  abort(reason: Error): void {
    this.#aborted = reason;
    for (const abort of Array.from(this.#running)) abort(reason);
  }
}
