/**
 * Redis by ioredis: connecting, and entries of streams as messages.
 *
 * @module
 */

import type { Redis, RedisOptions } from "ioredis";
import { invalidOption, TrueupError } from "../../core/errors.ts";
import { requireText } from "../queue/options.ts";

export interface RedisStreamOptions {
  /** `redis://user:password@host:6379/0`, or `rediss:`. */
  readonly url: string;
  /** The stream's key. */
  readonly stream: string;
  /** Anything else that the client wants for connecting. */
  readonly redis?: Omit<RedisOptions, "replyMapping" | "protocol"> | undefined;
}

export type RedisCommand = (name: string, ...args: (string | number | Uint8Array)[]) => Promise<unknown>;

/** A connection of one's own: it is not opened again once it is lost. */
export interface Link {
  readonly command: RedisCommand;
  /** Settles when the connection is gone. Never rejects. */
  readonly lost: Promise<TrueupError>;
  readonly close: () => Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** The field with the body; the headers are fields named `header:<name>`. */
export const BODY_FIELD = "body";
export const HEADER_PREFIX = "header:";

/** @throws TrueupError `OPTION_INVALID` */
export function checkStreamOptions({ stream, url }: RedisStreamOptions): void {
  if (typeof url !== "string" || !/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw invalidOption("`url` must be a redis: or rediss: URL");
  }
  requireText(stream, "stream");
}

/** @throws TrueupError `UNAUTHORIZED`, `NETWORK` */
export async function openLink({ redis, url }: RedisStreamOptions): Promise<Link> {
  const { Redis: Client } = await import("ioredis");
  const client: Redis = new Client(url, {
    connectTimeout: CONNECT_TIMEOUT_MS,
    ...redis,
    lazyConnect: true,
    // Who runs the source connects again, with a backoff that listeners hear of.
    retryStrategy: null,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    // The scripts and readers here are written for the older reply format, which every server speaks.
    protocol: 2,
  });
  const lost = Promise.withResolvers<TrueupError>();
  let reason: unknown;
  client.on("error", (error) => (reason ??= error));
  client.on("end", () => lost.resolve(failure(reason)));
  try {
    await client.connect();
    await client.ping(); // a server that wants a password says so only now
  } catch (error) {
    client.disconnect();
    throw failure(reason ?? error);
  }
  return {
    lost: lost.promise,
    command: async (name, ...args) => {
      try {
        return await client.callBuffer(name, args.map(argument));
      } catch (error) {
        throw failure(error);
      }
    },
    close: async () => {
      await client.quit().catch(() => {}); // it was lost before
      client.disconnect();
    },
  };
}

function argument(value: string | number | Uint8Array): string | number | Buffer {
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

/** The server's own answers are kept apart from what becomes of connections. */
function failure(cause: unknown): TrueupError {
  const text = cause instanceof Error ? cause.message : "";
  // Redis' errors have their code as their first word, and nowhere else.
  const [code = ""] = text.split(" ", 1);
  if (code === "NOAUTH" || code === "WRONGPASS" || code === "NOPERM") {
    return new TrueupError("UNAUTHORIZED", `Redis refuses the user and password of \`url\` (${code})`, {
      cause,
    });
  }
  if (/^[A-Z]{3,}$/.test(code)) return new TrueupError("NETWORK", `Redis answered ${code}`, { cause });
  return new TrueupError("NETWORK", "the connection to Redis is lost, or was never there", { cause });
}

/** The fields of an entry. */
export function fieldsOf(headers: ReadonlyMap<string, string>, body: Uint8Array): (string | Uint8Array)[] {
  return [
    BODY_FIELD,
    body,
    ...Array.from(headers, ([name, value]) => [HEADER_PREFIX + name.toLowerCase(), value]).flat(),
  ];
}

export interface Entry {
  readonly id: string;
  readonly fields: readonly Buffer[];
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}

/** What XREADGROUP and XAUTOCLAIM give for an entry; `undefined` for one that was deleted meanwhile. */
export function entryOf(reply: unknown): Entry | undefined {
  const [id, fields] = (reply ?? []) as readonly [Buffer?, (readonly Buffer[])?];
  if (id === undefined || !Array.isArray(fields)) return undefined;
  const headers = new Map<string, string>();
  let body: Buffer | undefined;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = String(fields[i]);
    const value = fields[i + 1] as Buffer;
    if (name === BODY_FIELD) body = value;
    else if (name.startsWith(HEADER_PREFIX)) headers.set(name.slice(HEADER_PREFIX.length), value.toString());
  }
  return {
    id: id.toString(),
    fields: fields as readonly Buffer[],
    headers,
    body: body ?? asJson(fields as readonly Buffer[]),
  };
}

/** An entry of another producer has fields of its own making: they are the object. */
function asJson(fields: readonly Buffer[]): Buffer {
  const pairs = Array.from({ length: fields.length / 2 }, (_, i) => [
    String(fields[2 * i]),
    String(fields[2 * i + 1]),
  ]);
  return Buffer.from(JSON.stringify(Object.fromEntries(pairs)));
}
