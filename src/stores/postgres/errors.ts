/**
 * What PostgreSQL's errors mean to callers.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import { RAISED } from "./sql/fragments.ts";

/** Whether the transaction was rolled back because of others, so that it may be run again as it is. */
export function isConflict(error: unknown): boolean {
  const code = sqlState(error);
  return code === "40001" || code === "40P01";
}

/** Whether a scope that was remembered has been forgotten meanwhile. */
export function isStaleScope(error: unknown): boolean {
  return sqlState(error) === RAISED.staleScope;
}

/** Whether the connection cannot be used again: the server ended it, or it did not answer as it should. */
export function isBroken(error: unknown): boolean {
  const { severity } = (error ?? {}) as { severity?: unknown };
  return severity !== "ERROR";
}

/** Whether the server says that with this error the connection is over. */
export function endsConnection(error: unknown): boolean {
  const { severity } = (error ?? {}) as { severity?: unknown };
  return severity === "FATAL" || severity === "PANIC";
}

/** Whether the server has ended a transaction in which nothing happened for too long. */
export function isIdleTimeout(error: unknown): boolean {
  return sqlState(error) === "25P03";
}

/** Whether the server has ended a statement that took too long (or was told to end it). */
export function isCanceled(error: unknown): boolean {
  return sqlState(error) === "57014";
}

/** Errors of our own pass through. No message of the driver's has the password, nor does one of these have the URL. */
export function storeError(cause: unknown, schema: string): TrueupError {
  if (cause instanceof TrueupError) return cause as TrueupError;
  const code = sqlState(cause);
  if (code === RAISED.sessionLost) {
    return new TrueupError("STORE_LOST", "this process was taken for dead, and others have its work", {
      cause,
    });
  }
  if (code === RAISED.lockLost) return new TrueupError("LEASE_LOST", "the lock is no longer held", { cause });
  if (code === RAISED.leaseLost) return leaseLost(cause);
  const remedy = remedyOf(code, cause);
  const message = cause instanceof Error ? messageOf(cause) : String(cause);
  return new TrueupError("STORE_FAILED", `PostgreSQL, schema ${schema}: ${message}${remedy}`, { cause });
}

export function leaseLost(cause?: unknown): TrueupError {
  const message = "the work is leased to another: nothing was written";
  return new TrueupError("LEASE_LOST", message, cause === undefined ? undefined : { cause });
}

/** Node hides the reasons behind an AggregateError without a message, where a name has several addresses. */
function messageOf(error: Error): string {
  if (error.message !== "" || !(error instanceof AggregateError)) return error.message;
  return error.errors.map((one) => (one instanceof Error ? one.message : String(one))).join("; ");
}

function remedyOf(code: string | undefined, cause: unknown): string {
  switch (code) {
    case "28P01":
    case "28000":
      return ". Check user and password of `url`, and the server's pg_hba.conf";
    case "3D000":
      return ". Create the database, or name another";
    case "42501":
      return ". Grant the role what it lacks: CREATE on the database or on the schema to migrate, and the schema's own objects to work";
    case "25006":
      return ". The server or the role only reads: point the store at the primary";
    case "53100":
      return ". Free some space, and the work goes on";
    case "53300":
      return ". The server has no connection left: lower the pool's `max`, or raise max_connections";
    case "3F000":
    case "42P01":
    case "42883":
      return '. The schema is not (or no longer) trueup\'s: let a start with `migrate: "auto"` create it';
    case "57P01":
    case "57P02":
    case "57P03":
    case "ECONNREFUSED":
    case "ECONNRESET":
    case "ENOTFOUND":
    case "ETIMEDOUT":
      return ". The server cannot be reached now";
    default:
      return cause instanceof Error && /timeout exceeded when trying to connect/.test(cause.message)
        ? ". All connections of the pool are in use, or the server does not answer"
        : "";
  }
}

function sqlState(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : undefined;
}
