/**
 * RabbitMQ by amqplib: connecting, and what a queue has to be.
 *
 * @module
 */

import type { ChannelModel, ConfirmChannel, ConsumeMessage, Options } from "amqplib";
import { randomUUID } from "node:crypto";
import { type Clock, type Random, sleep } from "../../core/clock.ts";
import { invalidOption, TrueupError } from "../../core/errors.ts";
import { backoff } from "../../core/retry.ts";
import { isTrueupError } from "../../http/exchange.ts";
import type { Envelope } from "../queue/envelope.ts";

export interface AmqpQueueOptions {
  /** `amqp://user:password@host:5672/vhost`, or `amqps:`. */
  readonly url: string;
  readonly queue: string;
  /**
   * `"assert"` makes what is missing: a durable quorum queue, a dead-letter exchange and queue named `<queue>.dead`.
   * `"check"` only looks whether the queue is there, and leaves everything else to who made it.
   * @default "assert"
   */
  readonly topology?: "assert" | "check" | undefined;
  /**
   * With `topology: "check"`: the exchange that rejected messages are published to, with their reason. @default they are
   * rejected without one, and go where the queue's own dead-letter exchange sends them
   */
  readonly deadLetterExchange?: string | undefined;
}

/** A connection with its one channel. */
export interface Link {
  readonly channel: ConfirmChannel;
  /** Settles with the reason when either is gone. Never rejects. */
  readonly lost: Promise<Error>;
  /** Where rejected messages go; `undefined` where the broker decides. */
  readonly deadLetterExchange: string | undefined;
  readonly close: () => Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const HEARTBEAT_S = 30;
const CODE_PRECONDITION_FAILED = 406;
const CODE_NOT_FOUND = 404;

/** @throws TrueupError `OPTION_INVALID` */
export function checkQueueOptions({ deadLetterExchange, queue, topology, url }: AmqpQueueOptions): void {
  if (typeof url !== "string" || !URL.canParse(url) || !/^amqps?:$/.test(new URL(url).protocol)) {
    throw invalidOption("`url` must be an amqp: or amqps: URL");
  }
  if (typeof queue !== "string" || queue === "" || Buffer.byteLength(queue) > 200) {
    throw invalidOption("`queue` must be a name of 1 to 200 bytes");
  }
  if (topology !== undefined && topology !== "assert" && topology !== "check") {
    throw invalidOption('`topology` must be "assert" or "check"');
  }
  if (deadLetterExchange !== undefined && topology !== "check") {
    throw invalidOption(
      '`deadLetterExchange` is for `topology: "check"`; otherwise it is made, and its name is fixed',
    );
  }
}

/**
 * Connects, and makes sure of the queue.
 * @param deliveryLimit after so many deliveries without a settling the broker gives a message up itself
 * @throws TrueupError `UNAUTHORIZED`, `NETWORK`, `OPTION_INVALID`
 */
export async function openLink(options: AmqpQueueOptions, deliveryLimit: number): Promise<Link> {
  const { connect } = await import("amqplib");
  const url = new URL(options.url);
  if (!url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", String(HEARTBEAT_S));
  let connection: ChannelModel;
  try {
    connection = await connect(url.href, { timeout: CONNECT_TIMEOUT_MS });
  } catch (error) {
    throw connectFailure(error, url);
  }
  const lost = Promise.withResolvers<Error>();
  const give = (error?: unknown) => lost.resolve(lostBy(error));
  connection.on("error", give).on("close", give);
  let channel: ConfirmChannel | undefined;
  const close = async () => {
    // The channel first: of a connection that closes at once, RabbitMQ drops the last acks to quorum queues.
    await channel?.close().catch(() => {}); // it was lost before
    await connection.close().catch(() => {});
  };
  try {
    channel = await connection.createConfirmChannel();
    channel.on("error", give).on("close", () => give());
    return {
      channel,
      lost: lost.promise,
      close,
      deadLetterExchange: await settleTopology(channel, options, deliveryLimit),
    };
  } catch (error) {
    await close();
    throw topologyFailure(error, options);
  }
}

/** @returns the exchange for dead letters */
async function settleTopology(
  channel: ConfirmChannel,
  { deadLetterExchange, queue, topology = "assert" }: AmqpQueueOptions,
  deliveryLimit: number,
): Promise<string | undefined> {
  if (topology === "check") {
    await channel.checkQueue(queue);
    if (deadLetterExchange !== undefined) await channel.checkExchange(deadLetterExchange);
    return deadLetterExchange;
  }
  const dead = `${queue}.dead`;
  const quorum = { "x-queue-type": "quorum" };
  await channel.assertExchange(dead, "fanout", { durable: true });
  await channel.assertQueue(dead, { durable: true, arguments: quorum });
  await channel.bindQueue(dead, dead, "");
  await channel.assertQueue(queue, {
    durable: true,
    arguments: {
      ...quorum,
      "x-delivery-limit": deliveryLimit,
      "x-dead-letter-exchange": dead,
      // At least once: a message leaves the queue only when its dead letter is safe. It needs this overflow behaviour.
      "x-dead-letter-strategy": "at-least-once",
      "x-overflow": "reject-publish",
    },
  });
  return dead;
}

/**
 * A broker that says no is asked again: a quorum queue that was made just now, or whose node has come up just now, has no
 * leader for a moment, and takes nothing meanwhile.
 */
const REFUSED = { attempts: 6, minDelayMs: 50, maxDelayMs: 2_000 };

/** Publishes and waits for the broker's confirmation. A message that reaches no queue is a failure. */
export class ConfirmingPublisher {
  readonly #channel: ConfirmChannel;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #returned = new Set<string>();
  #closed = false;

  constructor(channel: ConfirmChannel, clock: Clock, random: Random) {
    this.#channel = channel;
    this.#clock = clock;
    this.#random = random;
    channel.on("close", () => (this.#closed = true));
    // The broker returns what it cannot route before it confirms it.
    channel.on("return", ({ properties }: { properties: { correlationId?: unknown } }) => {
      if (typeof properties.correlationId === "string") this.#returned.add(properties.correlationId);
    });
  }

  /** @throws TrueupError `NETWORK`, `OPTION_INVALID` */
  async publish(exchange: string, key: string, body: Uint8Array, options: Options.Publish): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#publishOnce(exchange, key, body, options);
      } catch (error) {
        // On a channel that is closed nobody answers any more.
        if (isTrueupError(error) || this.#closed || attempt === REFUSED.attempts) throw refusedBy(error);
      }
      await sleep(this.#clock, backoff(attempt, REFUSED, this.#random));
    }
  }

  /** @throws TrueupError; what amqplib says where the broker did not take the message */
  async #publishOnce(
    exchange: string,
    key: string,
    body: Uint8Array,
    options: Options.Publish,
  ): Promise<void> {
    const correlationId = randomUUID();
    const content = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    await new Promise<void>((resolve, reject) => {
      const confirmed = (error: Error | null | undefined) => {
        if (this.#returned.delete(correlationId))
          reject(invalidOption(`RabbitMQ routes "${exchange || key}" to no queue`));
        else if (error instanceof Error) reject(error);
        else resolve();
      };
      try {
        // `false` only means that the socket is full: the message is sent all the same, and confirmed later.
        const published = { ...options, correlationId, mandatory: true, persistent: true };
        this.#channel.publish(exchange, key, content, published, confirmed);
      } catch (error) {
        reject(lostBy(error));
      }
    });
  }
}

export function publishOptions({ headers }: Pick<Envelope, "headers">, messageId: string): Options.Publish {
  return {
    messageId,
    headers: Object.fromEntries(headers),
    contentType: headers.get("content-type") ?? "application/octet-stream",
  };
}

/** Header values that are text; numbers and dates are not any header of a request. */
export function headersOf({ properties }: ConsumeMessage): Map<string, string> {
  const headers = new Map<string, string>();
  const given = (properties.headers ?? {}) as Readonly<Record<string, unknown>>;
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === "string") headers.set(name.toLowerCase(), value);
  }
  const { contentType } = properties as { readonly contentType?: unknown };
  if (typeof contentType === "string" && !headers.has("content-type"))
    headers.set("content-type", contentType);
  return headers;
}

function refusedBy(cause: unknown): TrueupError {
  if (isTrueupError(cause)) return cause;
  return new TrueupError("NETWORK", "RabbitMQ did not take the message", { cause });
}

export function lostBy(cause: unknown): TrueupError {
  if (isTrueupError(cause)) return cause;
  return new TrueupError("NETWORK", "the connection to RabbitMQ is lost", { cause });
}

function connectFailure(cause: unknown, url: URL): TrueupError {
  // amqplib gives this one no code; AMQP's own number is in the text.
  if (cause instanceof Error && /\b403 \(ACCESS[-_]REFUSED\)/.test(cause.message)) {
    return new TrueupError(
      "UNAUTHORIZED",
      `RabbitMQ at ${url.host} refuses the user and password of \`url\``,
      { cause },
    );
  }
  return new TrueupError("NETWORK", `RabbitMQ at ${url.host} cannot be reached`, { cause });
}

function topologyFailure(cause: unknown, { queue }: AmqpQueueOptions): TrueupError {
  const { code } = (cause ?? {}) as { readonly code?: unknown };
  if (code === CODE_PRECONDITION_FAILED) {
    return new TrueupError(
      "OPTION_INVALID",
      `the queue "${queue}" or its dead letters exist with other arguments: use \`topology: "check"\`, or another name`,
      { cause },
    );
  }
  if (code === CODE_NOT_FOUND) {
    return new TrueupError("OPTION_INVALID", `there is no queue "${queue}", or not its exchange`, { cause });
  }
  if (code === 403) {
    return new TrueupError("UNAUTHORIZED", `RabbitMQ does not let this user use the queue "${queue}"`, {
      cause,
    });
  }
  return lostBy(cause);
}
