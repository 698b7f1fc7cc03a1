/**
 * The credentials of one connection: looked up, and looked up afresh when the provider refuses them.
 *
 * @module
 */

import { isPromise, type MaybePromise } from "../core/maybe-promise.ts";
import type { Connection } from "../core/provider.ts";

/** The engine's look-up of connections, cached and checked there. */
export type FindConnection = (options: { readonly refresh: boolean }) => MaybePromise<Connection>;

/** A connection as a request used it. */
export interface Held {
  readonly connection: Connection;
  /** How many refreshes had succeeded by then. */
  readonly refreshes: number;
}

/** However many requests are refused at once, one refresh serves them all. */
export class Credentials {
  readonly #find: FindConnection;
  #held: Held | undefined;
  #refreshing: Promise<void> | undefined;

  constructor(find: FindConnection) {
    this.#find = find;
  }

  /** Asks the engine, whose cache knows when to look again. */
  load(): MaybePromise<Held> {
    const refreshes = this.#held?.refreshes ?? 0;
    const found = this.#find({ refresh: false });
    return isPromise(found)
      ? found.then((connection) => this.#loaded(connection, refreshes))
      : this.#loaded(found, refreshes);
  }

  #loaded(connection: Connection, refreshes: number): Held {
    const current = this.#held;
    // A refresh that ended meanwhile knows better.
    if (current !== undefined && (current.refreshes > refreshes || current.connection === connection))
      return current;
    this.#held = { connection, refreshes };
    return this.#held;
  }

  /** The newest known; asks only where none is. */
  async held(): Promise<Held> {
    return this.#held ?? (await this.load());
  }

  /** What is known without asking. */
  peek(): Connection | undefined {
    return this.#held?.connection;
  }

  /** Replaces credentials that were refused, unless a refresh has replaced them since they were used. */
  refresh(refused: Held): Promise<void> {
    if ((this.#held?.refreshes ?? 0) > refused.refreshes) return Promise.resolve();
    this.#refreshing ??= this.#replace(refused.refreshes + 1).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #replace(refreshes: number): Promise<void> {
    this.#held = { connection: await this.#find({ refresh: true }), refreshes };
  }
}
