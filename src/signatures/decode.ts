/**
 * Strict decoding. `Buffer.from` skips what it does not know (`"ab!!"`, hex with garbage behind it), so that many texts
 * would stand for one signature; here each sequence of bytes has exactly one text, and any other text is refused.
 *
 * @module
 */

/** How a digest is written. `hex` is lower case, `base64` has its padding, `base64url` has none. */
export type DigestEncoding = "hex" | "base64" | "base64url";

const ENCODINGS: readonly unknown[] = ["hex", "base64", "base64url"] satisfies DigestEncoding[];

export function isDigestEncoding(encoding: unknown): encoding is DigestEncoding {
  return ENCODINGS.includes(encoding);
}

/** The bytes, or `undefined` where the text is not their one spelling: encoding them again shows it. */
export function decodeStrictly(text: string, encoding: DigestEncoding): Buffer | undefined {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : undefined;
}
