/**
 * `trueup/hooque`: events from a Hooque queue, by REST or as a stream.
 *
 * @module
 */

import process from "node:process";
import { invalidOption } from "../core/errors.ts";
import { positive } from "../core/options.ts";
import { keepSecrets } from "../core/secrets.ts";
import type { Source } from "../core/source.ts";
import { createAgent } from "../http/dispatcher.ts";
import { HooqueClient } from "./hooque/client.ts";
import type { HooqueMessage } from "./hooque/message.ts";
import { HooqueStream } from "./hooque/stream.ts";
import type { DriverEnvironment, QueueConnection, QueueDriver } from "./queue/driver.ts";
import type { QueueSourceOptions } from "./queue/options.ts";
import { queueSource } from "./queue/source.ts";

export interface HooqueSourceOptions extends QueueSourceOptions {
  /** The queue's `…/next`, absolute. @default the environment's HOOQUE_QUEUE_NEXT_URL */
  readonly url?: string | undefined;
  /** The consumer's token. @default the environment's HOOQUE_TOKEN */
  readonly token?: string | undefined;
  /**
   * `"pull"` asks for one message after the other, with pauses while there are none. `"stream"` holds one request open,
   * and hears of messages at once. @default "pull"
   */
  readonly mode?: "pull" | "stream" | undefined;
  /** How many requests for messages may be under way at once, for `"pull"`. @default 4 */
  readonly pullers?: number | undefined;
  /** The longest pause between two looks at an empty queue, for `"pull"`, in milliseconds. @default 5_000 */
  readonly maxIdleMs?: number | undefined;
  /** The queue's visibility timeout, in milliseconds: after that Hooque gives a message to another. @default 30_000 */
  readonly visibilityTimeoutMs?: number | undefined;
  /** A stream without a sign of life for this long is opened anew, in milliseconds. @default 90_000 */
  readonly idleTimeoutMs?: number | undefined;
}

const MIN_IDLE_MS = 100;

/**
 * A source that consumes a Hooque queue. The delivery's id is Hooque's `messageId`.
 *
 * @example
 * new SyncEngine({ providers: [crm], store, sources: [hooqueSource({ provider: "crm" })] });
 *
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function hooqueSource(options: HooqueSourceOptions): Source {
  const { mode = "pull", verify = false } = options;
  if (mode !== "pull" && mode !== "stream") throw invalidOption('`mode` must be "pull" or "stream"');
  if (mode === "stream" && verify) {
    throw invalidOption(
      '`verify` needs the bytes that were signed, and a stream has parsed them: use `mode: "pull"`',
    );
  }
  const url = queueUrl(options.url ?? process.env["HOOQUE_QUEUE_NEXT_URL"], mode);
  const token = requireToken(options.token ?? process.env["HOOQUE_TOKEN"]);
  const leaseMs = positive(options.visibilityTimeoutMs, 30_000, "visibilityTimeoutMs", 1_000);
  const idleTimeoutMs = positive(options.idleTimeoutMs, 90_000, "idleTimeoutMs", 100);
  const maxIdleMs = positive(options.maxIdleMs, 5_000, "maxIdleMs", MIN_IDLE_MS);
  const pullers = mode === "stream" ? 1 : positive(options.pullers, 4, "pullers");
  const driver: QueueDriver<HooqueMessage> = {
    async connect(environment) {
      const dispatcher = await createAgent();
      const { clock, maxBodyBytes } = environment;
      const client = new HooqueClient({ dispatcher, clock, url, token, maxBodyBytes });
      const receiving = mode === "pull" ? pulling(client) : streaming(client, environment, idleTimeoutMs);
      return {
        leaseMs,
        delays: false,
        ...receiving,
        ack: (message) => client.ack(message),
        nack: (message, nack) => client.nack(message, nack),
        reject: (message, reason) => client.reject(message, reason),
        close: async () => {
          await receiving.close();
          await dispatcher.destroy();
        },
      };
    },
  };
  const source = queueSource(`hooque ${url.host}${url.pathname}`, driver, options, {
    pullers,
    idle: { minMs: MIN_IDLE_MS, maxMs: maxIdleMs },
  });
  return keepSecrets(source, [token]);
}

type Receiving = Pick<QueueConnection<HooqueMessage>, "waits" | "batch" | "receive" | "close">;

function pulling(client: HooqueClient): Receiving {
  return {
    waits: false,
    batch: 1,
    receive: async (_limit, signal) => {
      const message = await client.next(signal);
      return message === undefined ? [] : [message];
    },
    close: async () => {},
  };
}

function streaming(
  client: HooqueClient,
  { prefetch, random }: DriverEnvironment,
  idleTimeoutMs: number,
): Receiving {
  const stream = new HooqueStream({ client, random, prefetch, idleTimeoutMs });
  return {
    waits: true,
    batch: prefetch,
    receive: (limit, signal) => stream.take(limit, signal),
    close: async () => {
      const nack = { delayMs: 0, reason: "STOPPED: the consumer stops" };
      // What cannot be given back comes free when its time is up.
      await Promise.all((await stream.close()).map((message) => client.nack(message, nack).catch(() => {})));
    },
  };
}

function queueUrl(given: unknown, mode: "pull" | "stream"): URL {
  if (typeof given !== "string" || !URL.canParse(given) || !/^https?:/i.test(given)) {
    throw invalidOption(
      "`url` must be the absolute http(s) URL of the queue's `…/next`, or HOOQUE_QUEUE_NEXT_URL",
    );
  }
  const url = new URL(given);
  if (url.username !== "" || url.password !== "" || url.hash !== "") {
    throw invalidOption("`url` must have no credentials and no fragment: the token is an option of its own");
  }
  if (/^(?:true|1)$/i.test(url.searchParams.get("autoAck") ?? "")) {
    throw invalidOption("`url` must not ask for `autoAck`: a message would be gone before it is safe");
  }
  if (mode === "stream") url.pathname = url.pathname.replace(/\/next\/?$/, "/stream");
  return url;
}

/** A token read from a file often has a line end, which no header may have. */
function requireToken(given: unknown): string {
  if (typeof given === "string" && /^[\u0021-\u007e]+$/.test(given)) return given;
  throw invalidOption(
    "`token`, or HOOQUE_TOKEN, must be the consumer's token: visible ASCII characters, no blanks",
  );
}
