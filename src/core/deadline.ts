/**
 * Runs user code under a deadline: a fetch or a handler that never returns must not hold a worker for ever.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { TrueupError, type ErrorCode } from "./errors.ts";
import { isPromise, type MaybePromise } from "./maybe-promise.ts";
import { asError } from "./retry.ts";

/** A call under way, and where it stands among the others; -1: it has ended. */
interface Running {
  place: number;
  readonly abort: (reason: Error) => void;
}

/** Runs calls that end by themselves, by their own deadline, or when everything is aborted. */
export class Deadlines {
  readonly #clock: Clock;
  /** In no order. (A set that ever changes leaves much to the garbage collector.) */
  readonly #running: Running[] = [];
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
    run: (signal: AbortSignal) => MaybePromise<T>,
  ): Promise<T> {
    if (this.#aborted !== undefined) return Promise.reject(this.#aborted);
    return new Promise((resolve, reject) => {
      const controller = new AbortController();
      const end = () => {
        cancel();
        this.#remove(running);
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
      const running: Running = { place: this.#running.length, abort };
      this.#running.push(running);
      // What comes after the abort is nobody's any more.
      const succeed = (value: T) => {
        end();
        resolve(value);
      };
      const fail = (error: unknown) => {
        end();
        reject(asError(error));
      };
      try {
        const result = run(controller.signal);
        if (isPromise(result)) result.then(succeed, fail);
        else succeed(result);
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Aborts all that runs, and refuses what comes. */
  abort(reason: Error): void {
    this.#aborted = reason;
    for (const { abort } of this.#running.slice()) abort(reason);
  }

  /** The last takes its place. */
  #remove(running: Running): void {
    if (running.place < 0) return;
    const last = this.#running.pop() as Running;
    if (last !== running) {
      this.#running[running.place] = last;
      last.place = running.place;
    }
    running.place = -1;
  }
}
