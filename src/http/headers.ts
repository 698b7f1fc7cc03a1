/**
 * Request headers going out, response headers coming in.
 *
 * @module
 */

import type { Headers } from "../core/api.ts";
import { invalidOption } from "../core/errors.ts";

/** Sent unless the provider or the call says otherwise. Several APIs refuse a request without a `user-agent`. */
export const DEFAULT_HEADERS: Headers = {
  accept: "application/json",
  "accept-encoding": "gzip, br, deflate",
  "user-agent": "trueup",
};

const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
/** Visible characters, blanks and tabs (RFC 9110 §5.5). No line ends: a token read from a file often has one. */
const VALUE = /^[\t\u0020-\u007e\u0080-\u00ff]*$/;

/**
 * Merges headers, later ones first in rank, names in lower case.
 * @throws TrueupError `OPTION_INVALID` naming the header, never its value
 */
export function mergeHeaders(...sources: readonly (Headers | undefined)[]): Record<string, string> {
  const merged = new Map<string, string>();
  for (const source of sources) {
    for (const [name, value] of Object.entries(source ?? {})) {
      const lower = name.toLowerCase();
      if (!NAME.test(lower)) throw invalidOption(`${JSON.stringify(name)} is no header name`);
      if (typeof value !== "string") throw invalidOption(`header "${lower}" must be a string`);
      if (!VALUE.test(value))
        throw invalidOption(`header "${lower}" has a character that HTTP does not allow`);
      merged.set(lower, value);
    }
  }
  return Object.fromEntries(merged);
}

/** Response headers as `ApiResponse.headers` promises them: lower-case names, repeated ones joined. */
export function plainHeaders(received: Readonly<Record<string, string | string[] | undefined>>): Headers {
  const plain: [string, string][] = [];
  for (const [name, value] of Object.entries(received)) {
    if (value !== undefined)
      plain.push([name.toLowerCase(), Array.isArray(value) ? value.join(", ") : value]);
  }
  return Object.fromEntries(plain);
}

/**
 * The server's clock, from the `Date` header (RFC 9110 §6.6.1), in milliseconds since the epoch.
 * `undefined` where there is none that can be read.
 */
export function serverDate(headers: Headers): number | undefined {
  const text = headers["date"];
  if (text === undefined || text.length > 64) return undefined;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : at;
}
