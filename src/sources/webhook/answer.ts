/**
 * What the receiver answers. Refusals are fixed texts: nothing of the request, and nothing of an error, goes back.
 *
 * @module
 */

import { validateHeaderName, validateHeaderValue } from "node:http";
import { type ErrorCode, TrueupError } from "../../core/errors.ts";
import type { WebhookAnswer } from "../../core/provider.ts";
import type { Outcome } from "../../core/source.ts";

export interface Answer {
  readonly status: number;
  /** With lower-case names, and without `content-length`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
  /** Of a refusal. */
  readonly code?: RefusalCode;
}

/** Why a request is refused: an error's code, or one of HTTP's own reasons. */
export type RefusalCode =
  | Extract<
      ErrorCode,
      | "SIGNATURE_INVALID"
      | "HEADER_REPEATED"
      | "BODY_INVALID"
      | "BODY_CONSUMED"
      | "BODY_TOO_LARGE"
      | "EVENT_INVALID"
      | "EVENTS_FAILED"
      | "STORE_IN_USE"
      | "STORE_LOST"
      | "STORE_FULL"
      | "STORE_FAILED"
      | "STOPPED"
      | "ACK_TIMEOUT"
    >
  | "METHOD_NOT_ALLOWED"
  | "ENCODING_NOT_SUPPORTED"
  | "BODY_TIMEOUT"
  | "BODY_INCOMPLETE"
  | "DELIVERY_REJECTED"
  | "RETRY_LATER"
  | "INTERNAL_ERROR";

/** Both for whoever sees the answer and for the operator's log. */
export const CONSUMED_REMEDY =
  "The body was read before the webhook's route saw it, and signatures are verified over its raw bytes. " +
  "Mount the route before any body parser, or give the route express.raw({ type: () => true }), " +
  "or keep the bytes as a Buffer in `req.rawBody`.";

const UNAVAILABLE = "Deliveries cannot be accepted right now. Send this one again later.";

const REFUSALS: Readonly<Record<RefusalCode, readonly [status: number, message: string]>> = {
  HEADER_REPEATED: [400, "A header that must be single came more than once."],
  BODY_INVALID: [400, "The body cannot be parsed."],
  BODY_INCOMPLETE: [400, "The body broke off."],
  EVENT_INVALID: [400, "The delivery describes no valid event."],
  EVENTS_FAILED: [400, "The delivery cannot be understood."],
  DELIVERY_REJECTED: [400, "The delivery can never be accepted."],
  SIGNATURE_INVALID: [401, "The delivery does not prove where it comes from."],
  METHOD_NOT_ALLOWED: [405, "Webhooks are sent by POST."],
  BODY_TIMEOUT: [408, "The body did not arrive in time."],
  BODY_TOO_LARGE: [413, "The body is too large."],
  ENCODING_NOT_SUPPORTED: [415, "Send the body without a content-encoding."],
  BODY_CONSUMED: [500, CONSUMED_REMEDY],
  INTERNAL_ERROR: [500, "Something went wrong here."],
  STORE_IN_USE: [503, UNAVAILABLE],
  STORE_LOST: [503, UNAVAILABLE],
  STORE_FULL: [503, UNAVAILABLE],
  STORE_FAILED: [503, UNAVAILABLE],
  STOPPED: [503, UNAVAILABLE],
  ACK_TIMEOUT: [503, UNAVAILABLE],
  RETRY_LATER: [503, UNAVAILABLE],
};

/** Headers that some refusals owe by RFC 9110, sections 15.5.6 and 15.5.16. */
const REFUSAL_HEADERS: Partial<Record<RefusalCode, Readonly<Record<string, string>>>> = {
  METHOD_NOT_ALLOWED: { allow: "POST" },
  ENCODING_NOT_SUPPORTED: { "accept-encoding": "identity" },
};

/** `Retry-After` of a 503 that does not know better. */
const RETRY_AFTER_MS = 5_000;

const JSON_TYPE = { "content-type": "application/json" };

/** The answer that refuses. For a 503, `retryAfterMs` says how long to wait; headers count in whole seconds. */
export function refusal(code: RefusalCode, retryAfterMs = RETRY_AFTER_MS): Answer {
  const [status, message] = REFUSALS[code];
  const headers =
    status === 503
      ? { ...JSON_TYPE, "retry-after": String(Math.max(1, Math.ceil(retryAfterMs / 1_000))) }
      : { ...JSON_TYPE, ...REFUSAL_HEADERS[code] };
  return { status, headers, code, body: JSON.stringify({ error: { code, message } }) };
}

export function codeOf(error: unknown): ErrorCode | undefined {
  return error instanceof TrueupError ? (error as TrueupError).code : undefined;
}

export function statusOf(code: RefusalCode): number {
  return REFUSALS[code][0];
}

/** The code under which an error is refused; errors of other kinds are nobody's business outside. */
export function refusalCode(error: unknown): RefusalCode {
  const code = codeOf(error);
  return code !== undefined && Object.hasOwn(REFUSALS, code) ? (code as RefusalCode) : "INTERNAL_ERROR";
}

/** The neutral answer to a delivery that was dealt with. */
export function defaultAnswer(outcome: Outcome): Answer {
  const { status, accepted, duplicates, ignored } = outcome;
  // Written by hand, because every delivery has one: a word and three numbers need no escaping.
  const body = `{"status":"${status}","accepted":${accepted},"duplicates":${duplicates},"ignored":${ignored}}`;
  return { status: 200, headers: JSON_TYPE, body };
}

/** Set by the server from the body. */
const OWN_HEADERS = new Set(["content-length", "transfer-encoding", "connection", "keep-alive"]);

/** Statuses whose answers have no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5). */
const BODILESS_STATUSES: readonly number[] = [204, 205, 304];

/**
 * The answer that an adapter's `respond` shaped. Without a `body` it is empty; text goes out as it is.
 * @throws Error for a status, header or body that cannot be sent
 */
export function shapedAnswer({ status = 200, headers = {}, body }: WebhookAnswer): Answer {
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new RangeError(`a status must be between 200 and 599, not ${String(status)}`);
  }
  const raw = body === undefined || typeof body === "string" || body instanceof Uint8Array;
  const sent: Record<string, string> = raw ? {} : { ...JSON_TYPE };
  for (const [name, value] of Object.entries(headers)) {
    validateHeaderName(name);
    validateHeaderValue(name, value);
    if (!OWN_HEADERS.has(name.toLowerCase())) sent[name.toLowerCase()] = value;
  }
  const content = raw ? (body ?? "") : JSON.stringify(body);
  return { status, headers: sent, body: BODILESS_STATUSES.includes(status) ? "" : content };
}
