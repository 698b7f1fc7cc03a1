/**
 * What an adapter's `poll` returned, checked; and what is remembered of a feed between two polls. Pure.
 *
 * @module
 */

import { hash } from "node:crypto";
import { TrueupError } from "./errors.ts";
import type { PollResult } from "./poll-source.ts";
import type { SyncEvent } from "./event.ts";
import { connectionKey } from "./store.ts";

/** A page of a feed that can be worked on. */
export interface PollPage {
  readonly events: readonly SyncEvent[];
  /** `undefined`: the cursor stays. `null`: the feed begins anew. */
  readonly next: string | null | undefined;
  /** Whether the next page can be had at once, as far as the adapter says. */
  readonly more: boolean | undefined;
  readonly expired: boolean;
  readonly pollAfterMs: number | undefined;
}

/** A page is recorded in one step, and is held in memory until then. */
const MOST_EVENTS = 10_000;
/** As a list's. */
const MAX_CURSOR_LENGTH = 65_536;

/** @throws TrueupError `EVENT_INVALID`; what the events themselves are like is for the intake to check */
export function checkPage(result: unknown): PollPage {
  if (typeof result !== "object" || result === null)
    throw invalidPage(`it returned ${result === null ? "null" : typeof result}`);
  const { events, expired, more, next, pollAfterMs } = result as Partial<PollResult>;
  if (!Array.isArray(events)) throw invalidPage("`events` is no array");
  if (events.length > MOST_EVENTS)
    throw invalidPage(`${events.length} events: a page has ${MOST_EVENTS} at most`);
  if (next !== undefined && next !== null && (typeof next !== "string" || next === ""))
    throw invalidPage("`next` must be a non-empty string, or undefined or null");
  if (typeof next === "string" && next.length > MAX_CURSOR_LENGTH)
    throw invalidPage(`\`next\` is longer than ${MAX_CURSOR_LENGTH} characters`);
  if (![undefined, true, false].includes(more)) throw invalidPage("`more` must be true or false");
  if (![undefined, true, false].includes(expired)) throw invalidPage("`expired` must be true or false");
  if (pollAfterMs !== undefined && !(Number.isFinite(pollAfterMs) && pollAfterMs >= 0))
    throw invalidPage("`pollAfterMs` must be milliseconds");
  return { events: events as readonly SyncEvent[], next, more, expired: expired === true, pollAfterMs };
}

function invalidPage(what: string): TrueupError<"EVENT_INVALID"> {
  return new TrueupError("EVENT_INVALID", `\`poll\` must return { events, next? }: ${what}`);
}

/** By which a page is known again; `undefined` for one that cannot be told from others. */
export function pageFingerprint({ events, next }: PollPage): string | undefined {
  try {
    const text = JSON.stringify([events, next], (_key, value: unknown) =>
      typeof value === "bigint" ? `${value}n` : value,
    );
    return hash("sha256", text);
  } catch {
    return undefined;
  }
}

/** What the store keeps of one connection's feed. */
export interface FeedRecord {
  readonly cursor: string | null;
  /** Milliseconds since the epoch. */
  readonly nextAt: number;
  /** How long that was to wait for when it was written. */
  readonly waitMs: number;
  readonly intervalMs: number;
  readonly failures: number;
}

export function feedKey(provider: string, connection: string, name: string): string {
  return `${connectionKey(provider, connection)}poll:${name}`;
}

export function parseFeedRecord(text: string | undefined): FeedRecord | undefined {
  return text === undefined ? undefined : (JSON.parse(text) as FeedRecord);
}
