/**
 * A configured rate: permits to start, handed out by Bottleneck.
 *
 * @module
 */

import Bottleneck from "bottleneck";
import type { Clock } from "../core/clock.ts";
import { SlidingWindow } from "./sliding-window.ts";

/** Bottleneck starts some 350 jobs a second, whatever they are; permits are taken in blocks to stay well below. */
const JOBS_PER_SECOND = 100;
/** Telling it of permits that came back costs about as much as a job, so that is not done more often than this. */
const REFILL_MS = 5;

/** A permit in use, by one call. */
export interface Permit {
  /**
   * The request is about to leave.
   * @returns false where the permit cannot be used any more, or has been: then it must not leave without another
   */
  readonly leave: () => boolean;
  /** The request is answered, or has failed. */
  readonly seen: () => void;
}

/** Who lets calls start under a configured rate. */
export interface Gate {
  /** How many permits to wait for at once. */
  readonly block: number;
  /** How many of the permits that are wanted to take at once. */
  worthAsking(wanted: number): number;
  /**
   * Calls back as permits come, until `count` have, with how many; the callback then owns them. `failed` takes the place
   * of those that cannot come. Neither is called after {@link close}.
   */
  take(count: number, granted: (count: number) => void, failed: (count: number, error: Error) => void): void;
  /** Uses one permit now; to be called within `granted`. */
  start(): Permit;
  /** Takes permits back that nothing was started with. */
  giveBack(count: number): void;
  /** Whether forgetting this gate forgets nothing. */
  idle(): boolean;
  close(): void;
}

/**
 * Bottleneck keeps the reservoir of permits and the queue for them. When a permit comes back is ours to say (see
 * {@link SlidingWindow}), since Bottleneck's refresh at intervals lets twice the rate through around each of them.
 *
 * Has no timer while nobody waits, so that an idle limiter keeps no process alive.
 */
export class RateGate implements Gate {
  readonly block: number;
  readonly #reservoir: Bottleneck;
  readonly #window: SlidingWindow;
  readonly #clock: Clock;
  /** What the reservoir holds and nobody has asked for; below zero where more is asked for. */
  #free: number;
  #waiting = 0;
  #cancelTimer: (() => void) | undefined;
  #refilledAt = Number.NEGATIVE_INFINITY;

  constructor(requests: number, perMs: number, clock: Clock) {
    this.block = Math.min(requests, Math.max(1, Math.ceil(((requests / perMs) * 1_000) / JOBS_PER_SECOND)));
    this.#free = requests;
    this.#reservoir = new Bottleneck({ reservoir: requests });
    this.#window = new SlidingWindow(requests, perMs);
    this.#clock = clock;
  }

  /** All that are there, or else a block. */
  worthAsking(wanted: number): number {
    this.#refill();
    return Math.min(wanted, Math.max(this.#free, this.block));
  }

  /** Calls back once, when all are there. */
  take(count: number, granted: (count: number) => void): void {
    this.#waiting += 1;
    this.#free -= count;
    this.#rearm();
    this.#reservoir
      // oxlint-disable-next-line typescript/require-await -- Bottleneck wants a promise
      .schedule({ weight: count }, async () => {
        this.#waiting -= 1;
        this.#rearm();
        granted(count);
      })
      // Only `close` drops jobs, and who waits for them is told by the limiter.
      .catch(() => {});
  }

  start(): Permit {
    const start = this.#window.start(this.#clock.monotonic());
    return {
      leave: () => this.#window.leave(start, this.#clock.monotonic()),
      seen: () => {
        this.#window.seen(start, this.#clock.monotonic());
        this.#rearm();
      },
    };
  }

  giveBack(count: number): void {
    if (count === 0) return;
    this.#free += count;
    void this.#reservoir.incrementReservoir(count);
  }

  /** Whether all permits are back, so that forgetting this gate forgets nothing. */
  idle(): boolean {
    this.#refill();
    return this.#waiting === 0 && this.#window.nextReturn() === undefined;
  }

  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#waiting = 0;
    void this.#reservoir.stop({ dropWaitingJobs: true });
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    const returned = this.#window.returned(now);
    if (returned > 0) this.#refilledAt = now;
    this.giveBack(returned);
    this.#rearm();
  }

  #rearm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const nextAt = this.#waiting > 0 ? this.#window.nextReturn() : undefined;
    if (nextAt === undefined) return;
    const at = Math.max(nextAt, this.#refilledAt + REFILL_MS);
    const delayMs = Math.max(0, Math.ceil(at - this.#clock.monotonic()));
    this.#cancelTimer = this.#clock.setTimer(() => this.#refill(), delayMs);
  }
}
