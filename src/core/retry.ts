/**
 * What happens after a failure. There is one switch, {@link afterFailure}; whoever runs work asks it and obeys.
 *
 * @module
 */

import type { Random } from "./clock.ts";
import { HttpError, RateLimitError, RetryLaterError, SchemaError, TrueupError } from "./errors.ts";

export interface RetryPolicy {
  /** How often one piece of work is tried, crashes included, before it is dead-lettered. */
  readonly attempts: number;
  /** The first delay is drawn from 0 to this, each further one from a range twice as long. Milliseconds. */
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
}

export type AfterFailure =
  /** Tried again in `delayMs`; `counts`: it was an attempt. */
  | { readonly kind: "retry"; readonly delayMs: number; readonly counts: boolean }
  | { readonly kind: "dead" }
  /** The whole connection waits: for a rate limit, for its credentials, or for the end of an outage. The work is due behind that. */
  | { readonly kind: "pause"; readonly why: "rate-limit"; readonly delayMs: number }
  | { readonly kind: "pause"; readonly why: "credentials" | "unreachable" }
  /** Another process has the right to work: nothing may be written. */
  | { readonly kind: "lost" }
  /** We are stopping: the work goes back as it came. */
  | { readonly kind: "release" };

/**
 * Decides by class and code, never by message.
 * @param attempt which attempt failed, from 1
 * @param unanswered how many requests in a row, this one included, the connection's API left without a usable answer
 */
export function afterFailure(
  error: Error,
  attempt: number,
  policy: RetryPolicy,
  random: Random,
  unanswered = 0,
): AfterFailure {
  if (error instanceof RateLimitError)
    return { kind: "pause", why: "rate-limit", delayMs: bounded(error.retryAfterMs) };
  if (error instanceof RetryLaterError)
    return { kind: "retry", delayMs: bounded(error.delayMs), counts: false };
  if (error instanceof SchemaError) return { kind: "dead" };
  switch (error instanceof TrueupError ? error.code : undefined) {
    case "REJECTED":
    case "PATH_REFUSED":
    case "ID_MISMATCH":
    case "ATTEMPTS_EXHAUSTED":
      return { kind: "dead" };
    case "UNAUTHORIZED":
    case "CREDENTIALS_INVALID":
    case "CONNECTION_UNKNOWN":
      return { kind: "pause", why: "credentials" };
    case "DELETES_SUPPRESSED":
      return { kind: "retry", delayMs: policy.maxDelayMs, counts: false };
    case "LEASE_LOST":
      // A lock or a lease that the work needed is another's. Whether the work itself is, its fence tells when it is given
      // back: taken for lost, work that is ours would stay leased for as long as this process lives.
      return { kind: "retry", delayMs: backoff(1, policy, random), counts: false };
    case "STORE_LOST":
      return { kind: "lost" };
    case "STOPPED":
      return { kind: "release" };
    default:
      // One object that the API chokes on is used up by its attempts. When nothing is answered any more, it is the API,
      // and an outage must not make dead letters of all that waits.
      if (unanswered > policy.attempts) return { kind: "pause", why: "unreachable" };
      if (attempt >= policy.attempts) return { kind: "dead" };
      return { kind: "retry", delayMs: backoff(attempt, policy, random), counts: true };
  }
}

/** Whether an error says that the API gave no usable answer: none at all, or a 5xx. */
export function isUnanswered(error: Error): boolean {
  if (error instanceof HttpError) return error.status >= 500;
  const { code } = error as { code?: unknown };
  return error instanceof TrueupError && (code === "NETWORK" || code === "API_TIMEOUT");
}

/** The same of a failure as it was recorded. */
export function wasUnanswered(code: string): boolean {
  return code === "NETWORK" || code === "API_TIMEOUT" || /^HTTP_5\d\d$/.test(code);
}

/** A delay may come from an answer's headers: no stranger's number decides that work is never done. */
const MAX_DELAY_MS = 30 * 86_400_000;

function bounded(delayMs: number): number {
  return Math.min(Math.ceil(delayMs), MAX_DELAY_MS);
}

/** Exponential with full jitter: a herd that failed together does not come back together. */
export function backoff(attempt: number, policy: RetryPolicy, random: Random): number {
  const ceiling = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(attempt - 1, 40));
  return Math.ceil(random() * ceiling);
}

const MAX_DESCRIBED_LENGTH = 1_000;

/** Anything can be thrown; everything behind this line is an Error whose parts can be read. Never throws itself. */
export function asError(thrown: unknown): Error {
  try {
    if (isReadableError(thrown)) return thrown;
    return new TrueupError("HANDLER_FAILED", `something that is no Error was thrown: ${describe(thrown)}`, {
      cause: thrown,
    });
  } catch {
    // A getter that throws, or a proxy that was revoked: not even the log may touch it again.
    return new TrueupError("HANDLER_FAILED", "something that cannot be read was thrown");
  }
}

/** @throws what a part of it throws */
function isReadableError(thrown: unknown): thrown is Error {
  if (!(thrown instanceof Error)) return false;
  for (const part of ["name", "message", "stack", "cause", "code"]) Reflect.get(thrown, part);
  return true;
}

function describe(thrown: unknown): string {
  return typeof thrown === "string"
    ? thrown.slice(0, MAX_DESCRIBED_LENGTH)
    : Object.prototype.toString.call(thrown);
}

/** The code under which a failure is recorded: ours, else the driver's or runtime's, else the class. */
export function codeOf(error: Error): string {
  if (error instanceof HttpError) return `HTTP_${error.status}`;
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}
