/**
 * The body of an answer: read within bounds, uncompressed within bounds, decoded.
 *
 * @module
 */

import { isUtf8 } from "node:buffer";
import type { Readable } from "node:stream";
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate, inflateRaw } from "node:zlib";
import type { Headers } from "../core/api.ts";
import { TrueupError } from "../core/errors.ts";
import { BodyBuffer } from "./body-buffer.ts";
import { parseJson } from "./json.ts";

/**
 * Reads a body to its end. Counts what arrives, whatever `Content-Length` says, and hangs up at the cap.
 * @throws TrueupError `BODY_TOO_LARGE`; the stream's own error when it breaks off
 */
export function collect(body: Readable, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const bytes = new BodyBuffer(maxBytes);
    let chunks = 0;
    body.on("data", (chunk: Buffer) => {
      chunks += 1;
      if (bytes.add(chunk)) return;
      reject(tooLarge(maxBytes));
      body.destroy();
    });
    body.on("end", () => {
      const whole = bytes.take();
      // Who keeps an answer should not keep the room that its last chunk did not need.
      resolve(
        chunks > 1 ? Buffer.from(whole) : Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength),
      );
    });
    body.on("error", reject);
    // Without `end` or `error` before it, the body was cut off; after one of them this changes nothing.
    body.on("close", () => reject(new Error("the body was cut off")));
  });
}

type Decoder = (bytes: Buffer, options: { readonly maxOutputLength: number }) => Promise<Buffer>;

const brotli: Decoder = promisify(brotliDecompress);
const gzip: Decoder = promisify(gunzip);
const zlib: Decoder = promisify(inflate);
const rawDeflate: Decoder = promisify(inflateRaw);

const DECODERS: Readonly<Record<string, Decoder>> = {
  br: brotli,
  gzip: gzip,
  "x-gzip": gzip,
  // RFC 9110 §8.4.1.2 means the zlib format, whose first nibble is 8; some servers send bare deflate instead.
  deflate: (bytes, options) => ((bytes[0] ?? 0) % 16 === 8 ? zlib : rawDeflate)(bytes, options),
};

/**
 * Undoes the content encoding. At most one: chained encodings multiply what a small bomb unfolds to (CVE-2026-22036).
 * @throws TrueupError `BODY_TOO_LARGE` before more than `maxBytes` are held; `RESPONSE_INVALID` for an encoding that is
 *   unknown, chained or broken
 */
export async function uncompress(
  bytes: Buffer,
  encoding: string | undefined,
  maxBytes: number,
): Promise<Buffer> {
  const name = encoding?.trim().toLowerCase() ?? "";
  if (bytes.length === 0 || name === "" || name === "identity") return bytes;
  const decoder = Object.hasOwn(DECODERS, name) ? DECODERS[name] : undefined;
  if (decoder === undefined) {
    throw invalid(
      `its content-encoding ${JSON.stringify(name.slice(0, 60))} is not one of gzip, br and deflate`,
    );
  }
  try {
    return await decoder(bytes, { maxOutputLength: maxBytes });
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE") throw tooLarge(maxBytes);
    throw invalid(`its ${name} encoding is broken`, cause);
  }
}

const JSON_TYPE = /^(?:application|text)\/json$|\+json$/;

/**
 * Decodes a body.
 *
 * - Empty: `undefined`.
 * - JSON (`application/json`, `text/json`, anything `+json`): parsed, see {@link parseJson}. Always UTF-8 (RFC 8259 §8.1).
 * - Any other type: text, also where it looks like JSON; in the `charset` that the type names, UTF-8 by default.
 * - No type at all: parsed when it is a JSON object or array, text otherwise (RFC 9110 §8.3 lets a recipient look).
 *
 * @throws TrueupError `RESPONSE_INVALID` for what is not valid in its own format
 */
export function decode(bytes: Buffer, headers: Headers): unknown {
  if (bytes.length === 0) return undefined;
  const type = headers["content-type"];
  if (type === undefined || type.trim() === "") return decodeUntyped(utf8(bytes));
  const essence = type.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!JSON_TYPE.test(essence)) return decodeText(bytes, type);
  const text = utf8(bytes);
  try {
    return parseJson(text);
  } catch {
    // The parser's message quotes the body, which is no business of logs.
    throw invalid(`it is not valid JSON (${bytes.length} bytes of ${essence})`);
  }
}

function decodeUntyped(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}

function decodeText(bytes: Buffer, type: string): string {
  const charset = /;\s*charset="?([^\s";]+)/i.exec(type)?.[1]?.toLowerCase() ?? "utf-8";
  if (charset === "utf-8" || charset === "utf8" || charset === "us-ascii") return utf8(bytes);
  try {
    return new TextDecoder(charset, { fatal: true }).decode(bytes);
  } catch {
    throw invalid(`it is not valid ${JSON.stringify(charset.slice(0, 40))}`);
  }
}

function utf8(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw invalid("it is not valid UTF-8");
  const text = bytes.toString("utf8");
  return text.charCodeAt(0) === 0xfe_ff ? text.slice(1) : text;
}

function tooLarge(maxBytes: number): TrueupError<"BODY_TOO_LARGE"> {
  return new TrueupError("BODY_TOO_LARGE", `the answer's body is over \`maxBodyBytes\` (${maxBytes})`);
}

function invalid(why: string, cause?: unknown): TrueupError<"RESPONSE_INVALID"> {
  return new TrueupError("RESPONSE_INVALID", `the answer cannot be decoded: ${why}`, { cause });
}
