/**
 * The contract between the one queue consumer and the many brokers. A driver moves messages and says nothing about what
 * becomes of them; the consumer (`consumer.ts`) decides, and is the same for all.
 *
 * @module
 */

import type { Clock, Random } from "../../core/clock.ts";
import type { TrueupError } from "../../core/errors.ts";

/** Headers by lower-case name. A name that came more than once has all its values. */
export type MessageHeaders = ReadonlyMap<string, string | readonly string[]>;

/** One delivery of a message. A redelivery is another object, with the same `id`. */
export interface QueueMessage {
  /** The broker's id of the message, the same at each redelivery; stands in for the id of events that have none. */
  readonly id: string | undefined;
  readonly headers: MessageHeaders;
  /** The bytes as they were published. */
  readonly body: Uint8Array;
  /** When the broker took it in, in milliseconds since the epoch, where it says so. */
  readonly publishedAt?: number | undefined;
  /** Which delivery of the message this is, from 1, where the broker counts. */
  readonly attempt?: number | undefined;
  /** When it came into this process, by `clock.monotonic()`: its lease runs from here. */
  readonly takenAt: number;
  /** Why it cannot be read (it is too large, say). It is rejected, and its body is not looked at. */
  readonly unreadable?: TrueupError | undefined;
}

/** What a driver is lent by the consumer. */
export interface DriverEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  /** How many messages this process holds at most: more need not be fetched ahead. */
  readonly prefetch: number;
  /** A larger body need not be read; see `QueueMessage.unreadable`. */
  readonly maxBodyBytes: number;
}

export interface Nack {
  /** Not to be delivered again before. A broker that cannot wait ignores it: see {@link QueueConnection.delays}. */
  readonly delayMs: number;
  /** For the broker's records: a code and a text without secrets. */
  readonly reason: string;
}

/**
 * A connection to one queue. Each method may be called while others run, and rejects once the connection is lost: the
 * consumer then ends its work, closes what is left, and the source is started again.
 */
export interface QueueConnection<Message extends QueueMessage = QueueMessage> {
  /**
   * How long a message is this process's own, in milliseconds from `takenAt` or the last `extend`; then the broker gives
   * it to another. `undefined`: for as long as the connection lasts.
   */
  readonly leaseMs: number | undefined;
  /** Whether `receive` waits for messages itself. Where it does not, the consumer pauses when a queue is empty. */
  readonly waits: boolean;
  /** Whether the broker keeps a message back for `delayMs`. Where not, the consumer holds it for that time. */
  readonly delays: boolean;
  /** Most messages of one `receive`. */
  readonly batch: number;
  /**
   * Up to `limit` messages; none when the queue is empty. Ends soon after the signal aborts, by returning or throwing;
   * what it then holds goes back to the broker, now or when its lease runs out.
   * @throws TrueupError `UNAUTHORIZED` when the credentials are refused, `NETWORK` when the broker cannot be reached
   */
  receive(limit: number, signal: AbortSignal): Promise<readonly Message[]>;
  /**
   * The message is dealt with, and goes.
   * @throws TrueupError `LEASE_LOST` when it is no longer this process's; anything else may be tried again
   */
  ack(message: Message): Promise<void>;
  /** The message is to be delivered again. @throws as {@link ack} */
  nack(message: Message, nack: Nack): Promise<void>;
  /** The message can never be accepted: to the dead letters, with the reason. @throws as {@link ack} */
  reject(message: Message, reason: string): Promise<void>;
  /** Begins the lease anew. @throws as {@link ack} */
  extend?(message: Message): Promise<void>;
  /** Gives back what was fetched ahead, and disconnects. Never rejects, and may be called twice. */
  close(): Promise<void>;
}

export interface QueueDriver<Message extends QueueMessage = QueueMessage> {
  /**
   * Connects and makes sure that the queue is there.
   * @throws TrueupError `UNAUTHORIZED`, `NETWORK`, `OPTION_INVALID` for a queue that is otherwise than configured
   */
  connect(environment: DriverEnvironment, signal: AbortSignal): Promise<QueueConnection<Message>>;
}
