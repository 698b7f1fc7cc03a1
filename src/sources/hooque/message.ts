/**
 * What Hooque sends along with a payload, read strictly: its action URLs are where the token goes next.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import { parseJson } from "../../http/json.ts";
import { parseLinkHeader } from "../../http/link-header.ts";
import { isUsableId } from "../webhook/delivery.ts";
import type { MessageHeaders, QueueMessage } from "../queue/driver.ts";
import { ENVELOPE_PREFIX } from "../queue/envelope.ts";

export interface HooqueMeta {
  /** Links alone do not say it: then events are known by their own ids only. */
  readonly messageId: string | undefined;
  readonly attempts: number | undefined;
  readonly ackUrl: URL;
  readonly nackUrl: URL;
  readonly rejectUrl: URL;
}

export interface HooqueMessage extends QueueMessage {
  readonly meta: HooqueMeta;
}

/**
 * Reads `X-Hooque-Meta`, or the `meta` of an event.
 * @param queue the queue's own URL; relative action URLs are relative to it
 * @throws TrueupError `RESPONSE_INVALID`; `PATH_REFUSED` for an action URL at another origin
 */
export function readMeta(value: unknown, queue: URL): HooqueMeta {
  const { ackUrl, attempts, messageId, nackUrl, rejectUrl } = (value ?? {}) as Record<string, unknown>;
  const id = typeof messageId === "number" ? String(messageId) : messageId;
  if (!isUsableId(id)) throw invalid("it has no `messageId`");
  return {
    messageId: id,
    attempts: Number.isSafeInteger(attempts) && Number(attempts) > 0 ? Number(attempts) : undefined,
    ackUrl: actionUrl(ackUrl, "ackUrl", queue),
    nackUrl: actionUrl(nackUrl, "nackUrl", queue),
    rejectUrl: actionUrl(rejectUrl, "rejectUrl", queue),
  };
}

/** Of an answer: `X-Hooque-Meta`, or its `Link` where that is missing. @throws as {@link readMeta} */
export function readMetaHeaders(headers: Readonly<Record<string, string>>, queue: URL): HooqueMeta {
  const text = headers["x-hooque-meta"];
  if (text === undefined) return readLinks(headers["link"], queue);
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    throw invalid("it is not JSON");
  }
  return readMeta(value, queue);
}

function readLinks(text: string | undefined, queue: URL): HooqueMeta {
  if (text === undefined) throw invalid("it is missing");
  const links = parseLinkHeader(text);
  const url = (action: string) =>
    actionUrl(links.find(({ rel }) => rel.includes(action))?.target, `${action}Url`, queue);
  return {
    messageId: undefined,
    attempts: undefined,
    ackUrl: url("ack"),
    nackUrl: url("nack"),
    rejectUrl: url("reject"),
  };
}

/** The token is sent there: whoever answers must not be able to say where to. */
function actionUrl(text: unknown, name: string, queue: URL): URL {
  if (typeof text !== "string" || !URL.canParse(text, queue.href)) throw invalid(`it has no \`${name}\``);
  const url = new URL(text, queue);
  if (url.origin === queue.origin && url.username === "" && url.password === "") return url;
  throw new TrueupError(
    "PATH_REFUSED",
    `Hooque's \`${name}\` leads to another origin than the queue's, ${queue.origin}: nothing is sent there`,
  );
}

function invalid(why: string): TrueupError<"RESPONSE_INVALID"> {
  return new TrueupError("RESPONSE_INVALID", `the metadata of Hooque's message cannot be used: ${why}`);
}

/** Of the answer as an answer; what is left may be the webhook's own. */
const ANSWERS_OWN = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "date",
  "keep-alive",
  "link",
  "server",
  "set-cookie",
  "transfer-encoding",
  "vary",
]);

/** Prefixes of headers that say what became of a webhook on its way. Its sender, who is anybody, must not write them. */
const ENVELOPES = ["x-hooque-", ENVELOPE_PREFIX];

export function payloadHeaders(headers: Readonly<Record<string, string>>): MessageHeaders {
  return new Map(
    Object.entries(headers).filter(
      ([name]) => !ANSWERS_OWN.has(name) && !ENVELOPES.some((prefix) => name.startsWith(prefix)),
    ),
  );
}

/** One event of the stream. @throws as {@link readMeta} */
export function readStreamed(data: string, queue: URL, takenAt: number): HooqueMessage {
  let event: unknown;
  try {
    event = parseJson(data);
  } catch {
    throw invalid("the event is not JSON");
  }
  const { meta: given, payload } = (event ?? {}) as { readonly meta?: unknown; readonly payload?: unknown };
  const meta = readMeta(given, queue);
  const { attempts: attempt, messageId: id } = meta;
  return { id, attempt, meta, takenAt, headers: new Map(), body: Buffer.from(payloadText(payload)) };
}

/** A payload that is no JSON comes as text. One that is came parsed: its digits, though not its blanks, are kept. */
function payloadText(payload: unknown): string {
  if (typeof payload === "string") return payload;
  const keepDigits = (_key: string, value: unknown) =>
    typeof value === "bigint" ? rawJson(value.toString()) : value;
  return JSON.stringify(payload, keepDigits) ?? "";
}

/** Node 22 has it, and the compiler's library does not yet. */
const rawJson = (JSON as unknown as { readonly rawJSON: (text: string) => unknown }).rawJSON;
