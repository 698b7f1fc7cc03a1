import type { PermitGrant, RateBudget } from "../../../src/core/store.ts";

/** Configured rates: until when each permit counts that was given, by connection. */
export class Permits {
  readonly #counting = new Map<string, number[]>();

  take({ connection, perMs, provider, requests }: RateBudget, wanted: number, now: number): PermitGrant {
    const key = JSON.stringify([provider, connection]);
    const before = (this.#counting.get(key) ?? []).filter((until) => until > now);
    const permits = Math.min(wanted, Math.max(0, requests - before.length));
    const given = Array.from({ length: permits }, () => now + perMs);
    const counting = [...before, ...given].toSorted((a, b) => a - b);
    this.#counting.set(key, counting);
    // By then so many have come back that one more can be given.
    const back = counting[Math.max(0, counting.length - requests)] ?? now;
    return { permits, retryInMs: permits === wanted ? 0 : Math.min(perMs, back - now) };
  }
}
