/**
 * The part of an ioredis client that the store uses, and the client that it makes where it is given a URL.
 *
 * @module
 */

import type { Redis } from "ioredis";
import type { Clock } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import type { Logger } from "../../core/hooks.ts";
import { storeError, timedOut } from "./failure.ts";

export type Argument = string | number;

/** Commands that are sent together; each calls back when its own answer has come. */
export interface RedisPipeline {
  evalsha(
    digest: string,
    keyCount: number,
    ...rest: [...args: Argument[], callback: (error: Error | null | undefined, reply: unknown) => void]
  ): unknown;
  exec(): Promise<unknown>;
}

/** A `Redis` or a `Cluster` of ioredis. */
export interface RedisClient {
  readonly status: string;
  readonly isCluster?: boolean | undefined;
  call(command: string, ...args: Argument[]): Promise<unknown>;
  evalsha(digest: string, keyCount: number, ...args: Argument[]): Promise<unknown>;
  eval(script: string, keyCount: number, ...args: Argument[]): Promise<unknown>;
  pipeline(): RedisPipeline;
  /** A `Cluster`'s nodes. */
  nodes?(role?: "master"): RedisClient[];
  connect(): Promise<void>;
  disconnect(): void;
  duplicate(): RedisClient;
  subscribe(...channels: string[]): Promise<unknown>;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "error" | "ready", listener: (error?: unknown) => void): unknown;
  off(event: "error" | "ready", listener: (error?: unknown) => void): unknown;
}

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_MS = [50, 100, 200, 500, 1_000, 2_000];

/**
 * A client that tells the truth at once: it queues nothing while there is no connection, and sends nothing again that
 * may have been carried out. It goes on trying to connect.
 */
export async function connectTo(url: string, logger: Logger): Promise<RedisClient> {
  const Driver = await loadDriver();
  const client = new Driver(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => RECONNECT_MS[Math.min(times, RECONNECT_MS.length) - 1],
    connectionName: "trueup",
  });
  // Without a listener ioredis writes to the console; what it means for the work, the calls that fail tell.
  client.on("error", (error: unknown) => logger.debug({ error }, "the connection to Redis has failed"));
  return client;
}

/**
 * Waits for the connection, and for what the server has to say against it.
 * @throws TrueupError `STORE_FAILED`
 */
export async function ready(client: RedisClient, clock: Clock): Promise<void> {
  if (client.status === "ready") return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const isReady = () => resolve();
  client.on("ready", isReady);
  client.on("error", reject);
  const cancel = clock.setTimer(() => reject(timedOut(CONNECT_TIMEOUT_MS)), CONNECT_TIMEOUT_MS);
  try {
    if (client.status === "wait") client.connect().catch(reject);
    await promise;
  } catch (error) {
    throw storeError(error);
  } finally {
    cancel();
    client.off("ready", isReady);
    client.off("error", reject);
  }
}

/** Ends a client that the store has made. */
export function closeOwn(client: RedisClient): void {
  client.disconnect();
}

async function loadDriver(): Promise<typeof Redis> {
  try {
    return (await import("ioredis")).Redis;
  } catch (cause) {
    throw new TrueupError("OPTION_INVALID", "redisStore needs the package ioredis: npm install ioredis", {
      cause,
    });
  }
}
