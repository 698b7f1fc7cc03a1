/**
 * Lets a provider's signature schemes judge a delivery.
 *
 * @module
 */

import { invalidOption, SignatureError } from "../../core/errors.ts";
import { isPromise, type MaybePromise } from "../../core/maybe-promise.ts";
import type { Verifier, WebhookDelivery } from "../../core/source.ts";
import { codeOf } from "./answer.ts";
import { isUsableId } from "./delivery.ts";

/**
 * The schemes as a list.
 * @throws TrueupError `OPTION_INVALID` for an empty list too: no scheme at all must not mean that everything passes
 */
export function verifierList(verify: unknown, provider: string): readonly Verifier[] {
  const list = (Array.isArray(verify) ? verify : [verify]) as readonly (Verifier | undefined)[];
  if (list.length > 0 && list.every((verifier) => typeof verifier?.verify === "function")) {
    return list as readonly Verifier[];
  }
  throw invalidOption(
    `provider "${provider}": \`webhook.verify\` must give a signature scheme, or a list of them`,
  );
}

/**
 * Returns when one of the schemes vouches for the delivery, with the id that this scheme found, which is believed only
 * now.
 * @throws SignatureError when none does
 * @throws TrueupError `HEADER_REPEATED` when one of them met a header that came twice
 */
export async function authenticate(
  delivery: WebhookDelivery,
  verifiers: readonly Verifier[],
): Promise<string | undefined> {
  let failure: Error | undefined;
  for (const verifier of verifiers) {
    try {
      // A scheme of the user's may say `false` where it should throw. That must not read as a yes.
      const judging: MaybePromise<unknown> = verifier.verify(delivery, delivery.receivedAt);
      const verdict = isPromise(judging) ? await judging : judging;
      if (verdict === false) throw new SignatureError("the verifier returned false");
      const id = verifier.deliveryId?.(delivery);
      return isUsableId(id) ? id : undefined;
    } catch (error) {
      // Whatever class a vendor's own error has, it means what SignatureError means. Only a repeated header is told apart.
      if (codeOf(error) === "HEADER_REPEATED") failure = error as Error;
      else failure ??= new SignatureError("no scheme accepts the delivery", { cause: error });
    }
  }
  throw failure ?? new SignatureError("there is no scheme to accept the delivery");
}
