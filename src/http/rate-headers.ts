/**
 * How long a provider asks us to wait, read from the headers of its answer.
 *
 * Nobody agrees on these headers, so the readers here are total: any text gives a bounded number or `undefined`, in time
 * linear in its length.
 *
 * @module
 */

import type { Headers } from "../core/api.ts";
import { serverDate } from "./headers.ts";

/** A shorter pause is not worth one. */
export const MIN_PAUSE_MS = 1_000;
/** Whatever a header says, the provider is asked again after an hour. */
export const MAX_PAUSE_MS = 3_600_000;
/** Where nothing says how long. GitHub asks for at least a minute then. */
export const DEFAULT_PAUSE_MS = 60_000;

/** The pause that an answer asks for, from {@link MIN_PAUSE_MS} to {@link MAX_PAUSE_MS}. */
export function pauseOf(headers: Headers, now: number): number {
  const asked = retryAfterMs(headers, now) ?? untilReset(headers, now) ?? DEFAULT_PAUSE_MS;
  return clampPause(asked);
}

export function clampPause(delayMs: number): number {
  return Math.min(Math.max(Math.ceil(delayMs), MIN_PAUSE_MS), MAX_PAUSE_MS);
}

/** Whether a 403 is about the rate and not about access: it says when to come back, or that nothing is left. */
export function isExhausted(headers: Headers): boolean {
  return headers["retry-after"] !== undefined || remaining(headers) === 0;
}

/**
 * `Retry-After` (RFC 9110 §10.2.3): seconds, or a date. A date is compared with the answer's own `Date`, since both come
 * from the provider's clock; `now` stands in where there is none. May be negative. `undefined` where it says nothing.
 */
export function retryAfterMs(headers: Headers, now: number): number | undefined {
  const moment = parseMoment(headers["retry-after"]);
  if (moment === undefined) return undefined;
  return moment.kind === "delay" ? moment.ms : moment.epochMs - (serverDate(headers) ?? now);
}

/** A reset counts only where the budget is used up: GitHub's secondary limits answer 429 with much of it left. */
function untilReset(headers: Headers, now: number): number | undefined {
  const policies = exhaustedPolicies(headers["ratelimit"]);
  if (policies.length > 0) {
    const waits = policies.flatMap(({ resetMs }) => resetMs ?? []);
    if (waits.length > 0) return Math.max(...waits);
  }
  const left = remaining(headers);
  if (left !== undefined && left > 0) return undefined;
  for (const name of ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"]) {
    const moment = parseMoment(headers[name]);
    if (moment?.kind === "delay") return moment.ms;
    if (moment !== undefined) return moment.epochMs - (serverDate(headers) ?? now);
  }
  return undefined;
}

function remaining(headers: Headers): number | undefined {
  if (exhaustedPolicies(headers["ratelimit"]).length > 0) return 0;
  for (const name of ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"]) {
    const text = headers[name]?.trim();
    if (text !== undefined && /^-?\d{1,15}(?:\.\d{0,3})?$/.test(text)) return Math.max(Number(text), 0);
  }
  return undefined;
}

type Moment =
  | { readonly kind: "delay"; readonly ms: number }
  | { readonly kind: "instant"; readonly epochMs: number };

/** As seconds this is 2001; as a delay it is 31 years. So at least this is an instant, and less is a delay. */
const LEAST_EPOCH_SECONDS = 1e9;
const LEAST_EPOCH_MS = 1e12;
const DATE_START = /^(?:[A-Za-z]{3,9},? |\d{4}-\d\d-\d\d[T ])/;
const ASCTIME = /^[A-Za-z]{3} [A-Za-z]{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$/;

/** Reads seconds from now, seconds or milliseconds since the epoch, an HTTP date in its three forms, or an ISO date. */
export function parseMoment(value: string | undefined): Moment | undefined {
  const text = value?.trim();
  if (text === undefined || text === "" || text.length > 64) return undefined;
  if (/^-?\d+(?:\.\d*)?$/.test(text)) {
    const number = Number(text);
    if (number >= LEAST_EPOCH_MS) return { kind: "instant", epochMs: number };
    return number >= LEAST_EPOCH_SECONDS
      ? { kind: "instant", epochMs: number * 1_000 }
      : { kind: "delay", ms: number * 1_000 };
  }
  if (!DATE_START.test(text)) return undefined;
  // The oldest form names no zone, and would be taken for local time.
  const epochMs = Date.parse(ASCTIME.test(text) ? `${text} GMT` : text);
  return Number.isNaN(epochMs) ? undefined : { kind: "instant", epochMs };
}

interface Policy {
  readonly remaining: number | undefined;
  readonly resetMs: number | undefined;
}

function exhaustedPolicies(value: string | undefined): Policy[] {
  return parseRateLimit(value).filter((policy) => policy.remaining === 0);
}

/**
 * The `RateLimit` field of the IETF's draft (draft-ietf-httpapi-ratelimit-headers): `"burst";r=0;t=30, "day";r=9`, and
 * its older form `limit=10, remaining=0, reset=30`, which is one policy in all.
 */
export function parseRateLimit(value: string | undefined): Policy[] {
  if (value === undefined || value.length > 2_048) return [];
  const items = splitOutsideQuotes(value, ",");
  const older = items.every((item) => /^\s*(?:limit|remaining|reset)\s*=/i.test(item));
  return (older ? [items] : items.map((item) => splitOutsideQuotes(item, ";"))).map((parameters) => ({
    remaining: whole(parameters, older ? "remaining" : "r"),
    resetMs: seconds(whole(parameters, older ? "reset" : "t")),
  }));
}

function whole(parameters: readonly string[], name: string): number | undefined {
  for (const parameter of parameters) {
    const [key, text] = parameter.split("=", 2).map((part) => part.trim());
    if (key?.toLowerCase() === name && text !== undefined && /^\d{1,15}$/.test(text)) return Number(text);
  }
  return undefined;
}

function seconds(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value * 1_000;
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = [];
  let begin = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (quoted && char === "\\") at += 1;
    else if (char === '"') quoted = !quoted;
    else if (char === separator && !quoted) {
      parts.push(text.slice(begin, at));
      begin = at + 1;
    }
  }
  parts.push(text.slice(begin));
  return parts;
}
