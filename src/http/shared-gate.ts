/**
 * A rate that several processes share: permits come from their store, in blocks.
 *
 * @module
 */

import type { Clock } from "../core/clock.ts";
import { RetryLaterError } from "../core/errors.ts";
import type { PermitGrant } from "../core/store.ts";
import type { Gate, Permit } from "./rate-gate.ts";

/** Asks for permits to start requests, of which no more are given out than the rate says, to whomever. */
export type TakePermits = (
  budget: { readonly requests: number; readonly perMs: number },
  wanted: number,
) => Promise<PermitGrant>;

/**
 * A permit counts from when the store gives it, and what it is for leaves later: when the answer is here, and a
 * connection, and this process has time. So a permit is used within so much of being asked for or not at all, and the
 * store counts it for so much longer: whichever moment of the time it had a request left at, the permit still counts
 * one window later. So no window has more requests leave than the rate says, over all processes.
 *
 * What that costs of the rate is as little as the delays that are met allow, and at least this share of the window.
 */
const LATE_SHARE = 0.05;
const LATE_MS = 1_000;
const MOST_LATE_MS = 10_000;
/** How fast delays are forgotten that are met no more: by so much with each that is shorter. */
const FORGETTING = 0.9;
/** Stores count in whole milliseconds. */
const TICK_MS = 1;

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
  readonly #leastLateMs: number;
  /** How long permits may be used that are asked for now. */
  #lateMs: number;
  readonly #takePermits: TakePermits;
  readonly #clock: Clock;
  #wanted: Wanted[] = [];
  /** When those that are being handed on were asked for, and how long they may be used. */
  #askedAt = 0;
  #usableMs = 0;
  #asking = false;
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  constructor(requests: number, perMs: number, takePermits: TakePermits, clock: Clock) {
    this.#requests = requests;
    this.#perMs = perMs;
    this.#leastLateMs = Math.min(perMs * LATE_SHARE, LATE_MS);
    this.#lateMs = this.#leastLateMs;
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

  start(): Permit {
    const [askedAt, usableMs] = [this.#askedAt, this.#usableMs];
    let used = false;
    return {
      leave: () => {
        const usable = !used && this.#metDelay(askedAt) <= usableMs;
        used = true;
        return usable;
      },
      seen() {},
    };
  }

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
    const usableMs = this.#lateMs;
    const budget = { requests: this.#requests, perMs: Math.ceil(this.#perMs + usableMs) + TICK_MS };
    try {
      const { permits, retryInMs } = await this.#takePermits(budget, count);
      if (this.#closed) return 0;
      if (this.#metDelay(askedAt) > usableMs) return 0;
      [this.#askedAt, this.#usableMs] = [askedAt, usableMs];
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

  /** How long permits have been on their way; those that are asked for next may be so for longer. */
  #metDelay(askedAt: number): number {
    const delayMs = this.#clock.monotonic() - askedAt;
    const lateMs = Math.max(this.#leastLateMs, 2 * delayMs, FORGETTING * this.#lateMs);
    this.#lateMs = Math.min(lateMs, MOST_LATE_MS);
    return delayMs;
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
