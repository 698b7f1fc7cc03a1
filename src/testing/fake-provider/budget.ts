/**
 * The rate limit of a fake provider, and the many ways in which providers speak of theirs.
 *
 * @module
 */

import type { Chances } from "./faults.ts";

/** A fixed window, as most providers have it. */
export interface FakeRateLimit {
  readonly requests: number;
  readonly perMs: number;
}

type Headers = Record<string, string>;

export class RateBudget {
  readonly #limit: FakeRateLimit | undefined;
  #windowFrom = -Infinity;
  #used = 0;
  #stormUntil = -Infinity;
  /** Requests that were refused by the limit, not by a storm. */
  refused = 0;

  constructor(limit: FakeRateLimit | undefined) {
    this.#limit = limit;
  }

  calm(): void {
    this.#stormUntil = -Infinity;
  }

  /** Counts a request. @returns the headers of its refusal, or `undefined` where it may pass */
  take(now: number, providerNow: number, chances: Chances): Headers | undefined {
    if (chances.hits("rateLimit")) this.#stormUntil = now + chances.upTo("rateLimitMs");
    if (now < this.#stormUntil) return stormHeaders(this.#stormUntil - now, providerNow, chances);
    if (this.#limit === undefined) return undefined;
    if (now >= this.#windowFrom + this.#limit.perMs) {
      this.#windowFrom = now;
      this.#used = 0;
    }
    this.#used += 1;
    if (this.#used <= this.#limit.requests) return undefined;
    this.refused += 1;
    const waitMs = this.#windowFrom + this.#limit.perMs - now;
    return { "retry-after": String(Math.ceil(waitMs / 1_000)) };
  }

  /** What every answer says of the budget. */
  headers(now: number, providerNow: number): Headers {
    if (this.#limit === undefined) return {};
    const resetAt = Math.max(this.#windowFrom, now) + this.#limit.perMs;
    return {
      "x-ratelimit-limit": String(this.#limit.requests),
      "x-ratelimit-remaining": String(Math.max(0, this.#limit.requests - this.#used)),
      "x-ratelimit-reset": String(Math.ceil((providerNow + resetAt - now) / 1_000)),
    };
  }
}

/** All that a client may be told to wait by: seconds, a date, nonsense, nothing, or other headers. */
function stormHeaders(leftMs: number, providerNow: number, chances: Chances): Headers {
  const seconds = Math.max(1, Math.ceil(leftMs / 1_000));
  const resetAt = Math.ceil((providerNow + leftMs) / 1_000);
  return chances.pick<() => Headers>([
    () => ({ "retry-after": String(seconds) }),
    () => ({ "retry-after": new Date(providerNow + leftMs).toUTCString() }),
    () => ({ "retry-after": "99999999999999999999" }),
    () => ({ "retry-after": "-5" }),
    () => ({ "retry-after": "soon" }),
    () => ({}),
    () => ({ "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(resetAt) }),
    () => ({ "ratelimit-remaining": "0", "ratelimit-reset": String(seconds) }),
    () => ({ ratelimit: `"default";r=0;t=${seconds}` }),
  ])();
}
