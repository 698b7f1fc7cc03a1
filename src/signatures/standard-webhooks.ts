/**
 * Standard Webhooks, which Svix and many providers speak.
 *
 * @module
 */

import { createPublicKey, verify as verifySignature, type KeyObject } from "node:crypto";
import { invalidOption, SignatureError } from "../core/errors.ts";
import { keepSecrets } from "../core/secrets.ts";
import type { Verifier, WebhookDelivery } from "../core/source.ts";
import { decodeStrictly } from "./decode.ts";
import { requireFresh, requireTolerance } from "./freshness.ts";
import { hmacMatcher } from "./hmac.ts";
import { requireSecrets, type Secrets } from "./secrets.ts";

/** At least one of `secret` and `publicKey`. With both, a delivery that passes either is genuine. */
export interface StandardWebhooksOptions {
  /** For `v1` signatures (HMAC-SHA256): base64, with or without `whsec_` in front; several while it is rotated. */
  readonly secret?: Secrets | undefined;
  /** For `v1a` signatures (ed25519): base64 of 32 bytes, with or without `whpk_` in front. */
  readonly publicKey?: Secrets | undefined;
  /** How far the signed time may be from now, to either side. @default 300_000 */
  readonly toleranceMs?: number | undefined;
}

const SCHEME = "standardWebhooks";
const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Senders sign with one key, or two while it is rotated. Each ed25519 check costs some 50 µs, for anybody who asks. */
const MAX_SIGNATURES = 16;

/**
 * Verifies deliveries as the
 * {@link https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md specification} has
 * it: `webhook-signature` is a list of signatures of `id.timestamp.body`, where the other two come from `webhook-id` and
 * `webhook-timestamp`. Svix's names, `svix-id` and so on, are read where the first three are not complete.
 *
 * The delivery's id is `webhook-id`, which is signed and stays the same over retries. One with a full stop is refused,
 * because `id.timestamp.body` could then be cut in more than one place (specification, "Signature scheme").
 *
 * @throws TrueupError `OPTION_INVALID` for an empty secret, also for a bare `whsec_`, and for what is not base64
 */
export function standardWebhooks(options: StandardWebhooksOptions): Verifier {
  const { secret, publicKey } = options;
  const toleranceMs = requireTolerance(SCHEME, options.toleranceMs);
  const texts =
    secret === undefined && publicKey !== undefined ? [] : requireSecrets(SCHEME, "secret", secret);
  const secrets = texts.map((text) => keyBytes(text, "whsec_", "secret"));
  const publicKeys = publicKey === undefined ? [] : ed25519Keys(publicKey);
  const matches = hmacMatcher({ algorithm: "sha256", encoding: "base64", secrets });

  const verifier: Verifier = {
    verify(delivery, now) {
      const { id, timestamp, signatures } = metadataOf(delivery);
      if (id.includes(".")) throw new SignatureError("the delivery's id has a full stop");
      requireFresh(timestamp, "s", now, toleranceMs);
      const head = `${id}.${timestamp}.`;
      // How `Headers` joins a header that came twice. Entries are parted by a space alone.
      if (signatures.includes(", ")) throw new SignatureError("the signature's header came more than once");
      const list = signatures.split(" ");
      if (list.length > MAX_SIGNATURES) throw new SignatureError(`more than ${MAX_SIGNATURES} signatures`);
      // Each kind of signature is checked with its own kind of key, never with one that the request suggests.
      const byHmac = matches(versioned(list, "v1,"), [head, delivery.body]);
      const byKeyPair =
        publicKeys.length > 0 && signedBy(publicKeys, versioned(list, "v1a,"), head, delivery.body);
      if (!byHmac && !byKeyPair) {
        throw new SignatureError("no signature of this delivery is by a known secret or key");
      }
    },
    deliveryId: (delivery) => metadataOf(delivery).id,
  };
  return keepSecrets(verifier, texts);
}

function metadataOf(delivery: WebhookDelivery): { id: string; timestamp: string; signatures: string } {
  for (const prefix of ["webhook", "svix"]) {
    const id = delivery.header(`${prefix}-id`);
    const timestamp = delivery.header(`${prefix}-timestamp`);
    const signatures = delivery.header(`${prefix}-signature`);
    // All three or none: parts of two sets do not belong together.
    if (id && timestamp && signatures) return { id, timestamp, signatures };
  }
  throw new SignatureError("webhook-id, webhook-timestamp and webhook-signature are not all there");
}

function versioned(list: readonly string[], version: "v1," | "v1a,"): string[] {
  return list.filter((entry) => entry.startsWith(version)).map((entry) => entry.slice(version.length));
}

function signedBy(
  keys: readonly KeyObject[],
  signatures: readonly string[],
  head: string,
  body: Uint8Array,
): boolean {
  const content = Buffer.concat([Buffer.from(head), body]);
  let genuine = false;
  for (const text of signatures) {
    const signature = decodeStrictly(text, "base64");
    if (signature?.length !== SIGNATURE_BYTES) continue;
    for (const key of keys) if (verifySignature(null, content, key, signature)) genuine = true;
  }
  return genuine;
}

function ed25519Keys(publicKey: unknown): KeyObject[] {
  return requireSecrets(SCHEME, "publicKey", publicKey).map((text) => {
    const key = keyBytes(text, "whpk_", "publicKey");
    if (key.length !== PUBLIC_KEY_BYTES) {
      throw invalidOption(`${SCHEME}: \`publicKey\` must be ${PUBLIC_KEY_BYTES} bytes, not ${key.length}`);
    }
    return createPublicKey({
      format: "jwk",
      key: { kty: "OKP", crv: "Ed25519", x: key.toString("base64url") },
    });
  });
}

function keyBytes(text: string, prefix: "whsec_" | "whpk_", option: string): Buffer {
  const key = decodeStrictly(text.startsWith(prefix) ? text.slice(prefix.length) : text, "base64");
  if (key !== undefined && key.length > 0) return key;
  const what = key === undefined ? "not base64" : "empty";
  throw invalidOption(`${SCHEME}: \`${option}\` is ${what} (after "${prefix}")`);
}
