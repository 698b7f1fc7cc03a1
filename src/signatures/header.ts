/**
 * Headers that a scheme cannot do without.
 *
 * @module
 */

import { SignatureError } from "../core/errors.ts";
import type { WebhookDelivery } from "../core/source.ts";

/**
 * A header's value.
 * @throws SignatureError when it is absent or empty
 * @throws TrueupError `HEADER_REPEATED`
 */
export function requireHeader(delivery: WebhookDelivery, name: string): string {
  const value = delivery.header(name);
  if (value === undefined || value === "") throw new SignatureError(`the header ${name} is missing`);
  return value;
}
