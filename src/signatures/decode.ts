/**
 * Strict decoding. `Buffer.from` skips what it does not know (`"ab!!"`, hex with garbage behind it), so that many texts
 * would stand for one signature; here each sequence of bytes has exactly one text, and any other text is refused.
 *
 * @module
 */

/** How a digest is written. `hex` is lower case, `base64` has its padding, `base64url` has none. */
export type DigestEncoding = "hex" | "base64" | "base64url";

const ALPHABET: Readonly<Record<DigestEncoding, RegExp>> = {
  hex: /^(?:[0-9a-f]{2})*$/,
  base64: /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
  base64url: /^[A-Za-z0-9_-]*$/,
};

export function isDigestEncoding(encoding: unknown): encoding is DigestEncoding {
  return typeof encoding === "string" && Object.hasOwn(ALPHABET, encoding);
}

/** The bytes, or `undefined` where the text is not their one spelling. */
export function decodeStrictly(text: string, encoding: DigestEncoding): Buffer | undefined {
  if (!ALPHABET[encoding].test(text)) return undefined;
  const bytes = Buffer.from(text, encoding);
  // The alphabet leaves some last characters with bits that stand for nothing; encoding again shows them.
  return bytes.toString(encoding) === text ? bytes : undefined;
}
