/**
 * Reads a queue's message as the provider's webhook would read it.
 *
 * @module
 */

import { invalidOption, TrueupError } from "../core/errors.ts";
import type { MaybePromise } from "../core/maybe-promise.ts";
import type { ToldScope } from "../core/failure.ts";
import type { Hooks } from "../core/hooks.ts";
import type { AnyProvider, Connection } from "../core/provider.ts";
import { secretsOf } from "../core/secrets.ts";
import type { EventDelivery, RawDelivery } from "../core/source.ts";
import { authenticate, verifierList } from "./webhook/authenticate.ts";
import { connectionIdText } from "./webhook/delivery.ts";
import { checkedEvents, DEFAULT_MAX_BODY_BYTES } from "./webhook/events.ts";

export interface RawReader {
  readonly provider: (name: string) => AnyProvider | undefined;
  readonly findConnection: (provider: string, id: string) => MaybePromise<Connection | undefined>;
  /** Hears of secrets of a connection's signature schemes (I12). */
  readonly learn?: ((provider: string, id: string, secrets: readonly string[]) => void) | undefined;
  /** Frees an error of secrets before its source sees it, which may send it to its broker (I12). */
  readonly tell?: ((error: Error, scope: ToldScope) => Error) | undefined;
  /** Hears of what is refused: nobody waits at the other end of a queue for an answer. */
  readonly hooks?: Hooks | undefined;
}

/** Whose a delivery is. Where it is to be verified, nothing has proved that yet. */
export interface Owner {
  readonly provider: AnyProvider;
  readonly webhook: NonNullable<AnyProvider["webhook"]>;
  readonly connection: Connection;
}

/**
 * @returns `undefined` for a delivery of a connection that nobody knows
 * @throws TrueupError `EVENTS_FAILED` where it cannot be understood; `OPTION_INVALID` for a provider that reads none
 */
export async function ownerOf(raw: RawDelivery, reader: RawReader): Promise<Owner | undefined> {
  const { delivery } = raw;
  const provider = reader.provider(raw.provider);
  const webhook = provider?.webhook;
  if (provider === undefined || webhook === undefined) throw noReader(raw.provider);
  const id =
    raw.connection ??
    (webhook.connection === undefined
      ? "default"
      : connectionIdText(await asking(provider.name, "connection", () => webhook.connection?.(delivery))));
  const connection = id === undefined ? undefined : await reader.findConnection(provider.name, id);
  return connection === undefined ? undefined : { provider, webhook, connection };
}

/** Of a queue's messages that no provider reads. */
function noReader(provider: string): TrueupError<"OPTION_INVALID"> {
  return invalidOption(`no provider named "${provider}" has a \`webhook\` to read deliveries with`);
}

/** @throws SignatureError where it is to be verified and is not genuine; `EVENTS_FAILED` where it cannot be understood */
export async function readRaw(raw: RawDelivery, owner: Owner, reader: RawReader): Promise<EventDelivery> {
  const { delivery } = raw;
  const { connection, provider, webhook } = owner;
  let deliveryId = delivery.id;
  if (raw.verify) {
    const verify: unknown =
      typeof webhook.verify === "function" ? await webhook.verify(connection) : webhook.verify;
    const verifiers = verifierList(verify, provider.name);
    reader.learn?.(provider.name, connection.id, verifiers.flatMap(secretsOf));
    deliveryId = (await authenticate(delivery, verifiers)) ?? deliveryId;
  }
  const events = await asking(provider.name, "events", async () => {
    const found: unknown = await webhook.events(delivery);
    // A queue may be let carry larger bodies than the webhook.
    return checkedEvents(found, Math.max(DEFAULT_MAX_BODY_BYTES, delivery.body.byteLength));
  });
  return {
    provider: provider.name,
    connection: connection.id,
    origin: "queue",
    deliveryId,
    receivedAt: delivery.receivedAt,
    events,
  };
}

/** Runs code of the adapter's. What it cannot read now, it cannot read later. */
async function asking<T>(provider: string, what: string, ask: () => T | Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    if (cause instanceof TrueupError) throw cause;
    throw new TrueupError("EVENTS_FAILED", `the \`${what}\` of provider "${provider}" failed`, { cause });
  }
}
