/**
 * What can go wrong at a fake provider, and how likely it is.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { Random } from "../../core/clock.ts";

/** Probabilities from 0 (the default of each) to 1; what ends in `Ms` is the most milliseconds that it takes. */
export interface Faults {
  /** A webhook is never sent. */
  readonly dropWebhook: number;
  /** A webhook is sent twice. */
  readonly duplicateWebhook: number;
  /** A webhook waits until the next one was sent. */
  readonly reorderWebhook: number;
  /** A webhook is sent up to `webhookDelayMs` late. */
  readonly delayWebhook: number;
  readonly webhookDelayMs: number;

  /** The API shows a change only up to `lagMs` after it was announced: until then the state before, or 404. */
  readonly lag: number;
  readonly lagMs: number;
  /** One answer shows the object as it was before its last change, from a replica that is behind. Never a deletion. */
  readonly staleRead: number;

  /** A storm of 429 begins, which lasts up to `rateLimitMs`, and says when to come back in one of many ways. */
  readonly rateLimit: number;
  readonly rateLimitMs: number;
  /** An answer is a 500, 502, 503 or 504. */
  readonly serverError: number;
  /** The connection breaks before the answer, or in the middle of it. */
  readonly reset: number;
  /** No answer ever comes. */
  readonly hang: number;
  /** An outage begins, of up to `outageMs`: connections are refused, or all answers are 503. */
  readonly outage: number;
  readonly outageMs: number;

  /** The body is cut off, though the answer claims to be complete. */
  readonly truncatedBody: number;
  /** A page of a list says that its next page is itself. */
  readonly repeatedCursor: number;
  /** A cursor of a list, or of the event feed, is refused as expired: 410, 404 or 400. */
  readonly expiredCursor: number;
  /** `since` is ignored, and all objects are listed. */
  readonly ignoredFilter: number;
  /** Rows are missing from a page, and nothing tells. */
  readonly missingRows: number;
}

export type FaultName = keyof Faults;

/** A provider without any. */
export const noFaults: Faults = {
  dropWebhook: 0,
  duplicateWebhook: 0,
  reorderWebhook: 0,
  delayWebhook: 0,
  webhookDelayMs: 10_000,
  lag: 0,
  lagMs: 5_000,
  staleRead: 0,
  rateLimit: 0,
  rateLimitMs: 10_000,
  serverError: 0,
  reset: 0,
  hang: 0,
  outage: 0,
  outageMs: 30_000,
  truncatedBody: 0,
  repeatedCursor: 0,
  expiredCursor: 0,
  ignoredFilter: 0,
  missingRows: 0,
};

/** Rolls the dice over faults that may change while it is in use. */
export class Chances {
  readonly random: Random;
  #faults: Faults = noFaults;

  constructor(random: Random) {
    this.random = random;
  }

  /** @throws TrueupError `OPTION_INVALID`, naming the fault */
  set(faults: Partial<Faults>): void {
    const merged: Record<string, number> = { ...this.#faults };
    for (const [name, value] of Object.entries(faults)) {
      const most = name.endsWith("Ms") ? Infinity : 1;
      if (!Object.hasOwn(noFaults, name) || !(value >= 0 && value <= most)) {
        throw new TrueupError("OPTION_INVALID", `\`faults.${name}\` cannot be ${String(value)}`);
      }
      merged[name] = value;
    }
    this.#faults = merged as unknown as Faults;
  }

  clear(): void {
    this.#faults = noFaults;
  }

  /** Whether this fault happens now. What cannot happen costs no roll. */
  hits(name: Exclude<FaultName, `${string}Ms`>): boolean {
    const probability = this.#faults[name];
    return probability > 0 && this.random() < probability;
  }

  /** Some milliseconds up to what the faults say. */
  upTo(name: Extract<FaultName, `${string}Ms`>): number {
    return Math.ceil(this.random() * this.#faults[name]);
  }

  pick<T>(items: readonly [T, ...T[]]): T {
    return items[Math.floor(this.random() * items.length)] ?? items[0];
  }
}
