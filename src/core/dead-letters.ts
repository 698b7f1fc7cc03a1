/**
 * Dead letters: work that was given up, kept until somebody retries or discards it.
 *
 * @module
 */

import { refuseInsideCommit } from "./commit-scope.ts";
import type { ObjectRef, ReceivedEvent } from "./event.ts";
import { positive } from "./options.ts";
import type { RouteRegistry } from "./registry.ts";
import type { DeadLetterFilter, DeadRecord, Store } from "./store.ts";
import { withReceivedEvents } from "./stored-events.ts";

/** Which dead letters; all that are given must match. */
export interface DeadLetterQuery {
  /** `"provider.resource"`. */
  readonly route?: string | undefined;
  readonly provider?: string | undefined;
  readonly connection?: string | undefined;
  readonly ids?: readonly string[] | undefined;
}

export interface DeadLetter {
  readonly route: string;
  readonly ref: ObjectRef;
  /** Why: an ErrorCode, `HTTP_<status>`, or the code or name of an error of another kind. */
  readonly code: string;
  readonly message: string;
  /** For `SCHEMA_MISMATCH`: where in the object. */
  readonly path: string | undefined;
  readonly failedAt: Date;
  readonly attempts: number;
  readonly events: readonly ReceivedEvent[];
  readonly eventCount: number;
}

export interface DeadLetterPage {
  readonly items: readonly DeadLetter[];
  /** For the next page; `undefined` at the end. */
  readonly next: string | undefined;
}

export interface DeadLetterOptions {
  readonly store: Store<unknown>;
  readonly routes: RouteRegistry;
  readonly ready: () => Promise<void> | undefined;
  /** Work may have become claimable. */
  readonly onRevived: () => void;
}

const PAGE = 100;

/** `engine.deadLetters`. */
export class DeadLetters {
  readonly #options: DeadLetterOptions;

  constructor(options: DeadLetterOptions) {
    this.#options = options;
  }

  /** Oldest first. @param page `limit` defaults to 100 */
  async list(
    query: DeadLetterQuery = {},
    page: { readonly cursor?: string | undefined; readonly limit?: number | undefined } = {},
  ): Promise<DeadLetterPage> {
    refuseInsideCommit("deadLetters.list");
    const { ready, store } = this.#options;
    await ready();
    const limit = positive(page.limit, PAGE, "limit");
    const { items, next } = await store.listDead(this.#filter(query), { cursor: page.cursor, limit });
    return { items: items.map(present), next };
  }

  /** Makes them fresh work, with all their attempts. @returns how many */
  async retry(query: DeadLetterQuery = {}): Promise<number> {
    refuseInsideCommit("deadLetters.retry");
    const { onRevived, ready, store } = this.#options;
    await ready();
    const revived = await store.retryDead(this.#filter(query));
    onRevived();
    return revived;
  }

  /** Drops them. The next event or reconciliation of such an object begins from what the index knows. @returns how many */
  async discard(query: DeadLetterQuery = {}): Promise<number> {
    refuseInsideCommit("deadLetters.discard");
    const { ready, store } = this.#options;
    await ready();
    return store.discardDead(this.#filter(query));
  }

  #filter({ route, provider, connection, ids }: DeadLetterQuery): DeadLetterFilter {
    if (route === undefined) return { provider, connection, ids };
    const known = this.#options.routes.get(route);
    // Nothing is of two providers.
    const none = provider !== undefined && provider !== known.provider.name;
    const { provider: owner, resourceName: resource } = known;
    return { provider: owner.name, resource, connection, ids: none ? [] : ids };
  }
}

function present(record: DeadRecord): DeadLetter {
  const { ref, error } = record;
  const letter = {
    route: `${ref.provider}.${ref.resource}`,
    ref,
    code: error.code,
    message: error.message,
    path: error.path,
    failedAt: new Date(error.at),
    attempts: record.attempts,
    eventCount: record.eventCount,
  };
  return withReceivedEvents(letter, record);
}
