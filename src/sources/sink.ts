/**
 * Turns what becomes of a delivery into an Outcome, so that a queue's consumer knows whether to ack, nack or reject.
 *
 * @module
 */

import { TrueupError } from "../core/errors.ts";
import type { ToldScope } from "../core/failure.ts";
import { asError } from "../core/retry.ts";
import type { EventDelivery, Outcome, RawDelivery, Sink } from "../core/source.ts";
import { ownerOf, readRaw, type RawReader } from "./raw.ts";
import { refusalCode, statusOf } from "./webhook/answer.ts";

const NOTHING = { accepted: 0, duplicates: 0, ignored: 0 } as const;
const RETRY_AFTER_MS = 5_000;

/** What can never be accepted, however often it is delivered. */
const HOPELESS: ReadonlySet<string> = new Set([
  "SIGNATURE_INVALID",
  "HEADER_REPEATED",
  "BODY_INVALID",
  "BODY_TOO_LARGE",
  "EVENT_INVALID",
  "EVENTS_FAILED",
]);

export function createSink(accept: (delivery: EventDelivery) => Promise<Outcome>, reader: RawReader): Sink {
  const one = async (given: EventDelivery | RawDelivery): Promise<Outcome> => {
    const { provider } = given;
    let { connection } = given;
    let reading = !("events" in given);
    try {
      let delivery: EventDelivery;
      if ("events" in given) delivery = given;
      else {
        // Whose it is comes first: what goes wrong with it then is counted for them, and told without their secrets.
        const owner = await ownerOf(given, reader);
        connection = owner?.connection.id;
        if (owner === undefined) {
          tellRefused(reader, { provider }, 200, "CONNECTION_UNKNOWN");
          return { status: "ignored", ...NOTHING, ignored: 1 };
        }
        delivery = await readRaw(given, owner, reader);
      }
      reading = false;
      return await accept(delivery);
    } catch (thrown) {
      const failure = asError(thrown);
      const hopeless = failure instanceof TrueupError && HOPELESS.has((failure as TrueupError).code);
      const error = reader.tell?.(failure, { provider, connection: connection ?? "default" }) ?? failure;
      // What fails later is told by whom it fails at.
      if (reading) {
        tellRefused(
          reader,
          { provider, connection },
          statusOf(refusalCode(error)),
          refusalCode(error),
          error,
        );
      }
      // What is to be tried again for a fault of ours would be tried for ever in silence.
      if (reading && !hopeless) {
        const during = `reading a message of provider "${provider}"`;
        reader.hooks?.emit("error", { error, during, scope: { provider, connection } });
      }
      return hopeless
        ? { status: "rejected", ...NOTHING, error }
        : { status: "retry", ...NOTHING, error, retryAfterMs: RETRY_AFTER_MS };
    }
  };
  return (deliveries) => Promise.all(deliveries.map(one));
}

function tellRefused(
  { hooks }: RawReader,
  { provider, connection }: ToldScope & { readonly provider: string },
  status: number,
  code: string,
  error?: Error,
): void {
  hooks?.emit("delivery.refused", { provider, connection, status, code, error });
}
