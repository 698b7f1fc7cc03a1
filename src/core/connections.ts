/**
 * Connections: looked up at the user's, checked, and kept for a while.
 *
 * @module
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Clock } from "./clock.ts";
import { Deadlines } from "./deadline.ts";
import { invalidOption, TrueupError } from "./errors.ts";
import { validate } from "./fetcher.ts";
import { isPromise, type MaybePromise } from "./maybe-promise.ts";
import type { Connections } from "./options.ts";
import type { AnyProvider, Connection } from "./provider.ts";
import { textsIn } from "./secrets.ts";
import { isStorable } from "./version.ts";

export const DEFAULT_CONNECTION = "default";

/** How long a connection is used without asking again: credentials that were rotated are taken up within this time. */
const KEEP_MS = 60_000;
/** How long a list may take where nothing else is said. */
const LIST_TIMEOUT_MS = 120_000;
/** Most connections kept at once, and most ids besides that are not known to be any: webhooks can make them up. */
const MOST_KEPT = 10_000;

/** The default where an engine has no `connections`: one account, with empty credentials. */
export const singleConnection: Connections = {
  get: (_provider, id) => (id === DEFAULT_CONNECTION ? { id, credentials: {} } : undefined),
  list: () => [DEFAULT_CONNECTION],
};

interface Kept {
  readonly found: Promise<Connection | undefined>;
  /** By the monotonic clock: one that is set back must not keep credentials alive. */
  until: number;
  /** What was found last; while a look-up is under way, what the one before it found. */
  known: Connection | undefined;
  settled: boolean;
  /** Secrets beside its credentials, by where they came up. */
  readonly learned: Map<string, readonly string[]>;
}

export class ConnectionRegistry {
  readonly #connections: Connections;
  readonly #providers: ReadonlyMap<string, AnyProvider>;
  readonly #clock: Clock;
  readonly #listTimeoutMs: number;
  readonly #deadlines: Deadlines;
  /** Those that were found, the one that was looked up longest ago first. */
  readonly #kept = new Map<string, Kept>();
  /** Ids that nobody knows, or not yet: apart, so that a flood of them drives out no connection and its secrets. */
  readonly #unproven = new Map<string, Kept>();

  /** Most calls ask for the same as the one before, and making its key takes longer than all the rest. */
  #latest = { provider: "", id: "", key: keyOf("", "") };

  /** @param listTimeoutMs how long one call of `connections.list` may take, in milliseconds */
  constructor(
    connections: Connections,
    providers: ReadonlyMap<string, AnyProvider>,
    clock: Clock,
    listTimeoutMs = LIST_TIMEOUT_MS,
  ) {
    this.#connections = connections;
    this.#providers = providers;
    this.#clock = clock;
    this.#listTimeoutMs = listTimeoutMs;
    this.#deadlines = new Deadlines(clock);
  }

