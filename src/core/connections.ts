/**
 * Connections: looked up at the user's, checked, and kept for a while.
 *
 * @module
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Clock } from "./clock.ts";
import { TrueupError } from "./errors.ts";
import { validate } from "./fetcher.ts";
import type { Connections } from "./options.ts";
import type { AnyProvider, Connection } from "./provider.ts";

export const DEFAULT_CONNECTION = "default";

/** How long a connection is used without asking again: credentials that were rotated are taken up within this time. */
const KEEP_MS = 60_000;
/** Most connections kept at once, unknown ones included, so that made-up ids in webhooks cannot fill the memory. */
const MOST_KEPT = 10_000;

/** The default where an engine has no `connections`: one account, with empty credentials. */
export const singleConnection: Connections = {
  get: (_provider, id) => (id === DEFAULT_CONNECTION ? { id, credentials: {} } : undefined),
  list: () => [DEFAULT_CONNECTION],
};

interface Kept {
  readonly found: Promise<Connection | undefined>;
  until: number;
  /** What was found last; while a look-up is under way, what the one before it found. */
  known: Connection | undefined;
}

export class ConnectionRegistry {
  readonly #connections: Connections;
  readonly #providers: ReadonlyMap<string, AnyProvider>;
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();

  constructor(connections: Connections, providers: ReadonlyMap<string, AnyProvider>, clock: Clock) {
    this.#connections = connections;
    this.#providers = providers;
    this.#clock = clock;
  }

  /**
   * A connection with checked credentials; `undefined` where the user knows none of this id. Callers at the same time
   * share one look-up.
   * @throws TrueupError `CREDENTIALS_INVALID`, or what `connections.get` threw
   */
  find(
    provider: string,
    id: string,
    options: { readonly refresh: boolean } = { refresh: false },
  ): Promise<Connection | undefined> {
    const key = JSON.stringify([provider, id]);
    const kept = this.#kept.get(key);
    if (kept !== undefined && !options.refresh && kept.until > this.#clock.now()) return kept.found;
    const found = this.#look(provider, id, options.refresh);
    const entry: Kept = { found, until: this.#clock.now() + KEEP_MS, known: kept?.known };
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    found.then(
      (connection) => (entry.known = connection),
      () => (entry.until = 0), // the next caller looks again
    );
    if (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value as string);
    return found;
  }

  /** @throws TrueupError `CONNECTION_UNKNOWN`, and as {@link find} */
  async get(provider: string, id: string, options?: { readonly refresh: boolean }): Promise<Connection> {
    const connection = await this.find(provider, id, options);
    if (connection === undefined) {
      throw new TrueupError(
        "CONNECTION_UNKNOWN",
        `connections.get knows no connection ${JSON.stringify(id)} of "${provider}"`,
      );
    }
    return connection;
  }

  async list(provider: string): Promise<readonly string[]> {
    return (await this.#connections.list?.(provider)) ?? [DEFAULT_CONNECTION];
  }

  forget(provider: string, id: string): void {
    this.#kept.delete(JSON.stringify([provider, id]));
  }

  /** Replaces credentials of a connection in a text that leaves the process (I12). Waits for no look-up. */
  async redact(provider: string, id: string, text: string): Promise<string> {
    const known = this.#kept.get(JSON.stringify([provider, id]))?.known;
    if (known === undefined) return text;
    // The longest first: one secret may begin another, whose rest would be left standing.
    return [...secretsIn(known.credentials)]
      .toSorted((a, b) => b.length - a.length)
      .reduce((t, secret) => t.replaceAll(secret, "[redacted]"), text);
  }

  async #look(provider: string, id: string, refresh: boolean): Promise<Connection | undefined> {
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

/** Short strings are more likely flags than secrets, and replacing them would garble every message. */
const SHORTEST_SECRET = 6;

/** Without a schema, credentials may be anything: an SDK's client with circles in it, say. */
function secretsIn(
  credentials: unknown,
  secrets = new Set<string>(),
  visited = new Set<object>(),
): Set<string> {
  if (typeof credentials === "string") {
    if (credentials.length >= SHORTEST_SECRET) secrets.add(credentials);
  } else if (typeof credentials === "object" && credentials !== null && !visited.has(credentials)) {
    visited.add(credentials);
    for (const member of Object.values(credentials)) secretsIn(member, secrets, visited);
  }
  return secrets;
}
