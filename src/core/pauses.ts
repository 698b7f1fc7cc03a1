/**
 * Pauses of connections: kept in the store alone, so that they hold, and end, for all processes, and told once.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { ConnectionRef, Hooks } from "./hooks.ts";
import type { AfterFailure } from "./retry.ts";
import type { Store } from "./store.ts";

/** How long until a connection is probed on which nothing works; doubling each time, up to `mostMs`. */
const PROBES = {
  /** Somebody has to mend them. */
  credentials: { firstMs: 60_000, mostMs: 3_600_000 },
  /** An outage ends by itself, and nobody should wait much longer than it lasts. */
  unreachable: { firstMs: 2_000, mostMs: 300_000 },
} as const;

/** A pause that would end only so much later is none of its own: thirty refusals of one moment pause once. */
const SLACK_MS = 1_000;

/** What is remembered of a connection until its API answers. */
interface Trouble {
  /** Requests in a row that got no usable answer. */
  unanswered: number;
  readonly probes: Record<keyof typeof PROBES, number>;
}

export class Pauses {
  readonly #store: Store<unknown>;
  readonly #clock: Clock;
  readonly #hooks: Hooks;
  /** The last call for each connection under way: one at a time, so that thirty refused requests pause once. */
  readonly #turns = new Map<string, Promise<void>>();
  readonly #troubles = new Map<string, Trouble>();

  constructor(store: Store<unknown>, clock: Clock, hooks: Hooks) {
    this.#store = store;
    this.#clock = clock;
    this.#hooks = hooks;
  }

  /** Stops work on a connection for `delayMs`, or (`null`) until it is resumed. */
  pause(provider: string, connection: string, delayMs: number | null, reason: string): Promise<void> {
    const until = delayMs === null ? null : this.#clock.now() + delayMs;
    return this.#inTurn(provider, connection, async (paused) => {
      const inForce = paused > this.#clock.now();
      if (inForce && paused + SLACK_MS >= (until ?? Infinity)) return;
      await this.#pause(provider, connection, until, reason);
    });
  }

  /** Pauses as the switch over failures says. */
  obey(
    { provider, connection }: ConnectionRef,
    after: Extract<AfterFailure, { kind: "pause" }>,
    reason: string,
  ): Promise<void> {
    switch (after.why) {
      case "rate-limit":
        return this.pause(provider, connection, after.delayMs, "rate-limit");
      case "credentials":
        return this.credentialsRefused(provider, connection, reason);
      case "unreachable":
        return this.unreachable(provider, connection, reason);
    }
  }

  /** The API refused the credentials: pauses, for longer each time, until a probe succeeds. */
  credentialsRefused(provider: string, connection: string, reason: string): Promise<void> {
    return this.#probeLater(provider, connection, "credentials", reason);
  }

  /** The API cannot be reached: the same, with shorter pauses. */
  unreachable(provider: string, connection: string, reason: string): Promise<void> {
    return this.#probeLater(provider, connection, "unreachable", reason);
  }

  /** A request got no usable answer. @returns how many in a row that makes */
  unanswered(provider: string, connection: string): number {
    const trouble = this.#troubleOf(provider, connection);
    trouble.unanswered += 1;
    return trouble.unanswered;
  }

  /** The API answered: earlier trouble is forgotten. */
  answered(provider: string, connection: string): void {
    if (this.#troubles.size > 0) this.#troubles.delete(keyOf(provider, connection));
  }

  async resume(provider: string, connection: string): Promise<void> {
    this.#troubles.delete(keyOf(provider, connection));
    await this.#store.resume(provider, connection);
    this.#hooks.emit("connection.resumed", { provider, connection });
  }

  #probeLater(provider: string, connection: string, why: keyof typeof PROBES, reason: string): Promise<void> {
    return this.#inTurn(provider, connection, async (paused) => {
      const now = this.#clock.now();
      if (paused > now) return;
      const { probes } = this.#troubleOf(provider, connection);
      const { firstMs, mostMs } = PROBES[why];
      await this.#pause(provider, connection, now + Math.min(firstMs * 2 ** probes[why], mostMs), reason);
      probes[why] += 1;
    });
  }

  #troubleOf(provider: string, connection: string): Trouble {
    const key = keyOf(provider, connection);
    const known = this.#troubles.get(key) ?? { unanswered: 0, probes: { credentials: 0, unreachable: 0 } };
    this.#troubles.set(key, known);
    return known;
  }

  async #pause(provider: string, connection: string, until: number | null, reason: string): Promise<void> {
    await this.#store.pause({ provider, connection, until, reason });
    this.#hooks.emit("connection.paused", { provider, connection, until, reason });
  }

  /** Runs after the calls before it, with the end of the pause in force: another process may have resumed. */
  async #inTurn(
    provider: string,
    connection: string,
    run: (pausedUntil: number) => Promise<void>,
  ): Promise<void> {
    const key = keyOf(provider, connection);
    const before = this.#turns.get(key);
    const turn = (async () => {
      await before?.catch(() => {}); // its own caller hears of it
      const pauses = await this.#store.pauses();
      const found = pauses.find((pause) => pause.provider === provider && pause.connection === connection);
      await run(found === undefined ? 0 : (found.until ?? Infinity));
    })();
    this.#turns.set(key, turn);
    try {
      await turn;
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    }
  }
}

function keyOf(provider: string, connection: string): string {
  return JSON.stringify([provider, connection]);
}
