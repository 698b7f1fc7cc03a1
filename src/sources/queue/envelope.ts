/**
 * How a webhook travels through a broker: the body as it came, the allowed request headers as headers of the message,
 * and what else belongs to the delivery in headers that begin with `trueup-`.
 *
 * Messages of other producers have none of those and are read all the same: their headers are the headers.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { WebhookDelivery } from "../../core/source.ts";
import { isUsableId, ReceivedDelivery } from "../webhook/delivery.ts";
import type { MessageHeaders, QueueMessage } from "./driver.ts";

/** Such headers are believed as they come. A broker that passes on what strangers sent has to drop theirs. */
export const ENVELOPE_PREFIX = "trueup-";
const RECEIVED_AT = `${ENVELOPE_PREFIX}received-at`;
const DELIVERY_ID = `${ENVELOPE_PREFIX}delivery-id`;
const CONNECTION = `${ENVELOPE_PREFIX}connection`;
const URL_HEADER = `${ENVELOPE_PREFIX}url`;

/** What every broker's headers can carry as it is. */
const PRINTABLE = /^[\u0021-\u007e]{1,8192}$/;

/** Why a message lies among the dead letters; set by drivers that publish it there themselves. */
export const REASON_HEADER = `${ENVELOPE_PREFIX}reason`;

/** What is published for a delivery. */
export interface Envelope {
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}

/** A message as the provider's webhook would have been received. */
export interface Opened {
  readonly delivery: WebhookDelivery;
  /** Whose delivery it is, where the relay has found out. */
  readonly connection: string | undefined;
}

/** @param allowed lower-case names of request headers to take along; the others stay behind (I12) */
export function sealDelivery(
  delivery: WebhookDelivery,
  connection: string,
  allowed: readonly string[],
): Envelope {
  const headers = new Map<string, string>();
  for (const name of allowed) {
    const value = delivery.header(name);
    if (value !== undefined) headers.set(name, value);
  }
  headers.set(RECEIVED_AT, String(delivery.receivedAt));
  headers.set(CONNECTION, encodeURIComponent(connection));
  if (PRINTABLE.test(delivery.url)) headers.set(URL_HEADER, delivery.url);
  if (delivery.id !== undefined) headers.set(DELIVERY_ID, encodeURIComponent(delivery.id));
  return { headers, body: delivery.body };
}

/** @param now milliseconds since the epoch; a message cannot have been received later */
export function openMessage(message: QueueMessage, now: number): Opened {
  const { body, headers } = message;
  const url = single(headers, URL_HEADER) ?? "";
  const head = { method: "POST", url: () => url, header: (name: string) => headerOf(headers, name) };
  const receivedAt = Math.min(now, instant(single(headers, RECEIVED_AT)) ?? message.publishedAt ?? now);
  const delivery = new ReceivedDelivery(head, body, receivedAt);
  delivery.id = decoded(single(headers, DELIVERY_ID)) ?? (isUsableId(message.id) ? message.id : undefined);
  return { delivery, connection: decoded(single(headers, CONNECTION)) };
}

function headerOf(headers: MessageHeaders, name: string): string | undefined {
  const value = headers.get(name.toLowerCase());
  if (value === undefined || typeof value === "string") return value;
  if (value.length <= 1) return value[0];
  throw new TrueupError("HEADER_REPEATED", `the header "${name}" came ${value.length} times`);
}

function single(headers: MessageHeaders, name: string): string | undefined {
  const value = headers.get(name);
  return typeof value === "string" ? value : undefined;
}

function instant(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function decoded(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    const id = decodeURIComponent(text);
    return isUsableId(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
