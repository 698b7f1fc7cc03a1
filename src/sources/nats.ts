/**
 * `trueup/nats`: events from and to NATS JetStream.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import type { Consumer, JsMsg } from "@nats-io/jetstream";
import { batcher } from "../core/batcher.ts";
import { invalidOption, TrueupError } from "../core/errors.ts";
import { positive } from "../core/options.ts";
import { keepSecrets, urlPasswordsOrTokens } from "../core/secrets.ts";
import type { Source } from "../core/source.ts";
import {
  checkStreamOptions,
  deadLetterStream,
  failure,
  type Link,
  type NatsQueueOptions,
  openLink,
} from "./nats/broker.ts";
import type { QueueConnection, QueueDriver, QueueMessage } from "./queue/driver.ts";
import { REASON_HEADER } from "./queue/envelope.ts";
import { Mailbox } from "./queue/mailbox.ts";
import { requireText, type QueueSourceOptions } from "./queue/options.ts";
import { type QueuePublisher, reconnectingPublisher } from "./queue/publisher.ts";
import { queueSource } from "./queue/source.ts";

export type { NatsQueueOptions } from "./nats/broker.ts";

export interface NatsSourceOptions extends QueueSourceOptions, NatsQueueOptions {
  /** The durable consumer, which all processes share. @default "trueup" */
  readonly consumer?: string | undefined;
  /** How long a message is this process's own; it is extended while it is in work. Milliseconds. @default 30_000 */
  readonly ackWaitMs?: number | undefined;
}

export interface NatsPublisherOptions extends NatsQueueOptions {}

interface NatsMessage extends QueueMessage {
  readonly received: JsMsg;
}

/** How long one pull waits for messages; the client's own default. */
const PULL_MS = 30_000;
const NANOS_PER_MS = 1_000_000;

/**
 * A source that consumes a JetStream stream through a durable pull consumer. The delivery's id names the stream and the
 * message's place in it.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function natsSource(options: NatsSourceOptions): Source {
  checkStreamOptions(options);
  const { consumer = "trueup", stream } = options;
  requireText(consumer, "consumer");
  const ackWaitMs = positive(options.ackWaitMs, 30_000, "ackWaitMs", 1_000);
  const driver: QueueDriver<NatsMessage> = {
    async connect({ clock, prefetch }) {
      const link = await openLink(options, { rejecting: true });
      const pulling = new Pulling(
        await durableConsumer(link, stream, consumer, ackWaitMs),
        link,
        (received) => messageOf(received, clock.monotonic()),
      );
      return connectionOf(link, pulling, { ackWaitMs, prefetch, stream });
    },
  };
  return keepSecrets(queueSource(`nats ${stream}`, driver, options), urlPasswordsOrTokens(options.url));
}

async function durableConsumer(
  { client, connection }: Link,
  stream: string,
  name: string,
  ackWaitMs: number,
): Promise<Consumer> {
  const { AckPolicy, jetstreamManager } = await import("@nats-io/jetstream");
  try {
    const manager = await jetstreamManager(connection);
    await manager.consumers.add(stream, {
      durable_name: name,
      ack_policy: AckPolicy.Explicit,
      ack_wait: ackWaitMs * NANOS_PER_MS,
      // JetStream just stops to deliver what came too often; here it becomes a dead letter.
      max_deliver: -1,
    });
    return await client.consumers.get(stream, name);
  } catch (cause) {
    await connection.close();
    throw failure(cause, `does not have the consumer "${name}" of the stream "${stream}"`);
  }
}

/** Pulls when there is room, one request at a time: a request's messages may come one by one, over a while. */
class Pulling {
  readonly #consumer: Consumer;
  readonly #message: (received: JsMsg) => NatsMessage;
  readonly #mailbox = new Mailbox<NatsMessage>();
  #pulling = false;
  #stop = (): void => {};

