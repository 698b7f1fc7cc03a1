/**
 * A rate that several processes share: permits come from their store, in blocks.
 *
 * @module
 */

import type { Clock } from "../core/clock.ts";
import { RetryLaterError } from "../core/errors.ts";
import type { PermitGrant } from "../core/store.ts";
import type { Gate } from "./rate-gate.ts";

/** Asks for permits to start requests, of which no more are given out than the rate says, to whomever. */
export type TakePermits = (
  budget: { readonly requests: number; readonly perMs: number },
  wanted: number,
) => Promise<PermitGrant>;

/**
 * A permit counts from when it is given, and the provider counts from when it sees the request. The store's window is
 * longer by this share of it, and a permit that took longer to come is not used: so no window of the provider's holds
 * more, as long as requests take about equally long on their way.
 */
const LATE_SHARE = 0.05;
const LATE_MS = 1_000;
const MOST_LATE_MS = 10_000;

/** While the store cannot be asked, no request starts: the rate is not for one process to judge. */
const RETRY_MS = 1_000;

interface Wanted {
  count: number;
  readonly granted: (count: number) => void;
  readonly failed: (count: number, error: Error) => void;
}

/** Asks for what can start now, in one question at a time. Has no timer while nobody waits. */
export class SharedGate implements Gate {
  readonly block = 1;
  readonly #requests: number;
  readonly #perMs: number;
  #lateMs: number;
  readonly #takePermits: TakePermits;
  readonly #clock: Clock;
  #wanted: Wanted[] = [];
  #asking = false;
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  constructor(requests: number, perMs: number, takePermits: TakePermits, clock: Clock) {
    this.#requests = requests;
    this.#perMs = perMs;
    this.#lateMs = Math.min(perMs * LATE_SHARE, LATE_MS);
    this.#takePermits = takePermits;
    this.#clock = clock;
  }

  worthAsking(wanted: number): number {
    return wanted;
  }

  take(count: number, granted: (count: number) => void, failed: (count: number, error: Error) => void): void {
    this.#wanted.push({ count, granted, failed });
    this.#ask();
  }

  start(): undefined {}

  seen(): void {}

  /** What was taken from the store is not taken back: it counts as used. */
  giveBack(): void {}

  /** The store remembers. */
  idle(): boolean {
    return this.#wanted.length === 0;
  }

  close(): void {
    this.#closed = true;
    this.#wanted = [];
    this.#cancelTimer?.();
  }

  #ask(): void {
    if (this.#asking || this.#closed || this.#wanted.length === 0) return;
    this.#asking = true;
    void this.#askOnce().then((againInMs) => {
      if (this.#wanted.length === 0) {
        this.#asking = false;
        return;
      }
      this.#cancelTimer = this.#clock.setTimer(() => {
        this.#asking = false;
        this.#ask();
      }, againInMs);
    });
  }

  /** @returns when to ask again, in milliseconds */
  async #askOnce(): Promise<number> {
    // Who wants permits in this turn of the event loop asks together.
    await new Promise<void>((resolve) => void setImmediate(resolve));
    const count = this.#wanted.reduce((sum, one) => sum + one.count, 0);
    const askedAt = this.#clock.monotonic();
    const budget = { requests: this.#requests, perMs: Math.ceil(this.#perMs + this.#lateMs) };
    try {
      const { permits, retryInMs } = await this.#takePermits(budget, count);
      if (this.#closed) return 0;
      const tookMs = this.#clock.monotonic() - askedAt;
      if (tookMs > this.#lateMs) {
        // Too old to be used. The store may stay as slow as this; then the window has to be longer by so much.
        this.#lateMs = Math.min(2 * tookMs, MOST_LATE_MS);
        return 0;
      }
      this.#deliver(permits);
      return retryInMs;
    } catch (cause) {
      const wanted = this.#wanted;
      this.#wanted = [];
      const message = "the store cannot be asked whether a request may start";
      for (const one of wanted) one.failed(one.count, new RetryLaterError(RETRY_MS, message, { cause }));
      return 0;
    }
  }

  #deliver(permits: number): void {
    for (let left = permits; left > 0;) {
      const [first] = this.#wanted;
      if (first === undefined) return;
      const count = Math.min(left, first.count);
      first.count -= count;
      left -= count;
      if (first.count === 0) this.#wanted.shift();
      first.granted(count);
    }
  }
}
