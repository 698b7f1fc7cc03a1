/**
 * The other end: publishing to a broker, and knowing that it has it.
 *
 * @module
 */

import { asError } from "../../core/retry.ts";
import type { Envelope } from "./envelope.ts";

/** Publishes into one queue. Connects when first used, and again after a failure. */
export interface QueuePublisher {
  /** The broker's and the queue's name. */
  readonly name: string;
  /**
   * Resolves once the broker has confirmed that the message is as safe as it keeps messages, and never before.
   * @throws TrueupError `UNAUTHORIZED`, `NETWORK`, `OPTION_INVALID`
   */
  publish(envelope: Envelope): Promise<void>;
  /** Disconnects, after what is being published. Never rejects; may be called twice. */
  close(): Promise<void>;
}

/** A connection that publishes. Once `publish` has rejected, it may be given up. */
export interface PublisherConnection {
  publish(envelope: Envelope): Promise<void>;
  close(): Promise<void>;
  /** Settles when the connection is lost. */
  readonly lost: Promise<unknown>;
}

/** A publisher over connections that come and go. */
export function reconnectingPublisher(
  name: string,
  connect: () => Promise<PublisherConnection>,
): QueuePublisher {
  let current: Promise<PublisherConnection> | undefined;
  const publishing = new Set<Promise<unknown>>();
  const connected = (): Promise<PublisherConnection> => {
    if (current !== undefined) return current;
    const opened = connect();
    const forget = () => {
      if (current === opened) current = undefined;
    };
    opened.then(async ({ lost }) => lost).then(forget, forget);
    return (current = opened);
  };
  return {
    name,
    publish: async (envelope) => {
      const published = connected().then((connection) => connection.publish(envelope));
      publishing.add(published);
      try {
        await published;
      } catch (error) {
        throw asError(error);
      } finally {
        publishing.delete(published);
      }
    },
    close: async () => {
      await Promise.allSettled(publishing);
      const closing = current;
      current = undefined;
      await closing?.then((connection) => connection.close()).catch(() => {});
    },
  };
}