  constructor(consumer: Consumer, { lost }: Link, message: (received: JsMsg) => NatsMessage) {
    this.#consumer = consumer;
    this.#message = message;
    void lost.then((error) => this.#mailbox.fail(error));
  }

  async take(limit: number, signal: AbortSignal): Promise<readonly NatsMessage[]> {
    while (this.#mailbox.size === 0 && !this.#mailbox.failed && !signal.aborted) {
      if (!this.#pulling) void this.#pull(limit);
      await this.#mailbox.changed(signal);
    }
    return this.#mailbox.take(limit, signal);
  }

  async #pull(limit: number): Promise<void> {
    this.#pulling = true;
    try {
      const messages = await this.#consumer.fetch({ max_messages: limit, expires: PULL_MS });
      this.#stop = () => messages.stop();
      for await (const received of messages) this.#mailbox.put(this.#message(received));
    } catch (cause) {
      this.#mailbox.fail(failure(cause, "broke off a pull"));
    } finally {
      this.#pulling = false;
      this.#mailbox.wake();
    }
  }

  /** @returns what nobody took */
  close(): NatsMessage[] {
    this.#stop();
    return this.#mailbox.empty();
  }
}

function connectionOf(
  { client, connection, lost }: Link,
  pulling: Pulling,
  options: { readonly ackWaitMs: number; readonly prefetch: number; readonly stream: string },
): QueueConnection<NatsMessage> {
  const dead = deadLetterStream(options.stream);
  let isLost = false;
  const flushing = new Set<(error: Error) => void>();
  void lost.then((error) => {
    isLost = true;
    for (const reject of flushing) reject(error);
  });
  const held = () => {
    if (isLost) throw new TrueupError("LEASE_LOST", "the connection that delivered the message is closed");
  };
  /** Resolves once the server has all that was written. The client leaves a flush open that the connection's end overtakes. */
  const flush = async (): Promise<void> => {
    held();
    const { promise, reject, resolve } = Promise.withResolvers<void>();
    flushing.add(reject);
    connection.flush().then(resolve, reject);
    await promise.finally(() => flushing.delete(reject));
  };
  // Acks of one turn of the event loop are answered for together: a request for each would cost more than the message.
  const acked = batcher(async (messages: JsMsg[]) => {
    for (const message of messages) message.ack();
    await flush();
    return messages.map(() => {});
  });
  return {
    leaseMs: options.ackWaitMs,
    waits: true,
    delays: true,
    batch: options.prefetch,
    receive: (limit, signal) => pulling.take(limit, signal),
    ack: async ({ received }) => {
      held();
      await acked(received);
    },
    nack: async ({ received }, { delayMs }) => {
      held();
      received.nak(delayMs);
    },
    reject: async ({ body, id, received }, reason) => {
      held();
      const { headers } = await import("@nats-io/transport-node");
      const copied = headers();
      for (const [name, values] of received.headers ?? []) {
        if (!isOrder(name)) for (const value of values) copied.append(name, value);
      }
      copied.set(REASON_HEADER, reason);
      // First there, then not here. Tried again, it is still there once.
      await client.publish(dead, body, { headers: copied, msgID: id ?? "" });
      await received.ackAck();
    },
    extend: async ({ received }) => {
      held();
      received.working();
    },
    close: async () => {
      for (const { received } of pulling.close()) received.nak();
      // What was written is sent before the connection is closed.
      await flush().catch(() => {});
      await connection.close();
    },
  };
}

/** Whether a header would be an order to the server. */
function isOrder(name: string): boolean {
  return /^nats-/i.test(name);
}

function messageOf(received: JsMsg, takenAt: number): NatsMessage {
  const { deliveryCount, stream, streamSequence } = received.info;
  const headers = new Map<string, string | readonly string[]>();
  for (const [name, values] of received.headers ?? []) {
    const lower = name.toLowerCase();
    const before = headers.get(lower) ?? [];
    const all = [...(typeof before === "string" ? [before] : before), ...values];
    headers.set(lower, all.length === 1 ? (all[0] ?? "") : all);
  }
  return {
    // With its time: a stream that was deleted and made anew counts from 1 again.
    id: `${stream}:${streamSequence}:${received.timestampNanos}`,
    headers,
    body: received.data,
    publishedAt: received.time.getTime(),
    attempt: deliveryCount,
    takenAt,
    received,
  };
}

/**
 * Publishes into a JetStream stream. A message is published once the server has confirmed that the stream has it.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function natsPublisher(options: NatsPublisherOptions): QueuePublisher {
  checkStreamOptions(options);
  const { stream, subject = stream } = options;
  if (/[*>\s]/.test(subject)) throw invalidOption("`subject` must be one to publish to, without wildcards");
  const publisher = reconnectingPublisher(`nats ${stream}`, async () => {
    const { client, connection, lost } = await openLink(options, { rejecting: false });
    const { headers: newHeaders } = await import("@nats-io/transport-node");
    return {
      lost,
      close: () => connection.close(),
      publish: async ({ body, headers }) => {
        const given = newHeaders();
        for (const [name, value] of headers) if (!isOrder(name)) given.set(name, value);
        try {
          await client.publish(subject, body, {
            headers: given,
            msgID: randomUUID(),
            expect: { streamName: stream },
          });
        } catch (cause) {
          throw failure(cause, "did not confirm the message");
        }
      },
    };
  });
  return keepSecrets(publisher, urlPasswordsOrTokens(options.url));
}
