/**
 * NATS JetStream: connecting, and what a stream and its consumer have to be.
 *
 * @module
 */

import type { JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection, NodeConnectionOptions } from "@nats-io/transport-node";
import { invalidOption, TrueupError } from "../../core/errors.ts";
import { isTrueupError } from "../../http/exchange.ts";

export interface NatsQueueOptions {
  /** Servers, as `nats://127.0.0.1:4222`. */
  readonly url: string | readonly string[];
  readonly stream: string;
  /** What the stream takes in; the publisher publishes there. @default the stream's name */
  readonly subject?: string | undefined;
  /**
   * `"assert"` makes what is missing: the stream (work-queue retention, in files), a stream `<stream>-dead` for dead
   * letters, the consumer. `"check"` makes the consumer alone; a stream that takes in
   * the subject `<stream>-dead` must be there too, for a source.
   * @default "assert"
   */
  readonly topology?: "assert" | "check" | undefined;
  /** Copies of the streams that are made. @default 1 */
  readonly replicas?: number | undefined;
  /** Anything else that the client wants for connecting: credentials, TLS. */
  readonly nats?: Omit<NodeConnectionOptions, "servers" | "reconnect"> | undefined;
}

export interface Link {
  readonly connection: NatsConnection;
  readonly client: JetStreamClient;
  /** Settles with the reason when the connection is gone. Never rejects. */
  readonly lost: Promise<TrueupError>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const STREAM_EXISTS_OTHERWISE = 10_058;
const SUBJECTS_OVERLAP = 10_065;
const STREAM_NOT_FOUND = 10_059;
/** Stream names take no dots, wildcards or blanks. */
const NAME = /^[A-Za-z0-9_-]{1,200}$/;

export function deadLetterStream(stream: string): string {
  return `${stream}-dead`;
}

/** @throws TrueupError `OPTION_INVALID` */
export function checkStreamOptions({ stream, topology, url }: NatsQueueOptions): void {
  const servers = Array.isArray(url) ? (url as readonly unknown[]) : [url];
  if (servers.length === 0 || !servers.every((server) => typeof server === "string" && server !== "")) {
    throw invalidOption("`url` must be a server's address, or a list of them");
  }
  if (typeof stream !== "string" || !NAME.test(stream)) {
    throw invalidOption("`stream` must be 1 to 200 letters, digits, `-` or `_`");
  }
  if (topology !== undefined && topology !== "assert" && topology !== "check") {
    throw invalidOption('`topology` must be "assert" or "check"');
  }
}

/**
 * Connects, and makes sure of the streams.
 * @param use whether messages will be rejected: they need somewhere to go
 * @throws TrueupError `UNAUTHORIZED`, `NETWORK`, `OPTION_INVALID`
 */
export async function openLink(
  options: NatsQueueOptions,
  use: { readonly rejecting: boolean },
): Promise<Link> {
  const [{ connect }, { jetstream }] = await Promise.all([
    import("@nats-io/transport-node"),
    import("@nats-io/jetstream"),
  ]);
  const servers = typeof options.url === "string" ? options.url : [...options.url];
  let connection: NatsConnection;
  try {
    // Who runs the source connects again, with a backoff that listeners hear of.
    connection = await connect({ timeout: CONNECT_TIMEOUT_MS, ...options.nats, servers, reconnect: false });
  } catch (cause) {
    throw failure(cause, "cannot be reached");
  }
  const lost = connection.closed().then((cause) => failure(cause, "has closed the connection"));
  try {
    await settleStreams(connection, options, use.rejecting);
  } catch (cause) {
    await connection.close();
    throw streamFailure(cause, options);
  }
  return { connection, client: jetstream(connection), lost };
}

async function settleStreams(
  connection: NatsConnection,
  options: NatsQueueOptions,
  rejecting: boolean,
): Promise<void> {
  const { jetstreamManager, RetentionPolicy, StorageType } = await import("@nats-io/jetstream");
  const manager = await jetstreamManager(connection);
  const { replicas: num_replicas = 1, stream, subject = stream, topology } = options;
  const dead = deadLetterStream(stream);
  if (topology === "check") {
    await manager.streams.info(stream);
    if (rejecting) await requireTaker(manager, dead);
    return;
  }
  const common = { num_replicas, storage: StorageType.File };
  await manager.streams.add({ ...common, name: dead, subjects: [dead] });
  await manager.streams.add({
    ...common,
    name: stream,
    subjects: [subject],
    retention: RetentionPolicy.Workqueue,
  });
}

/** Any stream that takes the subject in will do. */
async function requireTaker(manager: JetStreamManager, subject: string): Promise<void> {
  try {
    await manager.streams.find(subject);
  } catch (cause) {
    const { name } = (cause ?? {}) as { readonly name?: unknown };
    if (name === "PermissionViolationError" || name === "TimeoutError") throw cause;
    throw new TrueupError(
      "OPTION_INVALID",
      `no stream takes in the subject "${subject}", so rejected messages have nowhere to go: make one, or leave \`topology\` to "assert"`,
      { cause },
    );
  }
}

export function failure(cause: unknown, what: string): TrueupError {
  if (isTrueupError(cause)) return cause;
  const { name } = (cause ?? {}) as { readonly name?: unknown };
  if (name === "AuthorizationError" || name === "UserAuthenticationExpiredError") {
    return new TrueupError("UNAUTHORIZED", "NATS refuses the credentials in `nats` or `url`", { cause });
  }
  return new TrueupError("NETWORK", `NATS ${what}`, { cause });
}

function streamFailure(cause: unknown, { stream }: NatsQueueOptions): TrueupError {
  const { code, name } = (cause ?? {}) as { readonly code?: unknown; readonly name?: unknown };
  if (code === STREAM_EXISTS_OTHERWISE || code === SUBJECTS_OVERLAP) {
    return new TrueupError(
      "OPTION_INVALID",
      `the stream "${stream}", or one with its subject, exists otherwise: use \`topology: "check"\`, or another name`,
      { cause },
    );
  }
  if (code === STREAM_NOT_FOUND) {
    return new TrueupError("OPTION_INVALID", `there is no stream "${stream}"`, { cause });
  }
  if (name === "PermissionViolationError") {
    return new TrueupError("UNAUTHORIZED", `NATS does not let this user use the stream "${stream}"`, {
      cause,
    });
  }
  return failure(cause, "has no JetStream that answers");
}
