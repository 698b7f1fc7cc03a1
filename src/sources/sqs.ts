/**
 * `trueup/sqs`: events from and to Amazon SQS, on the AWS SDK v3.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import type { Message, SQSClient } from "@aws-sdk/client-sqs";
import { batcher } from "../core/batcher.ts";
import { invalidOption } from "../core/errors.ts";
import { positive } from "../core/options.ts";
import type { Source } from "../core/source.ts";
import type { QueueConnection, QueueDriver, QueueMessage } from "./queue/driver.ts";
import { REASON_HEADER } from "./queue/envelope.ts";
import type { QueueSourceOptions } from "./queue/options.ts";
import type { QueuePublisher } from "./queue/publisher.ts";
import { queueSource } from "./queue/source.ts";
import {
  attribute,
  bodyOf,
  checkQueueOptions,
  contentOf,
  entryFailure,
  failure,
  headersOf,
  openClient,
  type SqsQueueOptions,
} from "./sqs/broker.ts";

export type { SqsQueueOptions } from "./sqs/broker.ts";

export interface SqsSourceOptions extends QueueSourceOptions, SqsQueueOptions {
  /** Where rejected messages go. @default the dead-letter queue of the queue's redrive policy */
  readonly deadLetterUrl?: string | undefined;
  /** How long a message is this process's own; it is extended while it is in work. Milliseconds. @default 30_000 */
  readonly visibilityTimeoutMs?: number | undefined;
  /** How long a request for messages waits for some, in milliseconds. @default 20_000, which is SQS's most */
  readonly waitMs?: number | undefined;
  /** How many requests for messages may be under way at once. @default 2 */
  readonly pullers?: number | undefined;
}

export interface SqsPublisherOptions extends SqsQueueOptions {}

interface SqsMessage extends QueueMessage {
  readonly received: Message;
}

/** Of one request for messages, one batch of deletions, one of changes. */
const BATCH = 10;
const MAX_VISIBILITY_S = 43_200;

/**
 * A source that consumes an SQS queue. The delivery's id is the message's id.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function sqsSource(options: SqsSourceOptions): Source {
  checkQueueOptions(options);
  const leaseMs = positive(options.visibilityTimeoutMs, 30_000, "visibilityTimeoutMs", 1_000);
  const waitMs = positive(options.waitMs, 20_000, "waitMs", 1_000);
  const pullers = positive(options.pullers, 2, "pullers");
  if (waitMs > 20_000) throw invalidOption("`waitMs` must be 20000 at most");
  const driver: QueueDriver<SqsMessage> = {
    async connect({ clock }, signal) {
      const client = await openClient(options);
      try {
        const deadLetterUrl =
          options.deadLetterUrl ?? (await findDeadLetters(client, options.queueUrl, signal));
        const api = await queueApi(client, options.queueUrl);
        return connectionOf(api, { deadLetterUrl, leaseMs, waitMs, now: () => clock.monotonic() });
      } catch (error) {
        client.destroy();
        throw failure(error, options.queueUrl);
      }
    },
  };
  const { pathname } = new URL(options.queueUrl);
  return queueSource(`sqs ${pathname.slice(pathname.lastIndexOf("/") + 1)}`, driver, options, { pullers });
}

/** The queue that the redrive policy names: what is rejected must have somewhere to go. */
async function findDeadLetters(client: SQSClient, queueUrl: string, signal: AbortSignal): Promise<string> {
  const { GetQueueAttributesCommand, GetQueueUrlCommand } = await import("@aws-sdk/client-sqs");
  const request = { abortSignal: signal };
  const asked = new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ["RedrivePolicy"] });
  const { Attributes } = await client.send(asked, request);
  const policy = JSON.parse(Attributes?.["RedrivePolicy"] ?? "{}") as {
    readonly deadLetterTargetArn?: string;
  };
  const [, , , , account, name] = (policy.deadLetterTargetArn ?? "").split(":");
  if (name === undefined) {
    throw invalidOption(
      "the queue has no redrive policy, so rejected messages have nowhere to go: give it one, or set `deadLetterUrl`",
    );
  }
  const found = await client.send(
    new GetQueueUrlCommand({ QueueName: name, QueueOwnerAWSAccountId: account }),
    request,
  );
  return found.QueueUrl ?? "";
}

