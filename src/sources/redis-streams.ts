/**
 * `trueup/redis-streams`: events from and to Redis Streams, on ioredis.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import { TrueupError } from "../core/errors.ts";
import { positive } from "../core/options.ts";
import { keepSecrets, urlSecrets } from "../core/secrets.ts";
import type { Source } from "../core/source.ts";
import type { QueueConnection, QueueDriver, QueueMessage } from "./queue/driver.ts";
import { REASON_HEADER } from "./queue/envelope.ts";
import { queueSettings, requireText, type QueueSourceOptions } from "./queue/options.ts";
import { type QueuePublisher, reconnectingPublisher } from "./queue/publisher.ts";
import { queueSource } from "./queue/source.ts";
import {
  checkStreamOptions,
  type Entry,
  entryOf,
  fieldsOf,
  HEADER_PREFIX,
  type Link,
  openLink,
  type RedisStreamOptions,
} from "./redis-streams/broker.ts";
import { ACK, LEAVE, REJECT, TOUCH, TRIM } from "./redis-streams/scripts.ts";

export type { RedisStreamOptions } from "./redis-streams/broker.ts";

export interface RedisStreamsSourceOptions extends QueueSourceOptions, RedisStreamOptions {
  /** The consumer group, which all processes share. It is made where it is missing, from the stream's start. @default "trueup" */
  readonly group?: string | undefined;
  /**
   * How long a message is this process's own; it is extended while it is in work. After that another process claims it.
   * Milliseconds. @default 60_000
   */
  readonly leaseMs?: number | undefined;
  /** Where rejected messages go. @default the stream's key with ":dead" behind it */
  readonly deadLetterStream?: string | undefined;
  /** How many dead letters are kept, about: the oldest go first. @default 10_000 */
  readonly maxDeadLetters?: number | undefined;
  /** Drop entries that every group of the stream has acked. @default true */
  readonly trim?: boolean | undefined;
}

export interface RedisStreamsPublisherOptions extends RedisStreamOptions {}

interface StreamMessage extends QueueMessage {
  readonly entry: Entry;
  readonly deliveries: number;
}

/** How long one read waits, and how often is looked for what others left behind. */
const BLOCK_MS = 1_000;
const TRIM_EVERY_MS = 60_000;
const TRIM_EVERY_ACKS = 1_000;

interface Settings {
  readonly stream: string;
  readonly group: string;
  readonly leaseMs: number;
  readonly dead: string;
  readonly maxDeadLetters: number;
  readonly trim: boolean;
  readonly prefetch: number;
}

