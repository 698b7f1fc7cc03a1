/**
 * Any scheme that sends the HMAC of its body in a header, by configuration.
 *
 * @module
 */

import { invalidOption, SignatureError } from "../core/errors.ts";
import { keepSecrets } from "../core/secrets.ts";
import type { Verifier, WebhookDelivery } from "../core/source.ts";
import { type DigestEncoding, isDigestEncoding } from "./decode.ts";
import { requireFresh, requireTolerance, type TimestampUnit } from "./freshness.ts";
import { requireHeader } from "./header.ts";
import { hmacMatcher, isHmacAlgorithm, type HmacAlgorithm, type SignedParts } from "./hmac.ts";
import { requireHeaderName, requireSecrets, type Secrets } from "./secrets.ts";

/** What is signed: text (as UTF-8), bytes, or several of them in a row. */
export type SignedContent = string | Uint8Array | SignedParts;

export interface HmacSignatureOptions {
  /** The shared secret, used as UTF-8 text; several while it is rotated. */
  readonly secret: Secrets;
  /** The header that carries the signature. */
  readonly header: string;
  readonly algorithm: HmacAlgorithm;
  /** How the header writes the digest. Exactly one spelling is taken: hex in lower case, base64 with its padding. */
  readonly encoding: DigestEncoding;
  /** What stands before the digest, `"sha256="` say. A value without it is refused. */
  readonly prefix?: string | undefined;
  /**
   * What the provider signs. Take the body from `delivery.body`, never from `delivery.json`.
   * @default the body
   */
  readonly payload?: ((delivery: WebhookDelivery) => SignedContent) | undefined;
  /** The header with the time of sending, which `payload` must include: an unsigned time stops no replay. */
  readonly timestamp?:
    | { readonly header: string; /** @default "s" */ readonly unit?: TimestampUnit | undefined }
    | undefined;
  /** How far `timestamp` may be from now, to either side. @default 300_000 */
  readonly toleranceMs?: number | undefined;
  /** The header with the delivery's id. Signed only where `payload` includes it. */
  readonly idHeader?: string | undefined;
}

/**
 * Verifies an HMAC that a header carries.
 *
 * ```ts
 * hmacSignature({
 *   secret,
 *   header: "x-signature",
 *   algorithm: "sha256",
 *   encoding: "hex",
 *   timestamp: { header: "x-timestamp" },
 *   payload: (delivery) => [delivery.header("x-timestamp") ?? "", ".", delivery.body],
 * });
 * ```
 *
 * @throws TrueupError `OPTION_INVALID` for an empty secret or an option that is wrong
 */
export function hmacSignature(options: HmacSignatureOptions): Verifier {
  const scheme = "hmacSignature";
  const secrets = requireSecrets(scheme, "secret", options.secret);
  const header = requireHeaderName(scheme, "header", options.header);
  const idHeader =
    options.idHeader === undefined ? undefined : requireHeaderName(scheme, "idHeader", options.idHeader);
  const { algorithm, encoding, prefix = "", payload = bodyAlone } = options;
  if (!isHmacAlgorithm(algorithm)) {
    throw invalidOption(`${scheme}: \`algorithm\` must be "sha1", "sha256", "sha384" or "sha512"`);
  }
  if (!isDigestEncoding(encoding)) {
    throw invalidOption(`${scheme}: \`encoding\` must be "hex", "base64" or "base64url"`);
  }
  const checkTime = timeCheck(scheme, options);
  const matches = hmacMatcher({ algorithm, encoding, secrets });

  const verifier: Verifier = {
    verify(delivery, now) {
      const value = requireHeader(delivery, header);
      if (!value.startsWith(prefix)) throw new SignatureError(`the header ${header} lacks its prefix`);
      checkTime(delivery, now);
      if (!matches([value.slice(prefix.length)], partsOf(payload, delivery))) {
        throw new SignatureError(`the header ${header} carries no signature of this body by a known secret`);
      }
    },
    ...(idHeader === undefined
      ? undefined
      : { deliveryId: (delivery: WebhookDelivery) => delivery.header(idHeader) }),
  };
  return keepSecrets(verifier, secrets);
}

function bodyAlone(delivery: WebhookDelivery): Uint8Array {
  return delivery.body;
}

function timeCheck(
  scheme: string,
  options: HmacSignatureOptions,
): (delivery: WebhookDelivery, now: number) => void {
  const { timestamp, payload, toleranceMs } = options;
  if (timestamp === undefined) {
    if (toleranceMs === undefined) return () => {};
    throw invalidOption(`${scheme}: \`toleranceMs\` needs \`timestamp\`, the header with the time`);
  }
  const header = requireHeaderName(scheme, "timestamp.header", timestamp.header);
  const unit = timestamp.unit ?? "s";
  if (unit !== "s" && unit !== "ms") throw invalidOption(`${scheme}: \`timestamp.unit\` must be "s" or "ms"`);
  if (payload === undefined) {
    throw invalidOption(
      `${scheme}: \`timestamp\` needs a \`payload\` that includes it; the body alone does not sign it`,
    );
  }
  const tolerance = requireTolerance(scheme, toleranceMs);
  return (delivery, now) => requireFresh(requireHeader(delivery, header), unit, now, tolerance);
}

// `payload` is the user's and runs on bytes from anybody: whatever it throws or returns, this is no genuine delivery.
function partsOf(
  payload: (delivery: WebhookDelivery) => SignedContent,
  delivery: WebhookDelivery,
): SignedParts {
  let content: unknown;
  try {
    content = payload(delivery);
  } catch (cause) {
    throw new SignatureError("`payload` failed on this delivery", { cause });
  }
  const parts: unknown[] = Array.isArray(content) ? content : [content];
  if (parts.every((part) => typeof part === "string" || part instanceof Uint8Array)) return parts;
  throw new SignatureError("`payload` must return text, bytes, or a list of them");
}
