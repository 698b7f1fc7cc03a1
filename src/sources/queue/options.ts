/**
 * What all queue sources have in common to set.
 *
 * @module
 */

import { invalidOption } from "../../core/errors.ts";
import { positive } from "../../core/options.ts";
import type { IdleBounds } from "./idle.ts";

export interface QueueSourceOptions {
  /** The provider whose `webhook.events` reads the messages. */
  readonly provider: string;
  /** Whose messages these are. @default what the relay found out, else the provider's `webhook.connection` */
  readonly connection?: string | undefined;
  /**
   * Verify each message's signature, as the webhook would be verified. Needs a queue that keeps the body's bytes and the
   * signature's headers. @default false: who may publish to the queue is trusted
   */
  readonly verify?: boolean | undefined;
  /** How the source is called in events and logs. @default the broker's and the queue's name */
  readonly name?: string | undefined;
  /** How many messages this process holds at once; those that come together share a commit. @default 256 */
  readonly prefetch?: number | undefined;
  /** A larger body is rejected, in bytes. @default 1_048_576 */
  readonly maxBodyBytes?: number | undefined;
  /** How often a message may come without ever being settled before it is rejected. @default 50 */
  readonly maxDeliveries?: number | undefined;
}

/** {@link QueueSourceOptions}, filled in and checked. */
export interface QueueSettings {
  readonly provider: string;
  readonly connection: string | undefined;
  readonly verify: boolean;
  readonly prefetch: number;
  readonly maxBodyBytes: number;
  readonly maxDeliveries: number;
  /** How many ask the broker at once. */
  readonly pullers: number;
  readonly idle: IdleBounds;
}

/** What a driver wants otherwise. */
export interface DriverDefaults {
  readonly prefetch?: number | undefined;
  readonly pullers?: number | undefined;
  readonly idle?: IdleBounds | undefined;
}

/** @throws TrueupError `OPTION_INVALID`, naming the option */
export function queueSettings(options: QueueSourceOptions, defaults: DriverDefaults = {}): QueueSettings {
  const { connection, provider, verify = false } = options;
  requireText(provider, "provider");
  if (connection !== undefined) requireText(connection, "connection");
  if (typeof verify !== "boolean") throw invalidOption("`verify` must be true or false");
  const prefetch = positive(options.prefetch, defaults.prefetch ?? 256, "prefetch");
  return {
    provider,
    connection,
    verify,
    prefetch,
    maxBodyBytes: positive(options.maxBodyBytes, 1_048_576, "maxBodyBytes"),
    maxDeliveries: positive(options.maxDeliveries, 50, "maxDeliveries"),
    pullers: Math.min(prefetch, defaults.pullers ?? 1),
    idle: defaults.idle ?? { minMs: 100, maxMs: 5_000 },
  };
}

/** @throws TrueupError `OPTION_INVALID` */
export function requireText(value: unknown, name: string): asserts value is string {
  if (typeof value !== "string" || value === "")
    throw invalidOption(`\`${name}\` must be a non-empty string`);
}