  /**
   * A connection with checked credentials, at once where it is known; `undefined` where the user knows none of this id.
   * Callers at the same time share one look-up.
   * @throws TrueupError `CREDENTIALS_INVALID`, or what `connections.get` threw; by rejecting
   */
  find(
    provider: string,
    id: string,
    options: { readonly refresh: boolean } = { refresh: false },
  ): MaybePromise<Connection | undefined> {
    const key = this.#keyOf(provider, id);
    const kept = this.#kept.get(key) ?? this.#unproven.get(key);
    if (kept !== undefined && !options.refresh && kept.until > this.#clock.monotonic())
      return kept.settled ? kept.known : kept.found;
    const found = this.#look(provider, id, options.refresh);
    const entry: Kept = {
      found,
      until: this.#clock.monotonic() + KEEP_MS,
      known: kept?.known,
      learned: kept?.learned ?? new Map<string, readonly string[]>(),
      settled: false,
    };
    this.#keep(key, entry);
    found.then(
      (connection) => {
        entry.known = connection;
        entry.settled = true;
        // Not where it was forgotten or looked up again meanwhile.
        if (this.#kept.get(key) === entry || this.#unproven.get(key) === entry) this.#keep(key, entry);
      },
      () => (entry.until = -Infinity), // the next caller looks again
    );
    return found;
  }

  #keyOf(provider: string, id: string): string {
    if (this.#latest.id !== id || this.#latest.provider !== provider)
      this.#latest = { provider, id, key: keyOf(provider, id) };
    return this.#latest.key;
  }

  #keep(key: string, entry: Kept): void {
    this.#kept.delete(key);
    this.#unproven.delete(key);
    const among = entry.known === undefined ? this.#unproven : this.#kept;
    among.set(key, entry);
    if (among.size > MOST_KEPT) among.delete(among.keys().next().value as string);
  }

  /** @throws TrueupError `CONNECTION_UNKNOWN`, and as {@link find} */
  get(provider: string, id: string, options?: { readonly refresh: boolean }): MaybePromise<Connection> {
    const found = this.find(provider, id, options);
    return isPromise(found)
      ? found.then((connection) => known(connection, provider, id))
      : known(found, provider, id);
  }

  /**
   * @throws TrueupError `OPTION_INVALID` for what can be no connection's id, `API_TIMEOUT` where there is no answer in
   * time, or what `connections.list` threw
   */
  async list(provider: string): Promise<readonly string[]> {
    const answer = await this.#deadlines.run(
      this.#listTimeoutMs,
      "API_TIMEOUT",
      () => `\`connections.list\` of "${provider}"`,
      () => this.#connections.list?.(provider),
    );
    const listed = answer ?? [DEFAULT_CONNECTION];
    for (const id of listed) {
      if (!isConnectionId(id))
        throw invalidOption(
          `connections.list of "${provider}" must give non-empty strings without a NUL or a lone surrogate, not ${JSON.stringify(id)}`,
        );
    }
    return listed;
  }

  /** Lists nothing more, and waits for no list under way: the engine stops. */
  close(reason: Error): void {
    this.#deadlines.abort(reason);
  }

  forget(provider: string, id: string): void {
    const key = keyOf(provider, id);
    this.#kept.delete(key);
    this.#unproven.delete(key);
  }

  /**
   * What is secret about a connection: its credentials as they were found last, and what was learned in its use. Waits
   * for no look-up.
   */
  secrets(provider: string, id: string): ReadonlySet<string> {
    const kept = this.#kept.get(keyOf(provider, id));
    const secrets = textsIn(kept?.known?.credentials);
    for (const texts of kept?.learned.values() ?? []) for (const text of texts) secrets.add(text);
    return secrets;
  }

  /**
   * Notes secrets that came up in the use of a connection: what the provider's functions made for it.
   * @param what where they came up: what was noted for that before is forgotten
   */
  learn(provider: string, id: string, what: string, secrets: readonly string[]): void {
    this.#kept.get(keyOf(provider, id))?.learned.set(what, secrets);
  }

  async #look(provider: string, id: string, refresh: boolean): Promise<Connection | undefined> {
    // It comes from a URL or a message, and no store can keep all that may stand there.
    if (!isConnectionId(id)) return undefined;
    const connection = await this.#connections.get(provider, id, { refresh });
    if (connection === undefined || connection === null) return undefined;
    const schema = this.#providers.get(provider)?.credentials as StandardSchemaV1 | undefined;
    if (schema === undefined) return { id, credentials: connection.credentials as unknown };
    try {
      return { id, credentials: await validate(schema, connection.credentials) };
    } catch (cause) {
      // The schema's own message may quote what it refused: only its path is repeated here.
      const path = (cause as { path?: string }).path;
      throw new TrueupError(
        "CREDENTIALS_INVALID",
        `the credentials of connection ${JSON.stringify(id)} of "${provider}" do not match their schema${path ? ` at ${path}` : ""}`,
      );
    }
  }
}

function isConnectionId(id: unknown): id is string {
  return typeof id === "string" && id !== "" && isStorable(id);
}

function known(connection: Connection | undefined, provider: string, id: string): Connection {
  if (connection !== undefined) return connection;
  throw new TrueupError(
    "CONNECTION_UNKNOWN",
    `connections.get knows no connection ${JSON.stringify(id)} of "${provider}"`,
  );
}

function keyOf(provider: string, id: string): string {
  return `${provider.length}:${provider}${id}`;
}
