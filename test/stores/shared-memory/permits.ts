import type { PermitGrant, RateBudget } from "../../../src/core/store.ts";

/** Configured rates: when each permit of the last span was given, by connection. */
export class Permits {
  readonly #given = new Map<string, number[]>();

  take({ connection, perMs, provider, requests }: RateBudget, wanted: number, now: number): PermitGrant {
    const key = JSON.stringify([provider, connection]);
    const young = (this.#given.get(key) ?? []).filter((at) => at + perMs > now);
    const permits = Math.min(wanted, Math.max(0, requests - young.length));
    const given = [...young, ...Array.from({ length: permits }, () => now)];
    this.#given.set(key, given);
    // By then the oldest that is in the way has come back.
    const oldest = given[given.length - requests] ?? now;
    return { permits, retryInMs: permits === wanted ? 0 : oldest + perMs - now };
  }
}
