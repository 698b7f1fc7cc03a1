/**
 * One exchange with a server: a request goes out, its answer comes in whole or not at all.
 *
 * @module
 */

import type { Dispatcher } from "undici";
import type { Headers } from "../core/api.ts";
import type { Clock } from "../core/clock.ts";
import { TrueupError } from "../core/errors.ts";
import { watched } from "./dispatcher.ts";
import { plainHeaders } from "./headers.ts";
import { PermitSpent } from "./limiter.ts";
import type { Target } from "./path.ts";
import { collect, uncompress } from "./response-body.ts";

export interface Exchange {
  readonly method: string;
  readonly target: Target;
  readonly headers: Headers;
  readonly body: string | Uint8Array | undefined;
  /** From the start to the last byte of the answer, connecting included. */
  readonly timeoutMs: number;
  /** Of the body as sent, and again of the body uncompressed. */
  readonly maxBodyBytes: number;
  readonly signal: AbortSignal;
  /** Asked right before the first byte is written; `false`: it is not. */
  readonly mayLeave?: (() => boolean) | undefined;
  /** What the request is called in messages: provider, method and path, nothing secret. */
  readonly name: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The uncompressed body; empty where `unreadable` says why there is none. */
  readonly bytes: Buffer;
  /** A body over its cap or broken. The status may matter more, so this is no exception yet. */
  readonly unreadable: TrueupError | undefined;
}

/**
 * Performs one exchange. Redirects are answers like any other.
 * @throws the signal's reason as soon as it aborts; TrueupError `API_TIMEOUT`, `NETWORK`, `OPTION_INVALID` for a header
 *   that HTTP forbids, `STOPPED` when the dispatcher is closed; PermitSpent where it may not leave
 */
export function exchange(dispatcher: Dispatcher, clock: Clock, request: Exchange): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { signal } = request;
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const connection = new AbortController();
    // Rejects at once, since undici hears of an abort only when a connection is there.
    const giveUp = (reason: Error) => {
      reject(reason);
      connection.abort(reason);
    };
    const onAbort = () => giveUp(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    const cancelTimer = clock.setTimer(() => giveUp(timedOut(request)), request.timeoutMs);
    perform(dispatcher, request, connection.signal)
      .then(resolve, (error: unknown) => reject(failure(request, error)))
      .finally(() => {
        cancelTimer();
        signal.removeEventListener("abort", onAbort);
      });
  });
}

async function perform(dispatcher: Dispatcher, request: Exchange, signal: AbortSignal): Promise<Answer> {
  const { mayLeave } = request;
  const leaving =
    mayLeave &&
    (() => {
      if (!mayLeave()) throw new PermitSpent();
    });
  const response = await (leaving === undefined ? dispatcher : watched(dispatcher)).request({
    opaque: leaving,
    origin: request.target.origin,
    path: request.target.wirePath,
    method: request.method,
    headers: request.headers,
    body: request.body ?? null,
    signal,
    // Our timer spans the whole exchange; two more could only end it for another reason.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const headers = plainHeaders(response.headers);
  const answer = { status: response.statusCode, headers, bytes: Buffer.alloc(0), unreadable: undefined };
  // 1xx never gets here. A HEAD or 304 may announce an encoding for a body that it does not have.
  if (isRedirect(response.statusCode) || response.statusCode === 304 || request.method === "HEAD") {
    // Nobody reads it; a little is read away so that the connection can be kept, the rest is not waited for.
    await response.body.dump({ limit: DUMPED_BYTES, signal });
    return answer;
  }
  try {
    const sent = await collect(response.body, request.maxBodyBytes);
    return { ...answer, bytes: await uncompress(sent, headers["content-encoding"], request.maxBodyBytes) };
  } catch (error) {
    if (!isTrueupError(error)) throw error;
    return { ...answer, unreadable: named(error, request.name) };
  }
}

const DUMPED_BYTES = 65_536;

/** Those that say where else to look (RFC 9110 §15.4). 300 and 304 say something else. */
export function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

/** Failures before a byte of the request can have been sent: even a POST may be repeated after one. */
const UNSENT = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Whether an error of {@link exchange} proves that the server has seen nothing of the request. */
export function provesUnsent(error: TrueupError): boolean {
  return error.code === "NETWORK" && UNSENT.has(codeOf(error.cause));
}

function failure(request: Exchange, error: unknown): Error {
  if (error instanceof PermitSpent) return error;
  const code = codeOf(error);
  if (code === "UND_ERR_CLOSED" || code === "UND_ERR_DESTROYED") {
    return new TrueupError("STOPPED", `${request.name}: the API client is closed`);
  }
  const message = error instanceof Error ? error.message : String(error);
  if (code === "UND_ERR_INVALID_ARG" || code === "UND_ERR_NOT_SUPPORTED") {
    return new TrueupError("OPTION_INVALID", `${request.name}: ${message}`, { cause: error });
  }
  const why = message === "" ? code : message;
  return new TrueupError("NETWORK", `${request.name} failed: ${why}`, {
    cause: presentable(error, code, message),
  });
}

/** undici's parser errors carry the bytes that they are about; those are not for logs. */
function presentable(error: unknown, code: string, message: string): unknown {
  if (typeof error !== "object" || error === null || !("data" in error)) return error;
  return Object.assign(new Error(message), { code });
}

/** Node tries each address of a name, and wraps what became of them without a code of its own in some versions. */
function codeOf(error: unknown): string {
  const { code, errors } = (error ?? {}) as { code?: unknown; errors?: readonly unknown[] };
  if (typeof code === "string") return code;
  return Array.isArray(errors) && errors.length > 0 ? codeOf(errors[0]) : "";
}

function timedOut(request: Exchange): TrueupError<"API_TIMEOUT"> {
  return new TrueupError(
    "API_TIMEOUT",
    `${request.name} was not answered in full within ${request.timeoutMs} ms`,
  );
}

/** The same error, saying which request it is about. */
export function named(error: TrueupError, name: string): TrueupError {
  return new TrueupError(error.code, `${name}: ${error.message}`, { cause: error.cause });
}

/** `instanceof`, with a code of the known ones instead of `any`. */
export function isTrueupError(error: unknown): error is TrueupError {
  return error instanceof TrueupError;
}
