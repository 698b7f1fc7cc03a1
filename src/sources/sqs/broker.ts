/**
 * SQS by the AWS SDK: what it says went wrong, and deliveries as messages of text and attributes.
 *
 * @module
 */

import type { Message, MessageAttributeValue, SQSClient, SQSClientConfig } from "@aws-sdk/client-sqs";
import { invalidOption, TrueupError } from "../../core/errors.ts";
import { isTrueupError } from "../../http/exchange.ts";
import type { Envelope } from "../queue/envelope.ts";

export interface SqsQueueOptions {
  /** The queue's URL. */
  readonly queueUrl: string;
  /** Region, endpoint, credentials and all else that the client takes. @default as the AWS SDK finds them */
  readonly sqs?: SQSClientConfig | undefined;
}

/** All headers in one attribute: a message has ten at most, and their values are bounded together with the body. */
const HEADERS_ATTRIBUTE = "trueup-headers";
/** How the body was made text: absent where it is text. */
const ENCODING_ATTRIBUTE = "trueup-encoding";
/** What SQS takes (the characters of XML 1.0). */
const SQS_TEXT = /^[\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]+$/u;

/** @throws TrueupError `OPTION_INVALID` */
export function checkQueueOptions({ queueUrl }: SqsQueueOptions): void {
  if (typeof queueUrl === "string" && URL.canParse(queueUrl) && /^https?:/.test(queueUrl)) return;
  throw invalidOption("`queueUrl` must be the queue's absolute URL");
}

export async function openClient({ sqs }: SqsQueueOptions): Promise<SQSClient> {
  const { SQSClient: Client } = await import("@aws-sdk/client-sqs");
  return new Client(sqs ?? {});
}

export interface SqsContent {
  readonly MessageBody: string;
  readonly MessageAttributes: Record<string, MessageAttributeValue>;
}

export function contentOf({ body, headers }: Envelope): SqsContent {
  const [MessageBody, encoding] = textOf(body);
  return {
    MessageBody,
    MessageAttributes: {
      [HEADERS_ATTRIBUTE]: attribute(JSON.stringify(Object.fromEntries(headers))),
      ...(encoding === undefined ? undefined : { [ENCODING_ATTRIBUTE]: attribute(encoding) }),
    },
  };
}

export function attribute(StringValue: string): MessageAttributeValue {
  return { DataType: "String", StringValue };
}

function textOf(body: Uint8Array): readonly [text: string, encoding?: string] {
  if (body.length === 0) return ["-", "empty"];
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const text = bytes.toString();
  // Decoding puts a sign in the place of what is no UTF-8, and drops nothing else.
  return SQS_TEXT.test(text) && Buffer.from(text).equals(bytes)
    ? [text]
    : [bytes.toString("base64"), "base64"];
}

export function bodyOf({ Body = "", MessageAttributes = {} }: Message): Uint8Array {
  switch (MessageAttributes[ENCODING_ATTRIBUTE]?.StringValue) {
    case "empty":
      return new Uint8Array();
    case "base64":
      return Buffer.from(Body, "base64");
    default:
      return Buffer.from(Body);
  }
}

export function headersOf({ MessageAttributes = {} }: Message): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  // Other producers have an attribute for each.
  for (const [name, { StringValue }] of Object.entries(MessageAttributes)) {
    if (StringValue !== undefined) headers.set(name.toLowerCase(), StringValue);
  }
  const packed = headers.get(HEADERS_ATTRIBUTE);
  headers.delete(HEADERS_ATTRIBUTE);
  headers.delete(ENCODING_ATTRIBUTE);
  for (const [name, value] of unpacked(packed)) headers.set(name.toLowerCase(), value);
  return headers;
}

function unpacked(text: string | undefined): (readonly [string, string])[] {
  if (text === undefined) return [];
  try {
    return Object.entries(JSON.parse(text) as Record<string, unknown>).flatMap(([name, value]) =>
      typeof value === "string" ? [[name, value] as const] : [],
    );
  } catch {
    return [];
  }
}

const REFUSED: ReadonlySet<string> = new Set([
  "AccessDenied",
  "AccessDeniedException",
  "CredentialsProviderError",
  "ExpiredToken",
  "ExpiredTokenException",
  "InvalidAccessKeyId",
  "InvalidClientTokenId",
  "InvalidSecurity",
  "MissingAuthenticationToken",
  "SignatureDoesNotMatch",
  "UnrecognizedClientException",
]);
const NO_QUEUE: ReadonlySet<string> = new Set([
  "QueueDoesNotExist",
  "AWS.SimpleQueueService.NonExistentQueue",
  "NonExistentQueue",
]);
const LOST: ReadonlySet<string> = new Set([
  "InvalidParameterValue",
  "MessageNotInflight",
  "ReceiptHandleIsInvalid",
  "AWS.SimpleQueueService.MessageNotInflight",
]);

export function failure(cause: unknown, queueUrl: string): TrueupError {
  if (isTrueupError(cause)) return cause;
  const { name = "" } = (cause ?? {}) as { readonly name?: string };
  if (REFUSED.has(name)) {
    return new TrueupError("UNAUTHORIZED", `SQS refuses the credentials for ${queueUrl} (${name})`, {
      cause,
    });
  }
  if (NO_QUEUE.has(name))
    return new TrueupError("OPTION_INVALID", `there is no queue ${queueUrl}`, { cause });
  return new TrueupError("NETWORK", `SQS did not do what it was asked to at ${queueUrl}`, { cause });
}

/** What became of one entry of a batch. */
export function entryFailure(code: string | undefined, queueUrl: string): TrueupError {
  if (code !== undefined && LOST.has(code)) {
    return new TrueupError("LEASE_LOST", `the message's visibility timeout is over (${code})`);
  }
  return new TrueupError(
    "NETWORK",
    `SQS did not do what it was asked to at ${queueUrl} (${code ?? "no answer"})`,
  );
}
