/**
 * `trueup/redis-streams`: events from and to Redis Streams, on ioredis.
 *
 * @module
 */

import { positive } from "../core/options.ts";
import { keepSecrets, urlPasswords } from "../core/secrets.ts";
import type { Source } from "../core/source.ts";
import type { QueueDriver } from "./queue/driver.ts";
import { queueSettings, requireText, type QueueSourceOptions } from "./queue/options.ts";
import { type QueuePublisher, reconnectingPublisher } from "./queue/publisher.ts";
import { queueSource } from "./queue/source.ts";
import {
  checkStreamOptions,
  fieldsOf,
  type Link,
  openLink,
  type RedisStreamOptions,
} from "./redis-streams/broker.ts";
import { type GroupSettings, StreamConnection, type StreamMessage } from "./redis-streams/connection.ts";

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

/**
 * A source that consumes a Redis stream through a consumer group. The delivery's id is the entry's.
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function redisStreamsSource(options: RedisStreamsSourceOptions): Source {
  checkStreamOptions(options);
  const { deadLetterStream = `${options.stream}:dead`, group = "trueup", stream, trim = true } = options;
  requireText(group, "group");
  requireText(deadLetterStream, "deadLetterStream");
  const settings: GroupSettings = {
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
  return keepSecrets(queueSource(`redis-streams ${stream}`, driver, options), urlPasswords(options.url));
}

async function makeGroup({ command }: Link, { group, stream }: GroupSettings): Promise<void> {
  try {
    await command("XGROUP", "CREATE", stream, group, "0", "MKSTREAM");
  } catch (error) {
    const { cause } = error as { readonly cause?: unknown };
    if (!(cause instanceof Error) || !cause.message.startsWith("BUSYGROUP")) throw error;
  }
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
  return keepSecrets(publisher, urlPasswords(options.url));
}
