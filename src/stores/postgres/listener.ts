/**
 * Hearing of work: notifications of the server, on a connection of their own.
 *
 * They only save waiting: while the connection is lost, or where there can be none, workers poll.
 *
 * @module
 */

import { Client, type ClientConfig } from "pg";
import { type Random, sleep, systemClock } from "../../core/clock.ts";
import type { Logger } from "../../core/hooks.ts";

/** Between tries to connect again, doubled from try to try. */
const RECONNECT_MIN_MS = 100;
const RECONNECT_MAX_MS = 10_000;

interface ListenerOptions {
  readonly channel: string;
  /** How to connect; `undefined`: there can be no notifications. */
  readonly config: ClientConfig | undefined;
  readonly random: Random;
  readonly logger: Logger;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #again: NodeJS.Immediate | undefined;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  subscribe(listener: () => void): () => void {
    const own = () => listener(); // the same function may be given twice
    this.#listeners.add(own);
    if (this.#options.config !== undefined) this.#running ??= this.#run(this.#options.config);
    return () => void this.#listeners.delete(own);
  }

  /** Tells the listeners of this process, soon. */
  tell(): void {
    this.#again ??= setImmediate(() => {
      this.#again = undefined;
      for (const listener of this.#listeners) listener();
    });
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    clearImmediate(this.#again);
    this.#stop.abort();
    await this.#running;
  }

  async #run(config: ClientConfig): Promise<void> {
    const { logger, random } = this.#options;
    const { signal } = this.#stop;
    const stopped = aborted(signal);
    for (let failures = 0; !signal.aborted; failures += 1) {
      const client = new Client({ ...config, keepAlive: true });
      const ended = new Promise<void>((resolve) => client.once("end", resolve));
      client.on("error", () => {}); // "end" follows
      client.on("notification", () => this.tell());
      try {
        await Promise.race([this.#listenOn(client), stopped]);
        failures = 0;
        await Promise.race([ended, stopped]);
      } catch (error) {
        if (failures === 0)
          logger.warn(
            { error },
            "no notifications from PostgreSQL now: idle workers poll, and it is tried again",
          );
      }
      const ending = client.end().catch(() => {});
      await Promise.race([ending, stopped]); // who closes does not wait for a server that does not answer
      const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(failures, 10));
      // A connection's delays are the world's, and pass by its clock.
      await sleep(systemClock, delayMs * (0.5 + random() / 2), signal).catch(() => {});
    }
  }

  async #listenOn(client: Client): Promise<void> {
    await client.connect();
    await client.query(`LISTEN ${this.#options.channel}`);
    this.tell(); // of what came while nobody listened
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