/**
 * A source that consumes a Redis stream through a consumer group. The delivery's id is the entry's.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function redisStreamsSource(options: RedisStreamsSourceOptions): Source {
  checkStreamOptions(options);
  const { deadLetterStream = `${options.stream}:dead`, group = "trueup", stream, trim = true } = options;
  requireText(group, "group");
  requireText(deadLetterStream, "deadLetterStream");
  const settings: Settings = {
    stream,
    group,
    trim,
    dead: deadLetterStream,
    leaseMs: positive(options.leaseMs, 60_000, "leaseMs", 1_000),
    maxDeadLetters: positive(options.maxDeadLetters, 10_000, "maxDeadLetters"),
    prefetch: queueSettings(options).prefetch,
  };
  const driver: QueueDriver<StreamMessage> = {
    async connect({ clock }) {
      // A read that waits holds up what comes behind it, so acks have a connection of their own.
      const control = await openLink(options);
      try {
        await makeGroup(control, settings);
        return new StreamConnection(await openLink(options), control, clock, settings);
      } catch (error) {
        await control.close();
        throw error;
      }
    },
  };
  return keepSecrets(queueSource(`redis-streams ${stream}`, driver, options), urlSecrets(options.url));
}

async function makeGroup({ command }: Link, { group, stream }: Settings): Promise<void> {
  try {
    await command("XGROUP", "CREATE", stream, group, "0", "MKSTREAM");
  } catch (error) {
    const { cause } = error as { readonly cause?: unknown };
    if (!(cause instanceof Error) || !cause.message.startsWith("BUSYGROUP")) throw error;
  }
}

class StreamConnection implements QueueConnection<StreamMessage> {
  readonly leaseMs: number;
  readonly waits = true;
  readonly delays = true;
  readonly batch: number;
  readonly #reader: Link;
  readonly #control: Link;
  readonly #clock: Clock;
  readonly #settings: Settings;
  /** Of this connection alone: who connects anew is another, and claims what this one held. */
  readonly #consumer = `trueup-${randomUUID()}`;
  #readerId: unknown;
  #cursor = "0-0";
  #claimsAt = Number.NEGATIVE_INFINITY;
  #trimsAt: number;
  #acks = 0;
  #lost: TrueupError | undefined;

  constructor(reader: Link, control: Link, clock: Clock, settings: Settings) {
    this.#reader = reader;
    this.#control = control;
    this.#clock = clock;
    this.#settings = settings;
    this.leaseMs = settings.leaseMs;
    this.batch = settings.prefetch;
    this.#trimsAt = clock.monotonic() + TRIM_EVERY_MS;
    for (const { lost } of [reader, control]) void lost.then((error) => (this.#lost ??= error));
  }

  async receive(limit: number, signal: AbortSignal): Promise<readonly StreamMessage[]> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#clock.monotonic() >= this.#claimsAt) {
      const claimed = await this.#claim(limit);
      if (claimed.length > 0) return claimed;
    }
    return await this.#read(limit, signal);
  }

  /** What dead consumers held, and what was given back: it has been left alone for longer than a lease. */
  async #claim(limit: number): Promise<StreamMessage[]> {
    const { group, leaseMs, stream } = this.#settings;
    const [cursor, entries] = (await this.#control.command(
      "XAUTOCLAIM",
      stream,
      group,
      this.#consumer,
      leaseMs,
      this.#cursor,
      "COUNT",
      limit,
    )) as readonly [Buffer, readonly unknown[]];
    this.#cursor = cursor.toString();
    // To its end before it is left alone for a while.
    if (this.#cursor === "0-0") this.#claimsAt = this.#clock.monotonic() + BLOCK_MS;
    const takenAt = this.#clock.monotonic();
    const found = entries.flatMap((entry) => entryOf(entry) ?? []);
    return await Promise.all(
      found.map(async (entry) => message(entry, await this.#deliveriesOf(entry.id), takenAt)),
    );
  }

  async #deliveriesOf(id: string): Promise<number> {
    const { group, stream } = this.#settings;
    const [held] = (await this.#control.command("XPENDING", stream, group, id, id, 1)) as readonly [
      (readonly unknown[])?,
    ];
    return Number(held?.[3] ?? 1);
  }

  async #read(limit: number, signal: AbortSignal): Promise<StreamMessage[]> {
    const { group, stream } = this.#settings;
    this.#readerId ??= await this.#reader.command("CLIENT", "ID");
    if (signal.aborted) return [];
    // A read that is let go returns as if its time were up: nothing that is on its way gets lost.
    const letGo = () =>
      void this.#control.command("CLIENT", "UNBLOCK", Number(this.#readerId)).catch(() => {});
    signal.addEventListener("abort", letGo, { once: true });
    try {
      const from = ["COUNT", limit, "BLOCK", BLOCK_MS, "STREAMS", stream, ">"] as const;
      const reply = await this.#reader.command("XREADGROUP", "GROUP", group, this.#consumer, ...from);
      const takenAt = this.#clock.monotonic();
      const [[, entries] = []] = (reply ?? []) as readonly [(readonly [unknown, readonly unknown[]])?];
      return (entries ?? [])
        .flatMap((entry) => entryOf(entry) ?? [])
        .map((entry) => message(entry, 1, takenAt));
    } finally {
      signal.removeEventListener("abort", letGo);
    }
  }

  async ack(given: StreamMessage): Promise<void> {
    await this.#settle(ACK, 1, given, []);
    await this.#trimSometimes();
  }

  async nack(given: StreamMessage, { delayMs }: { readonly delayMs: number }): Promise<void> {
    // As if it had been left alone for all but the delay, which therefore is a lease at most.
    await this.#settle(TOUCH, 1, given, [Math.max(0, this.leaseMs - delayMs)]);
  }

  async extend(given: StreamMessage): Promise<void> {
    await this.#settle(TOUCH, 1, given, [0]);
  }

  async reject(given: StreamMessage, reason: string): Promise<void> {
    const { fields } = given.entry;
    await this.#settle(REJECT, 2, given, [
      this.#settings.maxDeadLetters,
      ...fields,
      HEADER_PREFIX + REASON_HEADER,
      reason,
    ]);
  }

  async #settle(
    script: string,
    keys: number,
    { deliveries, entry }: StreamMessage,
    rest: readonly (string | number | Uint8Array)[],
  ): Promise<void> {
    const { dead, group, stream } = this.#settings;
    const done = await this.#control.command(
      "EVAL",
      script,
      keys,
      stream,
      ...(keys === 2 ? [dead] : []),
      group,
      this.#consumer,
      entry.id,
      deliveries,
      ...rest,
    );
    if (Number(done) !== 1) throw new TrueupError("LEASE_LOST", "another consumer has claimed the entry");
  }

  async #trimSometimes(): Promise<void> {
    this.#acks += 1;
    const due = this.#acks >= TRIM_EVERY_ACKS || this.#clock.monotonic() >= this.#trimsAt;
    if (!this.#settings.trim || !due) return;
    await this.#trimNow();
  }

  async #trimNow(): Promise<void> {
    this.#acks = 0;
    this.#trimsAt = this.#clock.monotonic() + TRIM_EVERY_MS;
    // What is not dropped now is dropped next time.
    await this.#control.command("EVAL", TRIM, 1, this.#settings.stream).catch(() => {});
  }

  async close(): Promise<void> {
    const { group, stream, trim } = this.#settings;
    await this.#reader.close();
    if (trim && this.#acks > 0) await this.#trimNow();
    await this.#control.command("EVAL", LEAVE, 1, stream, group, this.#consumer).catch(() => {});
    await this.#control.close();
  }
}

function message(entry: Entry, deliveries: number, takenAt: number): StreamMessage {
  const publishedAt = Number(entry.id.split("-", 1)[0]);
  const { body, headers, id } = entry;
  return { id, headers, body, publishedAt, attempt: deliveries, takenAt, entry, deliveries };
}

/**
 * Publishes into a Redis stream. A message is published once Redis has it, which is as safe as Redis is set up to be:
 * with `appendfsync everysec` a crash can lose the last second, and a failover more.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function redisStreamsPublisher(options: RedisStreamsPublisherOptions): QueuePublisher {
  checkStreamOptions(options);
  const { stream } = options;
  const publisher = reconnectingPublisher(`redis-streams ${stream}`, async () => {
    const { close, command, lost } = await openLink(options);
    return {
      lost,
      close,
      publish: async ({ body, headers }) =>
        void (await command("XADD", stream, "*", ...fieldsOf(headers, body))),
    };
  });
  return keepSecrets(publisher, urlSecrets(options.url));
}
