/**
 * How often a feed is polled: faster while there is something to find, slower while there is not. Pure.
 *
 * @module
 */

import type { Random } from "./clock.ts";
import { invalidOption } from "./errors.ts";

/** Bounds of the interval between two polls, in milliseconds. */
export interface Pace {
  readonly everyMs: number;
  readonly minMs: number;
  readonly maxMs: number;
}

const LEAST_MS = 1_000;

/** After a find, the interval is half of what it was, and half of `everyMs` at most. */
const FASTER = 0.5;
/** After a poll that found nothing it is longer by a quarter: it takes six to get from `everyMs` / 4 back to it. */
const SLOWER = 1.25;
/** The drawn part of an interval, so that a thousand connections do not stay in step. */
const JITTER = 0.2;

/** No stranger's number decides that a feed is never polled again. */
const LONGEST_HINT_MS = 86_400_000;

/** @throws TrueupError `OPTION_INVALID` */
export function paceOf({ everyMs, maxMs, minMs }: Partial<Pace> & { readonly everyMs: number }): Pace {
  const pace = {
    everyMs,
    minMs: minMs ?? Math.min(everyMs, Math.max(LEAST_MS, Math.ceil(everyMs / 4))),
    maxMs: maxMs ?? 2 * everyMs,
  };
  if (pace.minMs > everyMs || pace.maxMs < everyMs)
    throw invalidOption("pollSource: `minEvery` must not be above `every`, nor `maxEvery` below it");
  return pace;
}

/** The interval after a poll. */
export function nextInterval(intervalMs: number, found: boolean, { everyMs, maxMs, minMs }: Pace): number {
  const next = found ? Math.min(intervalMs, everyMs) * FASTER : intervalMs * SLOWER;
  return Math.min(maxMs, Math.max(minMs, Math.round(next)));
}

/** How long to wait: the interval, with its jitter and within its bounds; but what the provider asked for, at least. */
export function waitMs(
  intervalMs: number,
  hintMs: number | undefined,
  { maxMs, minMs }: Pace,
  random: Random,
): number {
  const drawn = intervalMs * (1 + JITTER * (random() - 0.5));
  const bounded = Math.min(maxMs, Math.max(minMs, Math.round(drawn)));
  return Math.max(bounded, Math.min(hintMs ?? 0, LONGEST_HINT_MS));
}

/** `X-Poll-Interval`, in seconds. Anything else is no hint. */
export function pollIntervalMs(headers: Readonly<Record<string, string>>): number | undefined {
  const seconds = headers["x-poll-interval"]?.trim() ?? "";
  return /^\d{1,9}$/.test(seconds) ? Number(seconds) * 1_000 : undefined;
}
