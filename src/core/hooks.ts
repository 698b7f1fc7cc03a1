/**
 * What the engine tells the outside while it works: a typed map of events, and a logger.
 *
 * @module
 */

import type { ObjectRef, Origin, Scope } from "./event.ts";
import type { OutcomeStatus } from "./source.ts";

/** The part of pino's interface that trueup uses. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type ConnectionRef = Pick<Scope, "provider" | "connection">;

/** What a pass over a list is, in events. */
export interface PassRef extends Scope {
  readonly mode: "incremental" | "full";
  /** What asked for it. */
  readonly purpose: "reconcile" | "verify";
}

/** Every event of `engine.on`, with what its listener receives. Events report; nothing waits for a listener. */
export interface EventMap {
  /** A source's delivery was dealt with. */
  delivery: ConnectionRef & {
    readonly origin: Origin;
    readonly status: OutcomeStatus;
    readonly accepted: number;
    readonly duplicates: number;
    readonly ignored: number;
    readonly error: Error | undefined;
  };
  /** A webhook request or a queue's message was refused before anything was read from it (401, 413, …). */
  "delivery.refused": {
    readonly provider: string;
    /** Whose it seems to be, where that is a connection that exists; nothing has proved it. */
    readonly connection?: string | undefined;
    /** What a webhook is answered; of a queue's message, what it would have been answered as a webhook. */
    readonly status: number;
    readonly code: string;
    /** Why, where there is more to say than the code; never sent back. */
    readonly error: Error | undefined;
  };

  /** A page of a feed was asked for. `notModified`: each request for it was answered 304. */
  poll: ConnectionRef & {
    readonly source: string;
    readonly events: number;
    readonly notModified: boolean;
    readonly durationMs: number;
    readonly error: Error | undefined;
  };
  /** A feed could not be polled, or its page not be recorded. The cursor stays, and the page is asked for again. */
  "poll.failed": ConnectionRef & {
    readonly source: string;
    readonly error: Error;
    readonly retryInMs: number;
  };
  /**
   * The broker was not told what became of a queue's message, and will deliver it again: this process held it for too
   * long, or cannot reach the broker. What was recorded stays; the repeat is a duplicate.
   */
  "delivery.unsettled": {
    readonly source: string;
    readonly provider: string;
    /** The broker's id of the message. */
    readonly id: string | undefined;
    /** `"stale"`: its time was up before work on it began. */
    readonly reason: "stale" | "lease-lost" | "failed";
    readonly error: Error | undefined;
  };

  /** An authoritative object was requested. `objects` is above 1 for a batch. */
  fetch: Scope & { readonly objects: number; readonly durationMs: number; readonly error: Error | undefined };
  /** One HTTP exchange with the API, retries counted singly. `notModified`: a 304, answered from what was kept. */
  "api.response": ConnectionRef & {
    readonly method: string;
    /** Without its query. */
    readonly path: string;
    /** 0 when no answer came. */
    readonly status: number;
    readonly notModified: boolean;
    readonly durationMs: number;
  };

  /** A handler applied a change. */
  "change.handled": { readonly ref: ObjectRef } & ChangeFacts & { readonly durationMs: number };
  /** The object was fetched and is what the index already says: no handler ran. */
  "change.unchanged": { readonly ref: ObjectRef; readonly origin: Origin; readonly eventCount: number };
  /** The API contradicts an event or itself, and is asked again later (I4, I13). */
  "change.lagging": {
    readonly ref: ObjectRef;
    readonly lags: number;
    readonly retryInMs: number;
    readonly reason: string;
  };
  /** A fetch or handler failed and will be tried again. */
  "change.failed": {
    readonly ref: ObjectRef;
    readonly attempt: number;
    readonly retryInMs: number;
    readonly error: Error;
  };
  /** A fetch or handler failed for the last time: a dead letter. */
  "change.dead": { readonly ref: ObjectRef; readonly attempt: number; readonly error: Error };
  /** The lease was lost while working; another holder deals with the object. Nothing was written. */
  "change.lost": { readonly ref: ObjectRef };

  /** `backfill`: what it hands over is no news that an event should have told; the first pass, or `handle: "all"`. */
  "pass.started": PassRef & { readonly resumed: boolean; readonly backfill: boolean };
  "pass.page": PassRef & { readonly page: number; readonly listed: number; readonly differing: number };
  "pass.finished": PassRef & {
    readonly complete: boolean;
    readonly listed: number;
    readonly repaired: number;
    readonly deleted: number;
    readonly durationMs: number;
  };
  "pass.failed": PassRef & { readonly error: Error };
  /** The shrink guard held deletions back. */
  "deletes.suppressed": Scope & {
    readonly count: number;
    readonly indexed: number;
    readonly samples: readonly string[];
  };

