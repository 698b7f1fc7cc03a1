/**
 * Sources deliver events: webhook receiver, queue consumer, poller. This file has what they share: the delivery, its
 * outcome, the seam of a long-running source, and the seam of a signature scheme.
 *
 * @module
 */

import type { Clock, Random } from "./clock.ts";
import type { Origin, SyncEvent } from "./event.ts";
import type { Hooks } from "./hooks.ts";

/**
 * What became of a delivery. `accepted`, `duplicate` and `ignored` are acked, `rejected` is rejected (it can never be
 * accepted), `retry` is nacked (it may be accepted later).
 */
export type OutcomeStatus = "accepted" | "duplicate" | "ignored" | "rejected" | "retry";

export interface Outcome {
  readonly status: OutcomeStatus;
  /** Events that are new. */
  readonly accepted: number;
  /** Events whose id was seen before. */
  readonly duplicates: number;
  /** Events of resources that are not declared, or deliveries of unknown connections. */
  readonly ignored: number;
  /** Why, for `rejected` and `retry`. */
  readonly error?: Error;
  /** For `retry`: not before. */
  readonly retryAfterMs?: number;
}

/** One message, as signature schemes and adapters see it. Until it is verified, nothing in it can be trusted. */
export interface WebhookDelivery {
  /** The message's own id, where the transport or the signature scheme has one. */
  readonly id?: string | undefined;
  /** Upper case. `"POST"` for messages of queues. */
  readonly method: string;
  /** Absolute where it is known. Behind a proxy it may differ from the public one. */
  readonly url: string;
  /**
   * A header by its name, in any case; `undefined` when absent.
   * @throws TrueupError `HEADER_REPEATED` when it came more than once: which of the values counts is ambiguous.
   */
  header(name: string): string | undefined;
  /** The raw bytes, exactly as they came. */
  readonly body: Uint8Array;
  /**
   * The body parsed on first use: JSON, or an object of strings for `application/x-www-form-urlencoded`.
   * @throws TrueupError `BODY_INVALID`.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON from outside; the adapter knows its shape
  readonly json: any;
  /** Milliseconds since the epoch. */
  readonly receivedAt: number;
}

/** A signature scheme with its secrets. */
export interface Verifier {
  /**
   * Returns when the delivery is genuine.
   * @param now milliseconds since the epoch, for schemes with a timestamp
   * @throws SignatureError otherwise
   */
  verify(delivery: WebhookDelivery, now: number): void | Promise<void>;
  /** Where the scheme's headers carry an id of the delivery: that id. Read only after `verify`. */
  deliveryId?(delivery: WebhookDelivery): string | undefined;
}

/** One delivery with the events that an adapter read from it. */
export interface EventDelivery {
  readonly provider: string;
  readonly connection: string;
  readonly origin: Origin;
  /** Stands in for the id of events that have none. */
  readonly deliveryId?: string | undefined;
  readonly receivedAt: number;
  readonly events: readonly SyncEvent[];
}

/** A message of a queue, whose signature may still have to be verified and whose events are still to be read. */
export interface RawDelivery {
  readonly provider: string;
  readonly connection?: string | undefined;
  readonly delivery: WebhookDelivery;
  /** Verify the signature as the provider's webhook does. False: the authenticated broker is trusted. */
  readonly verify: boolean;
}

/** Where a source puts what it received. Resolves once the events are as safe as the store can make them (I1). */
export interface Sink {
  (deliveries: readonly (EventDelivery | RawDelivery)[]): Promise<readonly Outcome[]>;
}

/** What the engine lends a source while it runs. */
export interface SourceEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  /** Tells the engine's listeners. */
  readonly emit: Hooks["emit"];
}

/** A long-running source. The life of the promise is the life of the source. */
export interface Source {
  readonly name: string;
  /** The provider whose `webhook` reads what is delivered raw. An engine that has none such refuses the source. */
  readonly provider?: string | undefined;
  /**
   * Runs until the signal aborts. A rejection is reported, and the source is started again with backoff.
   * @param environment the engine's time and chance; absent where somebody other than an engine runs the source
   */
  run(sink: Sink, signal: AbortSignal, environment?: SourceEnvironment): Promise<void>;
}
