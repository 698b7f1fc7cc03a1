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
 * Says when one of the schemes vouches for the delivery, with the id that this scheme found, which is believed only now.
 * At once where the schemes do, as all of this package do.
 *
 * @param from which of the schemes is asked first; those before it refused, the last of them with `failure`
 * @throws SignatureError (or rejects with it) when none does
 * @throws TrueupError `HEADER_REPEATED` when one of them met a header that came twice
 */
export function authenticate(
  delivery: WebhookDelivery,
  verifiers: readonly Verifier[],
  from = 0,
  failure?: Error,
): MaybePromise<string | undefined> {
  const verifier = verifiers[from];
  if (verifier === undefined) {
    throw failure ?? new SignatureError("there is no scheme to accept the delivery");
  }
  const refused = (error: unknown) => authenticate(delivery, verifiers, from + 1, worstOf(failure, error));
  try {
    const id = vouchedId(delivery, verifier);
    return isPromise(id) ? Promise.resolve(id).catch(refused) : id;
  } catch (error) {
    return refused(error);
  }
}

/** The delivery's id, if it has one. @throws whatever the scheme refuses the delivery with */
function vouchedId(delivery: WebhookDelivery, verifier: Verifier): MaybePromise<string | undefined> {
  const judge = (verdict: unknown) => {
    // A scheme of the user's may say `false` where it should throw. That must not read as a yes.
    if (verdict === false) throw new SignatureError("the verifier returned false");
    const id = verifier.deliveryId?.(delivery);
    return isUsableId(id) ? id : undefined;
  };
  const judging: MaybePromise<unknown> = verifier.verify(delivery, delivery.receivedAt);
  return isPromise(judging) ? judging.then(judge) : judge(judging);
}

/** Whatever class a vendor's own error has, it means what SignatureError means. Only a repeated header is told apart. */
function worstOf(failure: Error | undefined, error: unknown): Error {
  if (codeOf(error) === "HEADER_REPEATED") return error as Error;
  return failure ?? new SignatureError("no scheme accepts the delivery", { cause: error });
}
