/**
 * Signatures that are the HMAC of what was sent.
 *
 * @module
 */

import { hash, timingSafeEqual } from "node:crypto";
import type { DigestEncoding } from "./decode.ts";

export type HmacAlgorithm = "sha1" | "sha256" | "sha384" | "sha512";

/** What is signed, in order. Strings are taken as UTF-8. */
export type SignedParts = readonly (string | Uint8Array)[];

const ALGORITHMS: readonly unknown[] = ["sha1", "sha256", "sha384", "sha512"] satisfies HmacAlgorithm[];

export function isHmacAlgorithm(algorithm: unknown): algorithm is HmacAlgorithm {
  return ALGORITHMS.includes(algorithm);
}

export interface HmacKeys {
  readonly algorithm: HmacAlgorithm;
  readonly encoding: DigestEncoding;
  /** The secrets as text (UTF-8) or as bytes. */
  readonly secrets: readonly (string | Uint8Array)[];
}

/**
 * A function that says whether one of the signatures is that of the parts under one of the keys. Every signature is
 * compared with every key's digest, match or not, so that the time tells nothing about which of them it was.
 *
 * Texts are compared, not bytes: a digest has one spelling in its encoding, and decoding would have to refuse all others
 * (see `decode.ts`). That also spares the digest a buffer of its own, a quarter of what all of this takes.
 */
export function hmacMatcher(keys: HmacKeys): (signatures: readonly string[], parts: SignedParts) => boolean {
  const digests = keys.secrets.map((secret) => hmac(keys, secret));
  return (signatures, parts) => {
    const claimed = signatures.map((signature) => Buffer.from(signature));
    let genuine = false;
    for (const digest of digests) {
      const expected = Buffer.from(digest(parts));
      for (const text of claimed) {
        // timingSafeEqual throws on a difference in length; how long a digest is, is no secret.
        if (text.length === expected.length && timingSafeEqual(text, expected)) genuine = true;
      }
    }
    return genuine;
  };
}

/**
 * HMAC under one key, as RFC 2104, section 2, defines it: H(K ^ opad, H(K ^ ipad, message)).
 *
 * `createHmac` makes a stream and a native context for each message, which together cost a webhook more than its hashing.
 * Hashing in one call makes neither.
 */
function hmac(
  { algorithm, encoding }: Omit<HmacKeys, "secrets">,
  secret: string | Uint8Array,
): (message: SignedParts) => string {
  const digestBytes = hash(algorithm, "", "buffer").length;
  const blockBytes = digestBytes > 32 ? 128 : 64; // SHA-384 and SHA-512 work on blocks twice as long
  const given = Buffer.from(secret);
  const key = given.length > blockBytes ? hash(algorithm, given, "buffer") : given;
  const inner = Buffer.alloc(blockBytes, 0x36);
  const outer = Buffer.alloc(blockBytes + digestBytes, 0x5c); // its end is written afresh for each message
  for (const [i, byte] of key.entries()) {
    inner[i] = 0x36 ^ byte;
    outer[i] = 0x5c ^ byte;
  }
  return (message) => {
    const parts = message.map((part) => (typeof part === "string" ? Buffer.from(part) : part));
    // As text, because a digest that comes as a buffer is memory of its own outside the heap.
    outer.write(hash(algorithm, Buffer.concat([inner, ...parts]), "binary"), blockBytes, "binary");
    return hash(algorithm, outer, encoding);
  };
}
