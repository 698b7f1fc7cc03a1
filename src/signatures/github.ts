/**
 * GitHub's webhooks.
 *
 * @module
 */

import type { Verifier } from "../core/source.ts";
import { hmacSignature } from "./hmac-signature.ts";
import { requireSecrets, type Secrets } from "./secrets.ts";

export interface GithubSignatureOptions {
  /** The webhook's secret; several while it is rotated. */
  readonly secret: Secrets;
}

/**
 * Verifies `X-Hub-Signature-256`, the HMAC-SHA256 of the body in hex
 * ({@link https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries GitHub's page}). The older
 * `X-Hub-Signature`, with SHA-1, is not read.
 *
 * The delivery's id is `X-GitHub-Delivery`, the same when GitHub delivers again. It is **not signed**, and neither are
 * `X-GitHub-Event` nor any time: whoever holds one delivery can send its body again under other ids. That costs fetches
 * and changes nothing, since an event is only a hint; but take types and tenants from the body, not from headers.
 *
 * @throws TrueupError `OPTION_INVALID` for an empty secret
 */
export function githubSignature(options: GithubSignatureOptions): Verifier {
  return hmacSignature({
    secret: requireSecrets("githubSignature", "secret", options.secret),
    header: "x-hub-signature-256",
    algorithm: "sha256",
    encoding: "hex",
    prefix: "sha256=",
    idHeader: "x-github-delivery",
  });
}
