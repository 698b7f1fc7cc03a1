/**
 * Pauses of connections: kept in the store, so that they hold for all processes, and told once.
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
  /** Ends of pauses that this process knows of, so that thirty refused requests pause once. */
  readonly #until = new Map<string, number>();
  readonly #refusals = new Map<string, number>();

  constructor(store: Store<unknown>, clock: Clock, hooks: Hooks) {
    this.#store = store;
    this.#clock = clock;
    this.#hooks = hooks;
  }

  /** Stops work on a connection for `delayMs`, or (`null`) until it is resumed. */
  async pause(provider: string, connection: string, delayMs: number | null, reason: string): Promise<void> {
    const key = keyOf(provider, connection);
    const until = delayMs === null ? null : this.#clock.now() + delayMs;
    if ((this.#until.get(key) ?? 0) >= (until ?? Infinity)) return;
    this.#until.set(key, until ?? Infinity);
    await this.#store.pause({ provider, connection, until, reason });
    this.#hooks.emit("connection.paused", { provider, connection, until, reason });
  }

  /** The API refused the credentials: pauses, for longer each time, until a probe succeeds. */
  async credentialsRefused(provider: string, connection: string, reason: string): Promise<void> {
    const key = keyOf(provider, connection);
    if ((this.#until.get(key) ?? 0) > this.#clock.now()) return;
    const refusals = this.#refusals.get(key) ?? 0;
    this.#refusals.set(key, refusals + 1);
    await this.pause(provider, connection, Math.min(FIRST_PROBE_MS * 2 ** refusals, MAX_PROBE_MS), reason);
  }

  /** The API answered: earlier refusals are forgotten. */
  answered(provider: string, connection: string): void {
    if (this.#refusals.size > 0) this.#refusals.delete(keyOf(provider, connection));
  }

  async resume(provider: string, connection: string): Promise<void> {
    this.#until.delete(keyOf(provider, connection));
    this.#refusals.delete(keyOf(provider, connection));
    await this.#store.resume(provider, connection);
    this.#hooks.emit("connection.resumed", { provider, connection });
  }
}

function keyOf(provider: string, connection: string): string {
  return JSON.stringify([provider, connection]);
}