/** The calls for one queue; those of one turn of the event loop share a request. */
async function queueApi(client: SQSClient, QueueUrl: string) {
  const sdk = await import("@aws-sdk/client-sqs");
  interface Failed {
    readonly Id?: string | undefined;
    readonly Code?: string | undefined;
  }
  const settled = (count: number, failed: readonly Failed[] = []) =>
    Array.from({ length: count }, (_, i) => {
      const found = failed.find(({ Id }) => Id === String(i));
      return found === undefined ? undefined : entryFailure(found.Code, QueueUrl);
    });
  const remove = batcher(async (messages: Message[]) => {
    const Entries = messages.map(({ ReceiptHandle }, i) => ({ Id: String(i), ReceiptHandle }));
    const { Failed } = await client.send(new sdk.DeleteMessageBatchCommand({ QueueUrl, Entries }));
    return settled(messages.length, Failed);
  }, BATCH);
  const show = batcher(async (changes: { readonly message: Message; readonly inMs: number }[]) => {
    const Entries = changes.map(({ inMs, message: { ReceiptHandle } }, i) => ({
      Id: String(i),
      ReceiptHandle,
      VisibilityTimeout: Math.min(Math.ceil(inMs / 1_000), MAX_VISIBILITY_S),
    }));
    const { Failed } = await client.send(new sdk.ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }));
    return settled(changes.length, Failed);
  }, BATCH);
  const doing = async <Result>(call: Promise<Result>): Promise<Result> => {
    try {
      return await call;
    } catch (error) {
      throw failure(error, QueueUrl);
    }
  };
  const orThrow = async (call: Promise<Error | undefined>): Promise<void> => {
    const failed = await doing(call);
    if (failed !== undefined) throw failed;
  };
  return {
    receive: async (limit: number, waitMs: number, leaseMs: number, abortSignal: AbortSignal) => {
      const request = new sdk.ReceiveMessageCommand({
        QueueUrl,
        MaxNumberOfMessages: Math.min(limit, BATCH),
        WaitTimeSeconds: Math.floor(waitMs / 1_000),
        VisibilityTimeout: Math.ceil(leaseMs / 1_000),
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
      });
      return (await doing(client.send(request, { abortSignal }))).Messages ?? [];
    },
    remove: (message: Message) => orThrow(remove(message)),
    show: (message: Message, inMs: number) => orThrow(show({ message, inMs })),
    bury: async (
      deadLetterUrl: string,
      { Attributes, Body, MessageAttributes, MessageId }: Message,
      reason: string,
    ) => {
      const MessageGroupId = Attributes?.MessageGroupId;
      const request = new sdk.SendMessageCommand({
        QueueUrl: deadLetterUrl,
        MessageBody: Body,
        MessageAttributes: { ...MessageAttributes, [REASON_HEADER]: attribute(reason) },
        ...(deadLetterUrl.endsWith(".fifo")
          ? { MessageGroupId: MessageGroupId ?? MessageId, MessageDeduplicationId: MessageId }
          : undefined),
      });
      await doing(client.send(request));
    },
    close: () => client.destroy(),
  };
}

function connectionOf(
  api: Awaited<ReturnType<typeof queueApi>>,
  options: {
    readonly deadLetterUrl: string;
    readonly leaseMs: number;
    readonly waitMs: number;
    readonly now: () => number;
  },
): QueueConnection<SqsMessage> {
  const { deadLetterUrl, leaseMs, now, waitMs } = options;
  return {
    leaseMs,
    waits: true,
    delays: true,
    batch: BATCH,
    receive: async (limit, signal) => {
      const received = await api.receive(limit, waitMs, leaseMs, signal);
      const takenAt = now();
      return received.map((message) => messageOf(message, takenAt));
    },
    ack: ({ received }) => api.remove(received),
    nack: ({ received }, { delayMs }) => api.show(received, delayMs),
    reject: async ({ received }, reason) => {
      // First there, then not here: between the two it is in both.
      await api.bury(deadLetterUrl, received, reason);
      await api.remove(received);
    },
    extend: ({ received }) => api.show(received, leaseMs),
    close: async () => api.close(),
  };
}

function messageOf(received: Message, takenAt: number): SqsMessage {
  const { ApproximateReceiveCount, SentTimestamp } = received.Attributes ?? {};
  return {
    id: received.MessageId,
    headers: headersOf(received),
    body: bodyOf(received),
    publishedAt: SentTimestamp === undefined ? undefined : Number(SentTimestamp),
    attempt: ApproximateReceiveCount === undefined ? undefined : Number(ApproximateReceiveCount),
    takenAt,
    received,
  };
}

/**
 * Publishes into an SQS queue. A message is published once SQS has answered, and so has stored it.
 *
 * SQS takes text: a body that is none goes as base64, and comes out as it was.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function sqsPublisher(options: SqsPublisherOptions): QueuePublisher {
  checkQueueOptions(options);
  const { queueUrl: QueueUrl } = options;
  const isFifo = QueueUrl.endsWith(".fifo");
  let client: Promise<SQSClient> | undefined;
  return {
    name: `sqs ${QueueUrl}`,
    publish: async (envelope) => {
      client ??= openClient(options);
      const { SendMessageCommand } = await import("@aws-sdk/client-sqs");
      // No order is asked for, so no message waits for another.
      const fifo = isFifo
        ? { MessageGroupId: randomUUID(), MessageDeduplicationId: randomUUID() }
        : undefined;
      try {
        await (await client).send(new SendMessageCommand({ QueueUrl, ...contentOf(envelope), ...fifo }));
      } catch (error) {
        throw failure(error, QueueUrl);
      }
    },
    close: async () => {
      const open = await client;
      client = undefined;
      open?.destroy();
    },
  };
}
