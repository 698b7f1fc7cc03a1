/**
 * The errors of trueup. There is one base class, {@link TrueupError}, and each error has a literal `code`:
 * steer by `code` (or by the few classes below that carry data), never by message.
 *
 * @module
 */

/** Every code that a {@link TrueupError} can carry, with what it means. */
export type ErrorCode =
  // What the caller passed
  | "OPTION_INVALID" // an option, a definition or an argument is wrong; the message names it
  | "ROUTE_UNKNOWN" // no provider defines this route
  | "DUPLICATE_HANDLER" // a route already has a handler
  | "HANDLER_MISSING" // `start` found a route that can be fed but has no handler
  | "CONNECTION_REQUIRED" // several connections exist and none was named
  | "CONNECTION_UNKNOWN" // `connections.get` does not know this connection
  | "CREDENTIALS_INVALID" // the provider's credentials schema refused what `connections.get` gave
  // What came in from outside
  | "SIGNATURE_INVALID" // a delivery's signature is missing, wrong or too old
  | "HEADER_REPEATED" // a header that must be single came twice
  | "BODY_INVALID" // a delivery's body cannot be parsed
  | "BODY_CONSUMED" // a body parser ran before the webhook route
  | "BODY_TOO_LARGE" // a request or response body is over its cap
  | "EVENT_INVALID" // an adapter's `events` returned something that is no SyncEvent
  | "EVENTS_FAILED" // an adapter's `events` or `connection` threw
  // What the provider's API did
  | "HTTP_STATUS" // an answer that is neither a success nor handled otherwise; see HttpError
  | "RATE_LIMITED" // the provider asked us to wait; see RateLimitError
  | "UNAUTHORIZED" // the credentials were refused, also after a refresh
  | "NETWORK" // no answer, or one that broke off
  | "API_TIMEOUT" // no complete answer in time
  | "RESPONSE_INVALID" // an answer that cannot be decoded
  | "REDIRECT_REFUSED" // a redirect to another origin, or too many
  | "PATH_REFUSED" // a path or id that would leave the API's base URL
  | "SCHEMA_MISMATCH" // an object that its schema refuses; see SchemaError
  | "ID_MISMATCH" // the API returned another object than the one asked for
  | "LIST_INVALID" // a list returned something that is no page
  | "CURSOR_REPEATED" // a list repeats a cursor and would never end
  | "LIST_FILTER_IGNORED" // an incremental list returned rows from long before `since`
  | "DELETES_SUPPRESSED" // the shrink guard stopped what looks like a mass deletion
  // Work
  | "HANDLER_FAILED" // a handler threw
  | "HANDLER_TIMEOUT" // a handler did not return in time
  | "REJECTED" // a handler or fetch threw RejectError
  | "RETRY_LATER" // a handler or fetch threw RetryLaterError
  | "ATTEMPTS_EXHAUSTED" // the process died, or the work failed, too often
  | "LEASE_LOST" // someone else holds this work now; nothing was written
  | "COMMIT_TIMEOUT" // a commit callback took too long and was rolled back
  | "COMMIT_TWICE" // `commit` was called a second time
  | "NESTED_COMMIT" // the engine was asked to write from inside a commit callback
  | "NOT_TRANSACTIONAL" // `commit` on a store without transactions
  | "TX_REVOKED" // a transaction handle was used after its callback ended
  // The store and the life of the engine
  | "STORE_IN_USE" // another process works on this store
  | "STORE_LOST" // another process took the store over from this one
  | "STORE_FULL" // the store is at its configured limit
  | "STORE_FAILED" // the store cannot be read or written; `cause` has the driver's error
  | "STORE_VERSION" // the store was written by a newer trueup
  | "STOPPED" // the engine is stopping or stopped
  | "ACK_TIMEOUT" // a store without durability could not handle an event in time
  | "NOT_SUPPORTED"; // the resource lacks what the call needs (a `list`, say)

export interface TrueupErrorOptions {
  readonly cause?: unknown;
}

/** The base of every error that trueup throws. */
export class TrueupError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name: string = "TrueupError";
  readonly code: Code;

  constructor(code: Code, message: string, options: TrueupErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
  }
}

/** A delivery that does not prove where it comes from. The receiver answers 401 and changes nothing (I11). */
export class SignatureError extends TrueupError<"SIGNATURE_INVALID"> {
  override readonly name = "SignatureError";

  constructor(message: string, options?: TrueupErrorOptions) {
    super("SIGNATURE_INVALID", message, options);
  }
}

/** An answer of the provider's API with a status that nothing else deals with. */
export class HttpError extends TrueupError<"HTTP_STATUS"> {
  override readonly name = "HttpError";
  readonly status: number;
  /** The decoded body, if there was one. Not enumerable, so that loggers do not print what a provider sent. */
  declare readonly data: unknown;

  constructor(
    status: number,
    message: string,
    options: TrueupErrorOptions & { readonly data?: unknown } = {},
  ) {
    super("HTTP_STATUS", message, options);
    this.status = status;
    Object.defineProperty(this, "data", { value: options.data, enumerable: false });
  }
}

/** The provider asked for a pause. The connection is paused for all processes; the work waits and loses no attempt. */
export class RateLimitError extends TrueupError<"RATE_LIMITED"> {
  override readonly name = "RateLimitError";
  readonly retryAfterMs: number;

  constructor(retryAfterMs: number, message: string, options?: TrueupErrorOptions) {
    super("RATE_LIMITED", message, options);
    requireDelay(retryAfterMs, "RateLimitError");
    this.retryAfterMs = retryAfterMs;
  }
}

/** An object that its resource's schema refuses. Retrying cannot help: the work is dead-lettered. */
export class SchemaError extends TrueupError<"SCHEMA_MISMATCH"> {
  override readonly name = "SchemaError";
  /** Where in the object, as `items[2].price`; empty for the object itself. */
  readonly path: string;

  constructor(path: string, message: string, options?: TrueupErrorOptions) {
    super("SCHEMA_MISMATCH", message, options);
    this.path = path;
  }
}

/**
 * Thrown by a handler or a `fetch`: try again, but not before `delayMs` has passed.
 * It is not an attempt: work that asks for it again and again is never dead-lettered for that. Delays over 30 days are
 * taken for 30 days.
 */
export class RetryLaterError extends TrueupError<"RETRY_LATER"> {
  override readonly name = "RetryLaterError";
  readonly delayMs: number;

  constructor(delayMs: number, message = `retry in ${delayMs} ms`, options?: TrueupErrorOptions) {
    super("RETRY_LATER", message, options);
    requireDelay(delayMs, "RetryLaterError");
    this.delayMs = delayMs;
  }
}

/** Thrown by a handler or a `fetch`: retrying cannot help, make this a dead letter now. */
export class RejectError extends TrueupError<"REJECTED"> {
  override readonly name = "RejectError";
  readonly reason: string;

  constructor(reason: string, options?: TrueupErrorOptions) {
    super("REJECTED", reason, options);
    this.reason = reason;
  }
}

/** Shorthand for the commonest error: something the caller passed is wrong. */
export function invalidOption(message: string): TrueupError<"OPTION_INVALID"> {
  return new TrueupError("OPTION_INVALID", message);
}

/** Why everything ends when the engine does. */
export function stopped(): TrueupError<"STOPPED"> {
  return new TrueupError("STOPPED", "the engine is stopping or stopped");
}

function requireDelay(delayMs: number, what: string): void {
  if (Number.isFinite(delayMs) && delayMs >= 0) return;
  throw invalidOption(`${what} takes milliseconds ≥ 0, not ${String(delayMs)}`);
}
