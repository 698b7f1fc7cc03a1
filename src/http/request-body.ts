/**
 * The body of a request.
 *
 * @module
 */

import { invalidOption } from "../core/errors.ts";

export interface RequestBody {
  readonly content: string | Uint8Array;
  /** Sent unless the call names its own `content-type`. */
  readonly contentType: string | undefined;
}

/**
 * Encodes a body once, so that each retry sends the same bytes: strings and bytes as they are, URLSearchParams as a
 * form, anything else as JSON. `undefined` and `null` are no body.
 * @throws TrueupError `OPTION_INVALID` for streams, which cannot be sent twice, and for what JSON cannot express
 */
export function encodeBody(body: unknown): RequestBody | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return { content: body, contentType: undefined };
  if (body instanceof Uint8Array) return { content: body, contentType: undefined };
  if (body instanceof ArrayBuffer) return { content: new Uint8Array(body), contentType: undefined };
  if (body instanceof URLSearchParams) {
    return { content: body.toString(), contentType: "application/x-www-form-urlencoded" };
  }
  if (isStream(body))
    throw invalidOption("a request's `body` cannot be a stream, since a retry could not send it again");
  return { content: jsonText(body), contentType: "application/json" };
}

function isStream(body: unknown): boolean {
  const { pipe, getReader, [Symbol.asyncIterator]: iterate } = body as Record<PropertyKey, unknown>;
  return [pipe, getReader, iterate].some((member) => typeof member === "function");
}

function jsonText(body: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(body);
  } catch (cause) {
    throw invalidOption(`a request's \`body\` cannot be written as JSON: ${(cause as Error).message}`);
  }
  if (text === undefined) throw invalidOption(`a request's \`body\` cannot be a ${typeof body}`);
  return text;
}
