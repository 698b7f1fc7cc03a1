/**
 * Ghost's webhooks.
 *
 * @module
 */

import { SignatureError } from "../core/errors.ts";
import { keepSecrets } from "../core/secrets.ts";
import type { Verifier } from "../core/source.ts";
import { requireFresh, requireTolerance } from "./freshness.ts";
import { requireHeader } from "./header.ts";
import { hmacMatcher } from "./hmac.ts";
import { requireSecrets, type Secrets } from "./secrets.ts";

export interface GhostSignatureOptions {
  /** The webhook's secret. Ghost sends webhooks unsigned where it has none, and those are refused. */
  readonly secret: Secrets;
  /** How far the signed time may be from now, to either side. @default 300_000 */
  readonly toleranceMs?: number | undefined;
}

const SIGNATURE = /^sha256=([^,\s]*), ?t=([^,\s]*)$/;

/**
 * Verifies `X-Ghost-Signature: sha256=<hex>, t=<ms>`, the HMAC-SHA256 of the body followed at once by the time
 * (`webhook-trigger.js` in {@link https://github.com/TryGhost/Ghost Ghost's source}). Older releases signed the body
 * without the time; their deliveries are refused, since nothing stops a replay of them.
 *
 * Ghost gives its deliveries no id.
 *
 * @throws TrueupError `OPTION_INVALID` for an empty secret
 */
export function ghostSignature(options: GhostSignatureOptions): Verifier {
  const secrets = requireSecrets("ghostSignature", "secret", options.secret);
  const toleranceMs = requireTolerance("ghostSignature", options.toleranceMs);
  const matches = hmacMatcher({ algorithm: "sha256", encoding: "hex", secrets });
  const verifier: Verifier = {
    verify(delivery, now) {
      const [, signature = "", timestamp = ""] =
        SIGNATURE.exec(requireHeader(delivery, "x-ghost-signature")) ?? [];
      requireFresh(timestamp, "ms", now, toleranceMs);
      if (!matches([signature], [delivery.body, timestamp])) {
        throw new SignatureError("x-ghost-signature is no signature of this body by a known secret");
      }
    },
  };
  return keepSecrets(verifier, secrets);
}
