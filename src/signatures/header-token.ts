/**
 * A shared secret that the sender repeats in a header.
 *
 * @module
 */

import { hash, timingSafeEqual } from "node:crypto";
import { invalidOption, SignatureError } from "../core/errors.ts";
import { keepSecrets } from "../core/secrets.ts";
import type { Verifier } from "../core/source.ts";
import { requireHeader } from "./header.ts";
import { requireHeaderName, requireSecrets, type Secrets } from "./secrets.ts";

export interface HeaderTokenOptions {
  /** The header that carries the token. */
  readonly header: string;
  /** The header's whole value, `"Bearer …"` where it begins so; several while it is rotated. */
  readonly secret: Secrets;
}

/** Text that a header can carry unchanged: HTTP strips white space at its ends, and has no agreed charset. */
const HEADER_VALUE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;

/**
 * Verifies that a header has the agreed value. This proves that the sender knows the token, and nothing about the body
 * or its age: use it over TLS, for providers that offer no signature.
 *
 * @throws TrueupError `OPTION_INVALID` for an empty token, or one that no header can carry
 */
export function headerToken(options: HeaderTokenOptions): Verifier {
  const header = requireHeaderName("headerToken", "header", options.header);
  const secrets = requireSecrets("headerToken", "secret", options.secret);
  const tokens = secrets.map((token) => {
    if (HEADER_VALUE.test(token)) return sha256(token);
    throw invalidOption(
      "headerToken: `secret` has white space at an end, or characters that no header can carry",
    );
  });
  const verifier: Verifier = {
    verify(delivery) {
      // Digests are compared: their length is fixed, so that the time does not even tell the token's length.
      const given = sha256(requireHeader(delivery, header));
      let genuine = false;
      for (const token of tokens) if (timingSafeEqual(given, token)) genuine = true;
      if (!genuine) throw new SignatureError(`the header ${header} has not the agreed value`);
    },
  };
  return keepSecrets(verifier, secrets);
}

function sha256(text: string): Buffer {
  return hash("sha256", text, "buffer");
}
