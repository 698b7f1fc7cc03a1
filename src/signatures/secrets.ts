/**
 * What a signature scheme is configured with: secrets and names of headers, checked when the scheme is made.
 *
 * @module
 */

import { invalidOption } from "../core/errors.ts";

/** One secret, or several while they are rotated: a delivery signed with any of them is genuine. */
export type Secrets = string | readonly string[];

/**
 * The secrets as a list. An absent or empty one is refused here, at the start: an HMAC with an empty key verifies, and
 * anybody can make it.
 * @throws TrueupError `OPTION_INVALID`, which never quotes a secret
 */
export function requireSecrets(scheme: string, option: string, given: unknown): readonly string[] {
  const secrets: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (secrets.length === 0) throw invalidOption(`${scheme}: \`${option}\` is an empty list`);
  return secrets.map((secret) => {
    if (typeof secret === "string" && secret.trim() !== "") return secret;
    const what = typeof secret === "string" ? "empty" : secret === undefined ? "undefined" : "not a string";
    throw invalidOption(`${scheme}: \`${option}\` is ${what}; without a secret nothing can be verified`);
  });
}

/** A header's name as {@link https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 RFC 9110, 5.6.2} defines it. */
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * The name of a header, in lower case.
 * @throws TrueupError `OPTION_INVALID`
 */
export function requireHeaderName(scheme: string, option: string, name: unknown): string {
  if (typeof name !== "string" || !HEADER_NAME.test(name)) {
    throw invalidOption(`${scheme}: \`${option}\` must be the name of a header, not ${JSON.stringify(name)}`);
  }
  return name.toLowerCase();
}
