/**
 * A poll source at work: the feeds of all its connections, in one process at a time.
 *
 * The process that has the source's lock polls for all. One lock for a source, and not one for each connection, because
 * locks are renewed, and asked for, all the time; polling itself is light work.
 *
 * @module
 */

import { abortable } from "./abortable.ts";
import { sleep } from "./clock.ts";
import { Deadlines } from "./deadline.ts";
import { invalidOption } from "./errors.ts";
import { Feed, type FeedParts } from "./feed.ts";
import type { AnyProvider } from "./provider.ts";
import { pollDefinition, type PollDefinition } from "./poll-source.ts";
import { asError } from "./retry.ts";
import { ScopeLocks } from "./scope-lock.ts";
import { Semaphore } from "./semaphore.ts";
import type { Sink, Source } from "./source.ts";

export interface PollerParts extends Omit<FeedParts, "deadlines"> {
  /** Opens the store if it is not open yet. */
  readonly ready: () => Promise<void> | undefined;
  /** All connections of a provider, the user's and the store's. */
  readonly connectionsOf: (provider: string) => Promise<readonly string[]>;
}

/** Polls of one source under way at once. */
const POLLS_AT_ONCE = 8;
/** How often connections are looked up anew. */
const LOOK_MS = 60_000;

interface Polling {
  readonly stop: AbortController;
  readonly over: Promise<void>;
}

export class Poller implements Source {
  readonly name: string;
  readonly #definition: PollDefinition;
  readonly #parts: PollerParts;
  readonly #locks: ScopeLocks;
  readonly #deadlines: Deadlines;
  readonly #permits = new Semaphore(POLLS_AT_ONCE);
  /** What is remembered of each connection between two ticks. */
  readonly #feeds = new Map<string, Feed>();
  /** Connections that are polled now. */
  readonly #polling = new Map<string, Polling>();

  constructor(definition: PollDefinition, parts: PollerParts) {
    const { clock, limits, store } = parts;
    this.name = definition.name;
    this.#definition = definition;
    this.#parts = parts;
    this.#locks = new ScopeLocks({ store, clock, ttlMs: limits.leaseMs });
    this.#deadlines = new Deadlines(clock);
  }

  get provider(): string {
    return this.#definition.provider;
  }

  /** Waits for its turn among the processes, and polls until the signal aborts. */
  async run(_sink: Sink, signal: AbortSignal): Promise<void> {
    await this.#parts.ready();
    await this.#locks.run(this.#lock, signal, (_lock, held) => this.#keepPolling(held));
  }

  /** Polls what is due, once; nothing where another process has the lock. Ends early when the signal aborts. */
  async runDue(signal: AbortSignal): Promise<void> {
    await this.#locks.tryRun(this.#lock, signal, async (_lock, held) => {
      const connections = await abortable(this.#connections(), held); // a tick has no time for a list that hangs
      this.#forgetAllBut(connections);
      const starting = connections.map((connection) =>
        this.#begin(connection, held, (feed, stop) => this.#once(feed, stop)),
      );
      await Promise.all(starting);
    });
  }

  /** Polls a connection no more, until it is looked up again, and resolves when it does not. */
  async forget(connection: string): Promise<void> {
    const polling = this.#polling.get(connection);
    polling?.stop.abort(new Error("the connection is forgotten"));
    await polling?.over;
    this.#feeds.delete(connection);
  }

  async #keepPolling(signal: AbortSignal): Promise<void> {
    const { clock, hooks } = this.#parts;
    try {
      for (;;) {
        const connections = await abortable(this.#connections(), signal).catch((thrown: unknown) => {
          signal.throwIfAborted();
          // Those that are known are polled on.
          const during = `listing the connections of ${this.provider}`;
          hooks.emit("error", { error: asError(thrown), during });
          return [...this.#polling.keys()];
        });
        this.#forgetAllBut(connections);
        for (const connection of connections)
          void this.#begin(connection, signal, (feed, stop) => this.#again(feed, stop));
        await sleep(clock, LOOK_MS, signal);
      }
    } finally {
      await Promise.all(Array.from(this.#polling.values(), ({ over }) => over));
    }
  }

  /** Runs a connection's feed, unless it runs already. Never rejects. */
  #begin(
    connection: string,
    signal: AbortSignal,
    run: (feed: Feed, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const running = this.#polling.get(connection);
    if (running !== undefined) return running.over;
    const feed = this.#feeds.get(connection) ?? this.#newFeed(connection);
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const over = run(feed, both)
      .catch((thrown: unknown) => {
        if (both.aborted) return;
        this.#parts.hooks.emit("error", { error: asError(thrown), during: `polling ${this.name}` });
      })
      .finally(() => this.#polling.delete(connection));
    this.#polling.set(connection, { stop, over });
    return over;
  }

  async #again(feed: Feed, signal: AbortSignal): Promise<void> {
    await feed.load();
    for (;;) {
      if (feed.dueInMs > 0) await sleep(this.#parts.clock, feed.dueInMs, signal);
      await this.#turn(feed, signal, false);
    }
  }

  async #once(feed: Feed, signal: AbortSignal): Promise<void> {
    await feed.load();
    if (feed.dueInMs === 0) await this.#turn(feed, signal, true);
  }

  async #turn(feed: Feed, signal: AbortSignal, remember: boolean): Promise<void> {
    if (!this.#permits.tryAcquire()) await this.#permits.acquire();
    try {
      signal.throwIfAborted();
      await feed.turn(signal, { remember });
    } finally {
      this.#permits.release();
    }
  }

  #newFeed(connection: string): Feed {
    const feed = new Feed(this.#definition, connection, { ...this.#parts, deadlines: this.#deadlines });
    this.#feeds.set(connection, feed);
    return feed;
  }

  #forgetAllBut(connections: readonly string[]): void {
    const known = new Set(connections);
    for (const connection of this.#feeds.keys()) if (!known.has(connection)) void this.forget(connection);
  }

  async #connections(): Promise<readonly string[]> {
    return this.#definition.connections ?? (await this.#parts.connectionsOf(this.provider));
  }

  get #lock(): string {
    return `poll:${this.name}:lock`;
  }
}

/** The sources as they are run: poll sources with what they need from the engine. @throws TrueupError `OPTION_INVALID` */
export function withPollers(
  sources: readonly Source[],
  providers: ReadonlyMap<string, AnyProvider>,
  parts: PollerParts,
): { readonly sources: readonly Source[]; readonly pollers: readonly Poller[] } {
  const pollers = new Map<string, Poller>();
  const runnable = sources.map((source) => {
    const definition = pollDefinition(source);
    if (definition === undefined) {
      // Its messages would come again and again, and never be read.
      if (source.provider !== undefined && providers.get(source.provider)?.webhook === undefined)
        throw invalidOption(
          `source "${source.name}": no provider named ${JSON.stringify(source.provider)} has a \`webhook\` to read messages with`,
        );
      return source;
    }
    const { name, provider } = definition;
    if (!providers.has(provider))
      throw invalidOption(`pollSource: no provider is named ${JSON.stringify(provider)}`);
    if (pollers.has(name))
      throw invalidOption(`two poll sources are named "${name}": give one another \`name\``);
    const poller = new Poller(definition, parts);
    pollers.set(name, poller);
    return poller;
  });
  return { sources: runnable, pollers: [...pollers.values()] };
}
