/**
 * Waking those who wait for work: scripts that make work ready say so on a channel.
 *
 * @module
 */

import type { Logger } from "../../core/hooks.ts";
import type { RedisClient } from "./client.ts";

/** Listens on a connection of its own, from the first listener to the last. Without it, workers find work by looking. */
export class Subscription {
  readonly #client: RedisClient;
  readonly #channel: string;
  readonly #logger: Logger;
  readonly #listeners = new Set<() => void>();
  #subscriber: RedisClient | undefined;

  constructor(client: RedisClient, channel: string, logger: Logger) {
    this.#client = client;
    this.#channel = channel;
    this.#logger = logger;
  }

  add(listener: () => void): () => void {
    // A function of its own, so that one listener that is added twice is heard twice.
    const heard = () => listener();
    this.#listeners.add(heard);
    this.#subscriber ??= this.#subscribe();
    return () => {
      this.#listeners.delete(heard);
      if (this.#listeners.size === 0) this.close();
    };
  }

  close(): void {
    this.#subscriber?.disconnect();
    this.#subscriber = undefined;
  }

  #subscribe(): RedisClient {
    // By itself a client subscribes again before it says that it is ready, and nobody catches what comes of it: where the
    // connection is gone by then, that would end the process. (A cluster's catches it.)
    const single: { duplicate(override: { autoResubscribe: false }): RedisClient } = this.#client;
    const subscriber = this.#client.isCluster
      ? this.#client.duplicate()
      : single.duplicate({ autoResubscribe: false });
    const tell = () => {
      for (const listener of this.#listeners) listener();
    };
    subscriber.on("message", tell);
    // What was said while there was no connection was not heard: subscribing again is reason to look.
    subscriber.on("ready", () => {
      subscriber.subscribe(this.#channel).then(tell, (error: unknown) => {
        this.#logger.warn(
          { error, channel: this.#channel },
          "Redis does not let the store subscribe: workers find what others bring by polling",
        );
      });
    });
    // Its connection breaks and comes back by itself; the store's own tells of the trouble.
    subscriber.on("error", () => {});
    if (subscriber.status === "wait") subscriber.connect().catch(() => {});
    return subscriber;
  }
}
