/**
 * Pauses of connections: kept in the store alone, so that they hold, and end, for all processes, and told once.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { Hooks } from "./hooks.ts";
import type { Store } from "./store.ts";

/** After the API refused a connection's credentials: how long until it is probed, doubling up to {@link MAX_PROBE_MS}. */
const FIRST_PROBE_MS = 60_000;
const MAX_PROBE_MS = 3_600_000;

export class Pauses {
  readonly #store: Store<unknown>;
  readonly #clock: Clock;
  readonly #hooks: Hooks;
  /** The last call for each connection under way: one at a time, so that thirty refused requests pause once. */
  readonly #turns = new Map<string, Promise<void>>();
  readonly #refusals = new Map<string, number>();

  constructor(store: Store<unknown>, clock: Clock, hooks: Hooks) {
    this.#store = store;
    this.#clock = clock;
    this.#hooks = hooks;
  }

  /** Stops work on a connection for `delayMs`, or (`null`) until it is resumed. */
  pause(provider: string, connection: string, delayMs: number | null, reason: string): Promise<void> {
    const until = delayMs === null ? null : this.#clock.now() + delayMs;
    return this.#inTurn(provider, connection, async (paused) => {
      if (paused < (until ?? Infinity)) await this.#pause(provider, connection, until, reason);
    });
  }

  /** The API refused the credentials: pauses, for longer each time, until a probe succeeds. */
  credentialsRefused(provider: string, connection: string, reason: string): Promise<void> {
    return this.#inTurn(provider, connection, async (paused) => {
      const now = this.#clock.now();
      if (paused > now) return;
      const key = keyOf(provider, connection);
      const refusals = this.#refusals.get(key) ?? 0;
      const delayMs = Math.min(FIRST_PROBE_MS * 2 ** refusals, MAX_PROBE_MS);
      await this.#pause(provider, connection, now + delayMs, reason);
      this.#refusals.set(key, refusals + 1);
    });
  }

  /** The API answered: earlier refusals are forgotten. */
  answered(provider: string, connection: string): void {
    if (this.#refusals.size > 0) this.#refusals.delete(keyOf(provider, connection));
  }

  async resume(provider: string, connection: string): Promise<void> {
    this.#refusals.delete(keyOf(provider, connection));
    await this.#store.resume(provider, connection);
    this.#hooks.emit("connection.resumed", { provider, connection });
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