  /** No work of this connection is claimed until `until` (milliseconds since the epoch; `null`: until resumed). */
  "connection.paused": ConnectionRef & { readonly until: number | null; readonly reason: string };
  "connection.resumed": ConnectionRef;

  /**
   * Passes find changes of which neither a webhook nor a queue has told anything, for an hour at least: the provider
   * may have switched the webhook off. Told once, until an event comes.
   */
  "webhooks.quiet": ConnectionRef & {
    /** Changes in that time that only passes found. */
    readonly missed: number;
    /** When the last event came, or, where none is known of, when this process began to count. */
    readonly quietSince: number;
    readonly lastEventAt: number | undefined;
    /** Deliveries of the last 24 hours whose signature did not fit. Many: it comes, and its secret is not the one here. */
    readonly signatureFailures: number;
  };

  "source.failed": { readonly source: string; readonly error: Error; readonly retryInMs: number };
  /** Something is wrong that stopped nothing. `code` is an ErrorCode or a word of this list's texts. */
  warning: { readonly code: string; readonly message: string; readonly scope?: Partial<Scope> | undefined };
  /** Something failed in the background: housekeeping, a heartbeat, a store that cannot be reached. */
  error: {
    readonly error: Error;
    readonly during: string;
    /** Whose, where that is known. */
    readonly scope?: { readonly [Name in keyof Scope]?: Scope[Name] | undefined } | undefined;
  };
}

export interface ChangeFacts {
  readonly kind: "upsert" | "delete";
  readonly origin: Origin;
  readonly attempt: number;
  readonly eventCount: number;
  readonly regressed: boolean;
}

export type Listener<Name extends keyof EventMap> = (event: EventMap[Name]) => void;

/** Reports events. A listener that throws, or that is async and rejects, is logged and changes nothing. */
export class Hooks {
  readonly #listeners = new Map<keyof EventMap, Set<(event: never) => void>>();
  readonly #logger: Logger;
  readonly #safe: <Event extends object>(event: Event) => Event;

  /** @param safe takes secrets out of an event before anybody hears of it (I12) */
  constructor(logger: Logger, safe: <Event extends object>(event: Event) => Event = (event) => event) {
    this.#logger = logger;
    this.#safe = safe;
  }

  on<Name extends keyof EventMap>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    // A wrapper of its own lets one function be registered twice and taken back once.
    const entry = (event: EventMap[Name]): unknown => listener(event);
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  emit<Name extends keyof EventMap>(name: Name, event: EventMap[Name]): void {
    const listeners = this.#listeners.get(name);
    if (listeners === undefined || listeners.size === 0) return;
    const told = this.#safe(event);
    for (const listener of listeners) {
      const failed = (error: unknown) => this.#logger.error({ error, event: name }, "a listener threw");
      try {
        const result: unknown = (listener as (event: EventMap[Name]) => unknown)(told);
        if (result instanceof Promise) result.catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }

  /** Whether anybody listens, for callers that would have to prepare an event at some cost. */
  has(name: keyof EventMap): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }
}

/** Warnings and errors to stderr as JSON lines; nothing else. */
export function stderrLogger(write: (line: string) => void): Logger {
  const line = (level: string) => (fields: object, message: string) => {
    write(`${JSON.stringify({ level, message, ...fields }, errorsAsText)}\n`);
  };
  return { debug: () => {}, info: () => {}, warn: line("warn"), error: line("error") };
}

function errorsAsText(_key: string, value: unknown): unknown {
  if (value instanceof Error) return errorText(value);
  return typeof value === "bigint" ? value.toString() : value;
}

/** Of causes: one that is its own would never end. */
const MOST_CAUSES = 5;

/** With what was behind it: "`webhook.events` threw" alone helps nobody. */
function errorText(error: Error, causes = MOST_CAUSES): object {
  const { cause, code, message, name, stack } = error as Error & { readonly code?: unknown };
  return {
    name,
    code,
    message,
    // An error without a code is a mistake in somebody's source, and its message alone does not say where.
    stack: code === undefined ? stack : undefined,
    cause: cause instanceof Error && causes > 0 ? errorText(cause, causes - 1) : undefined,
  };
}
