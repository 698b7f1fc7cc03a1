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
  readonly dueAt: number;
  /** What it ends with at its deadline. */
  readonly late: () => Error;
  readonly abort: (reason: Error) => void;
}

/**
 * Runs calls that end by themselves, by their own deadline, or when everything is aborted. One timer serves them all, set
 * for the earliest deadline, and only for what is still under way when the event loop has gone round.
 */
export class Deadlines {
  readonly #clock: Clock;
  /** In no order. (A set that ever changes leaves much to the garbage collector.) */
  readonly #running: Running[] = [];
  /** No call under way is due before; one that was may have ended since. */
  #earliest = Infinity;
  #timer: { readonly at: number; readonly cancel: () => void } | undefined;
  #arming = false;
  #aborted: Error | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls `run` with a signal. When `timeoutMs` passes first, the signal aborts and the promise rejects with `code`,
   * whatever `run` goes on doing. Never throws: what `run` throws, it rejects with.
   */
  run<T>(
    timeoutMs: number,
    code: ErrorCode,
    what: () => string,
    run: (signal: AbortSignal) => MaybePromise<T>,
  ): MaybePromise<T> {
    if (this.#aborted !== undefined) return Promise.reject(this.#aborted);
    const controller = new AbortController();
    const dueAt = this.#clock.monotonic() + timeoutMs;
    let result: MaybePromise<T>;
    try {
      result = run(controller.signal);
    } catch (thrown) {
      return Promise.reject(asError(thrown));
    }
    if (!isPromise(result)) return result;
    return new Promise((resolve, reject) => {
      const running = this.#begin({
        place: this.#running.length,
        dueAt,
        late: () => new TrueupError(code, `${what()} did not end within ${timeoutMs} ms`),
        abort: (reason) => {
          this.#end(running);
          controller.abort(reason);
          reject(reason);
        },
      });
      // What comes after the abort is nobody's any more.
      result.then(
        (value) => {
          this.#end(running);
          resolve(value);
        },
        (error: unknown) => {
          this.#end(running);
          reject(asError(error));
        },
      );
      if (this.#aborted !== undefined) running.abort(this.#aborted); // while it was beginning
    });
  }

  /** Aborts all that runs, and refuses what comes. */
  abort(reason: Error): void {
    this.#aborted = reason;
    for (const { abort } of this.#running.slice()) abort(reason);
  }

  #begin(running: Running): Running {
    this.#running.push(running);
    this.#earliest = Math.min(this.#earliest, running.dueAt);
    if (!this.#arming) setImmediate(this.#arm);
    this.#arming = true;
    return running;
  }

  /** The last takes its place. */
  #end(running: Running): void {
    if (running.place < 0) return;
    const last = this.#running.pop() as Running;
    if (last !== running) {
      this.#running[running.place] = last;
      last.place = running.place;
    }
    running.place = -1;
    if (this.#running.length === 0) this.#disarm();
  }

  /** At the end of the turn. */
  readonly #arm = (): void => {
    this.#arming = false;
    if (this.#running.length === 0 || (this.#timer?.at ?? Infinity) <= this.#earliest) return;
    this.#timer?.cancel();
    const delayMs = Math.max(0, this.#earliest - this.#clock.monotonic());
    this.#timer = { at: this.#earliest, cancel: this.#clock.setTimer(this.#expire, delayMs) };
  };

  #disarm(): void {
    this.#earliest = Infinity;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  readonly #expire = (): void => {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const running of this.#running.filter(({ dueAt }) => dueAt <= now)) running.abort(running.late());
    this.#earliest = this.#running.reduce((earliest, { dueAt }) => Math.min(earliest, dueAt), Infinity);
    this.#arm();
  };
}
