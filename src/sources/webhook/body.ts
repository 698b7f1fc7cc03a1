/**
 * Reads a body as `delivery.json` does. Strict wherever being lenient would let two different bodies read alike.
 *
 * @module
 */

import { isUtf8 } from "node:buffer";
import { TrueupError } from "../../core/errors.ts";
import { parseJson } from "../../http/json.ts";

const FORM = /^application\/x-www-form-urlencoded\s*(?:;|$)/i;

/**
 * A key `__proto__`, however it is escaped. Quotes inside JSON strings are escaped, so this matches keys alone.
 * `JSON.parse` itself is safe; code that later merges or assigns what it returned is not.
 */
const PROTO_KEY =
  /[{,]\s*"(?:_|\\u005[Ff]){2}(?:p|\\u0070)(?:r|\\u0072)(?:o|\\u006[Ff])(?:t|\\u0074)(?:o|\\u006[Ff])(?:_|\\u005[Ff]){2}"\s*:/;

/**
 * Parses a body: an object of strings for `application/x-www-form-urlencoded`, otherwise JSON, whatever the type says,
 * since many senders say none or the wrong one. Integers beyond ±(2^53 − 1) become bigints, so that ids keep their digits. A byte order mark is skipped, as RFC 8259, section 8.1, allows.
 *
 * @throws TrueupError `BODY_INVALID` for an empty body, bytes that are not UTF-8, what cannot be parsed, a key
 * `__proto__`, and a form field that came twice
 */
export function parseBody(body: Uint8Array, contentType: string | undefined): unknown {
  if (body.length === 0) throw invalidBody("the body is empty");
  if (!isUtf8(body)) throw invalidBody("the body is not UTF-8");
  const decoded = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
  const text = decoded.startsWith("\uFEFF") ? decoded.slice(1) : decoded;
  return contentType !== undefined && FORM.test(contentType) ? parseForm(text) : parseJsonBody(text);
}

function parseJsonBody(text: string): unknown {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    // The parser's own message quotes the body, which may hold secrets (I12).
    throw invalidBody("the body is not JSON");
  }
  // The two searches are fast and nearly always end the matter.
  if ((text.includes("__proto__") || text.includes("\\u00")) && PROTO_KEY.test(text)) {
    throw invalidBody("the body has a key __proto__");
  }
  return value;
}

function parseForm(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const pair of text.split("&")) {
    if (pair === "") continue;
    const cut = pair.indexOf("=");
    const name = formText(cut < 0 ? pair : pair.slice(0, cut));
    if (name === "__proto__") throw invalidBody("the form has a field __proto__");
    // Which of the values counts is ambiguous, as it is for headers.
    if (Object.hasOwn(fields, name)) throw invalidBody("the form has a field twice");
    fields[name] = cut < 0 ? "" : formText(pair.slice(cut + 1));
  }
  return fields;
}

function formText(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    throw invalidBody("the form is not encoded properly");
  }
}

function invalidBody(message: string): TrueupError<"BODY_INVALID"> {
  return new TrueupError("BODY_INVALID", message);
}
