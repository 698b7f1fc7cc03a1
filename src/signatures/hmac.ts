/**
 * Signatures that are the HMAC of what was sent.
 *
 * @module
 */

import { createHmac, createSecretKey, timingSafeEqual } from "node:crypto";
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
  const secrets = keys.secrets.map((secret) => createSecretKey(Buffer.from(secret)));
  return (signatures, parts) => {
    const claimed = signatures.map((signature) => Buffer.from(signature));
    let genuine = false;
    for (const secret of secrets) {
      const hmac = createHmac(keys.algorithm, secret);
      for (const part of parts) hmac.update(part);
      const expected = Buffer.from(hmac.digest(keys.encoding));
      for (const text of claimed) {
        // timingSafeEqual throws on a difference in length; how long a digest is, is no secret.
        if (text.length === expected.length && timingSafeEqual(text, expected)) genuine = true;
      }
    }
    return genuine;
  };
}
