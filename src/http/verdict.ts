/**
 * What an answer means.
 *
 * @module
 */

import type { Headers } from "../core/api.ts";
import type { ResponseClass } from "../core/provider.ts";
import { isExhausted } from "./rate-headers.ts";

export type Verdict = "success" | ResponseClass;

/**
 * What an answer means where the adapter's `classify` does not say: 401 is `auth`; 429, and a 403 that speaks of the rate,
 * are `rate-limit`; 5xx are `retry`, except 501, which time does not mend (RFC 9110 §15.6.2); any other status from 400
 * is `fail`.
 */
export function verdictOf(status: number, headers: Headers): Verdict {
  if (status === 401) return "auth";
  if (status === 429 || (status === 403 && isExhausted(headers))) return "rate-limit";
  if (status >= 500 && status !== 501) return "retry";
  return status >= 400 ? "fail" : "success";
}

/** Methods whose repetition has no effect beyond that of the first request (RFC 9110 §9.2.2). */
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}
