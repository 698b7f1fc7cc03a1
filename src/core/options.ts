/**
 * The engine's options with their defaults and limits.
 *
 * @module
 */

import type { Clock, Random } from "./clock.ts";
import { invalidOption } from "./errors.ts";
import type { Logger } from "./hooks.ts";
import type { AnyProvider, Connection } from "./provider.ts";
import type { RetryPolicy } from "./retry.ts";
import type { Source } from "./source.ts";
import type { Store } from "./store.ts";

/** Options as callers give them: each may be left out, or `undefined`, for its default. */
export type Given<Options> = { readonly [Name in keyof Options]?: Options[Name] | undefined };

/** Where the accounts are kept that a provider's connections stand for. */
export interface Connections {
  /**
   * Finds a connection. `refresh` asks for new credentials, because the API refused the present ones.
   * `undefined`: there is none of this id.
   */
  get(
    provider: string,
    id: string,
    options: { readonly refresh: boolean },
  ): Connection | undefined | Promise<Connection | undefined>;
  /** All connections of a provider, for schedules and for `connection: "*"`. */
  list?(provider: string): readonly string[] | Promise<readonly string[]>;
}

export interface EngineOptions<
  Providers extends readonly AnyProvider[] = readonly AnyProvider[],
  Tx = never,
> {
  readonly providers: Providers;
  /** @default keyvStore() over an in-memory Keyv: nothing survives the process */
  readonly store?: Store<Tx> | undefined;
  readonly sources?: readonly Source[] | undefined;
  /** @default one connection, `"default"`, with empty credentials */
  readonly connections?: Connections | undefined;
  /** How long a process may be silent before its work is taken over, in milliseconds. @default 30_000 */
  readonly leaseMs?: number | undefined;
  /** How many fetches, and how many handlers of a route, run at once. @default 32 */
  readonly concurrency?: number | undefined;
  /** @default { attempts: 10, minDelayMs: 1_000, maxDelayMs: 900_000 } */
  readonly retry?: Given<RetryPolicy> | undefined;
  /**
   * Texts that must never be told, beside those that the engine knows of itself (credentials, the secrets of signature
   * schemes, API headers): what verifiers and sources of your own keep secret.
   */
  readonly secrets?: readonly string[] | undefined;
  /** As pino. @default warnings and errors to stderr */
  readonly logger?: Logger | undefined;
  /** How long event ids and events are kept, in milliseconds. Longer than any provider's redelivery. @default 7 days */
  readonly eventTtlMs?: number | undefined;
  /** How many of a change's events reach the handler: the newest. @default 100 */
  readonly maxEventsPerChange?: number | undefined;
  /** Most bytes of an event's `data` as JSON. @default 16_384 */
  readonly maxEventDataBytes?: number | undefined;
  /** How long a commit callback may take, in milliseconds. @default 5_000 */
  readonly commitTimeoutMs?: number | undefined;
  /** How long one call of `fetch`, `fetchMany`, `list` or `connections.list` may take, in milliseconds. @default 120_000 */
  readonly fetchTimeoutMs?: number | undefined;
  /** How often an idle worker looks for work that another process brought, in milliseconds. @default 1_000 */
  readonly pollMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
}

/** The numbers of {@link EngineOptions}, filled in and checked. */
export interface Limits {
  readonly leaseMs: number;
  readonly concurrency: number;
  readonly retry: RetryPolicy;
  readonly eventTtlMs: number;
  readonly maxEventsPerChange: number;
  readonly maxEventDataBytes: number;
  readonly commitTimeoutMs: number;
  readonly fetchTimeoutMs: number;
  readonly pollMs: number;
}

const DAY_MS = 86_400_000;

/** @throws TrueupError `OPTION_INVALID`, naming the option */
export function resolveLimits(options: EngineOptions<readonly AnyProvider[], unknown>): Limits {
  return {
    leaseMs: positive(options.leaseMs, 30_000, "leaseMs", 100),
    concurrency: positive(options.concurrency, 32, "concurrency"),
    retry: {
      attempts: positive(options.retry?.attempts, 10, "retry.attempts"),
      minDelayMs: positive(options.retry?.minDelayMs, 1_000, "retry.minDelayMs"),
      maxDelayMs: positive(options.retry?.maxDelayMs, 900_000, "retry.maxDelayMs"),
    },
    eventTtlMs: positive(options.eventTtlMs, 7 * DAY_MS, "eventTtlMs"),
    maxEventsPerChange: positive(options.maxEventsPerChange, 100, "maxEventsPerChange"),
    maxEventDataBytes: positive(options.maxEventDataBytes, 16_384, "maxEventDataBytes"),
    commitTimeoutMs: positive(options.commitTimeoutMs, 5_000, "commitTimeoutMs"),
    fetchTimeoutMs: positive(options.fetchTimeoutMs, 120_000, "fetchTimeoutMs"),
    pollMs: positive(options.pollMs, 1_000, "pollMs", 10),
  };
}

export function positive(value: number | undefined, fallback: number, name: string, least = 1): number {
  const number = value ?? fallback;
  if (!Number.isSafeInteger(number) || number < least) {
    throw invalidOption(`\`${name}\` must be a whole number of at least ${least}, not ${String(value)}`);
  }
  return number;
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: DAY_MS } as const;

/**
 * Reads a duration: milliseconds as a number, or `"500ms"`, `"30s"`, `"15m"`, `"24h"`, `"7d"`.
 * @throws TrueupError `OPTION_INVALID`
 */
export function durationMs(value: number | string, name: string): number {
  if (typeof value === "number") return positive(value, value, name);
  const match = /^(\d{1,12})(ms|s|m|h|d)$/.exec(value);
  if (match === null)
    throw invalidOption(
      `\`${name}\` must be milliseconds or like "15m", "24h", not ${JSON.stringify(value)}`,
    );
  return positive(Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS], 0, name);
}
