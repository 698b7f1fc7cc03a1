/**
 * Signatures that are the HMAC of what was sent.
 *
 * @module
 */

import { createHmac, createSecretKey, timingSafeEqual } from "node:crypto";
import { decodeStrictly, type DigestEncoding } from "./decode.ts";

export type HmacAlgorithm = "sha1" | "sha256" | "sha384" | "sha512";

/** What is signed, in order. Strings are taken as UTF-8. */
export type SignedParts = readonly (string | Uint8Array)[];

const DIGEST_BYTES: Readonly<Record<HmacAlgorithm, number>> = {
  sha1: 20,
  sha256: 32,
  sha384: 48,
  sha512: 64,
};

export function isHmacAlgorithm(algorithm: unknown): algorithm is HmacAlgorithm {
  return typeof algorithm === "string" && Object.hasOwn(DIGEST_BYTES, algorithm);
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
 */
export function hmacMatcher(keys: HmacKeys): (signatures: readonly string[], parts: SignedParts) => boolean {
  const secrets = keys.secrets.map((secret) => createSecretKey(Buffer.from(secret)));
  const size = DIGEST_BYTES[keys.algorithm];
  return (signatures, parts) => {
    const claimed = signatures.map((signature) => decodeStrictly(signature, keys.encoding));
    let genuine = false;
    for (const secret of secrets) {
      const hmac = createHmac(keys.algorithm, secret);
      for (const part of parts) hmac.update(part);
      const expected = hmac.digest();
      for (const digest of claimed) {
        // timingSafeEqual throws on a difference in length; how long a digest is, is no secret.
        if (digest?.length === size && timingSafeEqual(digest, expected)) genuine = true;
      }
    }
    return genuine;
  };
}
