/**
 * `trueup/amqp`: events from and to RabbitMQ, on amqplib.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import type { ConsumeMessage, Options } from "amqplib";
import { systemClock, systemRandom } from "../core/clock.ts";
import { TrueupError } from "../core/errors.ts";
import { keepSecrets, urlPasswords } from "../core/secrets.ts";
import type { Source } from "../core/source.ts";
import {
  type AmqpQueueOptions,
  checkQueueOptions,
  ConfirmingPublisher,
  headersOf,
  type Link,
  lostBy,
  openLink,
  publishOptions,
} from "./amqp/broker.ts";
import type { QueueConnection, QueueDriver, QueueMessage } from "./queue/driver.ts";
import { REASON_HEADER } from "./queue/envelope.ts";
import { Mailbox } from "./queue/mailbox.ts";
import { queueSettings, type QueueSourceOptions } from "./queue/options.ts";
import { type QueuePublisher, reconnectingPublisher } from "./queue/publisher.ts";
import { queueSource } from "./queue/source.ts";

export type { AmqpQueueOptions } from "./amqp/broker.ts";

/** `maxDeliveries` is also the queue's delivery limit where the queue is made here. */
export interface AmqpSourceOptions extends QueueSourceOptions, AmqpQueueOptions {}

export interface AmqpPublisherOptions extends AmqpQueueOptions {
  /** As the source's, where the publisher comes first and makes the queue. @default 50 */
  readonly maxDeliveries?: number | undefined;
}

interface AmqpMessage extends QueueMessage {
  readonly received: ConsumeMessage;
}

/**
 * A source that consumes a RabbitMQ queue. The delivery's id is the message's `messageId`.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function amqpSource(options: AmqpSourceOptions): Source {
  checkQueueOptions(options);
  const { maxDeliveries } = queueSettings(options);
  const driver: QueueDriver<AmqpMessage> = {
    async connect({ clock, prefetch, random }) {
      const link = await openLink(options, maxDeliveries);
      const mailbox = new Mailbox<AmqpMessage>();
      void link.lost.then((error) => mailbox.fail(error));
      try {
        await link.channel.prefetch(prefetch);
        await link.channel.consume(options.queue, (received) => {
          if (received === null)
            mailbox.fail(new TrueupError("NETWORK", `the queue "${options.queue}" was deleted`));
          else mailbox.put(messageOf(received, clock.monotonic()));
        });
      } catch (error) {
        await link.close();
        throw lostBy(error);
      }
      return connection(link, mailbox, new ConfirmingPublisher(link.channel, clock, random), prefetch);
    },
  };
  return keepSecrets(queueSource(`amqp ${options.queue}`, driver, options), urlPasswords(options.url));
}

function connection(
  link: Link,
  mailbox: Mailbox<AmqpMessage>,
  publisher: ConfirmingPublisher,
  prefetch: number,
): QueueConnection<AmqpMessage> {
  const { channel, deadLetterExchange } = link;
  // Who is not connected any more holds nothing: the broker has put its messages back.
  const telling = (tell: () => void) => {
    try {
      tell();
    } catch (cause) {
      throw new TrueupError("LEASE_LOST", "the channel that delivered the message is closed", { cause });
    }
  };
  return {
    leaseMs: undefined,
    waits: true,
    delays: false,
    batch: prefetch,
    receive: (limit, signal) => mailbox.take(limit, signal),
    ack: async ({ received }) => telling(() => channel.ack(received)),
    nack: async ({ received }) => telling(() => channel.nack(received, false, true)),
    reject: async ({ received }, reason) => {
      if (deadLetterExchange === undefined) {
        telling(() => channel.nack(received, false, false));
        return;
      }
      const { fields, properties } = received;
      // Orders to the broker that were for the first publishing: it refuses the user's name, and obeys the others again.
      const { expiration: _time, userId: _user, ...rest } = properties as Options.Publish;
      const { BCC: _hidden, CC: _copies, ...given } = (rest.headers ?? {}) as Record<string, unknown>;
      const headers = { ...given, [REASON_HEADER]: reason };
      // First there, then not here: between the two it is in both.
      await publisher.publish(deadLetterExchange, fields.routingKey, received.content, {
        ...rest,
        headers,
      });
      telling(() => channel.ack(received));
    },
    // What was not settled, the broker puts back by itself. Acks that were written are sent before the close is.
    close: () => link.close(),
  };
}

function messageOf(received: ConsumeMessage, takenAt: number): AmqpMessage {
  const { headers, messageId, timestamp } = received.properties as {
    readonly headers?: Readonly<Record<string, unknown>>;
    readonly messageId?: unknown;
    readonly timestamp?: unknown;
  };
  const redelivered = headers?.["x-delivery-count"];
  return {
    id: typeof messageId === "string" ? messageId : undefined,
    headers: headersOf(received),
    body: received.content,
    publishedAt: typeof timestamp === "number" ? timestamp * 1_000 : undefined,
    attempt: typeof redelivered === "number" ? redelivered + 1 : undefined,
    takenAt,
    received,
  };
}

/**
 * Publishes into a RabbitMQ queue. A message is published once the broker has confirmed it: for a quorum queue, on the
 * disks of a majority.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function amqpPublisher(options: AmqpPublisherOptions): QueuePublisher {
  checkQueueOptions(options);
  const { maxDeliveries } = queueSettings({ provider: "-", maxDeliveries: options.maxDeliveries });
  const reconnecting = reconnectingPublisher(`amqp ${options.queue}`, async () => {
    const { channel, close, lost } = await openLink(options, maxDeliveries);
    const publisher = new ConfirmingPublisher(channel, systemClock, systemRandom);
    return {
      lost,
      close,
      // Where the connection breaks, what was not confirmed fails.
      publish: (envelope) =>
        publisher.publish("", options.queue, envelope.body, publishOptions(envelope, randomUUID())),
    };
  });
  return keepSecrets(reconnecting, urlPasswords(options.url));
}
