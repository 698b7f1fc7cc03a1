/**
 * What an adapter's `events` returned, before anything is done with it.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { SyncEvent } from "../../core/event.ts";

export const DEFAULT_MAX_BODY_BYTES = 1_048_576;

/** A body has no more real events; recording the half million numbers that fit into one would stall everything. */
const BYTES_PER_EVENT = 100;

/**
 * @param maxBodyBytes of the largest body that such a delivery may have
 * @throws TrueupError `EVENTS_FAILED` for what is no list, `EVENT_INVALID` for one that is too long
 */
export function checkedEvents(events: unknown, maxBodyBytes: number): readonly SyncEvent[] {
  if (!Array.isArray(events))
    throw new TrueupError("EVENTS_FAILED", "`webhook.events` must return an array of events");
  const most = Math.ceil(maxBodyBytes / BYTES_PER_EVENT);
  if (events.length <= most) return events as readonly SyncEvent[];
  throw new TrueupError("EVENT_INVALID", `a delivery of ${events.length} events: ${most} are taken at most`);
}
