/**
 * Scopes by number: one for each connection and resource that was ever written of.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
import type { Lock } from "../../core/store.ts";
import type { Database } from "./database.ts";
import { isStaleScope } from "./errors.ts";

/** Above this many the remembered numbers are dropped, so that memory stays bounded over any number of connections. */
const MAX_REMEMBERED = 50_000;

/** How often numbers are asked for again that another process has forgotten meanwhile. */
const TRIES = 5;

export class Scopes {
  readonly #database: Database;
  #remembered = new Map<string, number>();

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Calls with the numbers of scopes, which are created where they are missing; again, with new numbers, when one of them
   * was forgotten.
   *
   * @param lock under which the call is made: once it is lost nothing is created, as for a connection that was forgotten
   */
  async with<T>(
    scopes: readonly Scope[],
    call: (numbers: readonly number[]) => Promise<T>,
    lock?: Lock,
  ): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      const numbers = await this.#demand(scopes, lock);
      try {
        return await call(numbers);
      } catch (error) {
        const { cause } = error as Error;
        if (!isStaleScope(cause) || tries === TRIES) throw error;
        this.#remembered = new Map();
      }
    }
  }

  async #demand(scopes: readonly Scope[], lock: Lock | undefined): Promise<number[]> {
    const keys = scopes.map(keyOf);
    const missing = new Map<string, Scope>();
    for (const [i, scope] of scopes.entries()) {
      const key = keys[i] as string;
      if (!this.#remembered.has(key)) missing.set(key, scope);
    }
    if (missing.size > 0) await this.#fetch(missing, lock);
    return keys.map((key) => this.#remembered.get(key) as number);
  }

  async #fetch(missing: ReadonlyMap<string, Scope>, lock: Lock | undefined): Promise<void> {
    const asked = [...missing.values()];
    const rows = await this.#database.call("demand_scopes", [
      asked.map(({ provider }) => provider),
      asked.map(({ connection }) => connection),
      asked.map(({ resource }) => resource),
      lock?.name ?? null,
      lock?.fence ?? null,
    ]);
    if (this.#remembered.size + missing.size > MAX_REMEMBERED) this.#remembered = new Map();
    const keys = [...missing.keys()];
    for (const [place, n] of rows as [number, number][]) this.#remembered.set(keys[place - 1] as string, n);
  }
}

function keyOf({ provider, connection, resource }: Scope): string {
  return `${provider}\0${connection}\0${resource}`;
}
