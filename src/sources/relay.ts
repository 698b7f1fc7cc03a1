/**
 * The receiving end apart from the workers: a webhook is verified, and published to a broker from which the workers
 * consume it.
 *
 * @module
 */

import { sleep, systemClock, type Clock } from "../core/clock.ts";
import { ConnectionRegistry, singleConnection } from "../core/connections.ts";
import { invalidOption, TrueupError } from "../core/errors.ts";
import { logEvents } from "../core/event-log.ts";
import { type EventMap, Hooks, type Listener, type Logger, stderrLogger } from "../core/hooks.ts";
import { positive, type Connections } from "../core/options.ts";
import type { AnyProvider } from "../core/provider.ts";
import { Redactor } from "../core/redactor.ts";
import { asError } from "../core/retry.ts";
import type { Outcome, WebhookDelivery } from "../core/source.ts";
import { type Envelope, ENVELOPE_PREFIX, sealDelivery } from "./queue/envelope.ts";
import type { QueuePublisher } from "./queue/publisher.ts";
import { createReceiver, type Receiver } from "./webhook/receiver.ts";

export interface RelayOptions {
  readonly provider: AnyProvider;
  /** Where verified webhooks go: `amqpPublisher(…)`, `natsPublisher(…)`, … It is closed with the relay. */
  readonly to: QueuePublisher;
  /**
   * Request headers that go along, besides `content-type`: those that the provider's `events` and `connection` read, and
   * those of the signature where the consumer is to verify it again. All others stay behind.
   */
  readonly headers?: readonly string[] | undefined;
  /** The connection of every request; `webhook.connection` is then not asked. */
  readonly connection?: string | undefined;
  /** As the engine's, where secrets belong to connections. @default one connection, `"default"` */
  readonly connections?: Connections | undefined;
  /** How long the broker may take to confirm, in milliseconds; then the sender gets 503. @default 8_000 */
  readonly timeoutMs?: number | undefined;
  /** How many webhooks may wait for the broker at once; what comes then gets 503. @default 256 */
  readonly maxWaiting?: number | undefined;
  /** @default warnings and errors to stderr */
  readonly logger?: Logger | undefined;
  readonly clock?: Clock | undefined;
}

/** Handlers for a webhook route, as of `engine.webhook(…)`, and the relay's own life. */
export interface Relay extends Receiver, AsyncDisposable {
  /** Listens to `delivery`, `delivery.refused`, `warning` and `error`. @returns its undo */
  on<Name extends keyof EventMap>(name: Name, listener: Listener<Name>): () => void;
  /** Refuses what comes (503), waits for what is being published, up to `timeoutMs`, and disconnects. */
  close(): Promise<void>;
}

const RETRY_AFTER_MS = 5_000;
const NOTHING = { accepted: 0, duplicates: 0, ignored: 0 } as const;
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
/** They say who the sender is, and nothing of what happened (I12). */
const NEVER_TAKEN: ReadonlySet<string> = new Set(["authorization", "cookie", "proxy-authorization"]);

/**
 * Makes a relay. It answers 2xx only after the broker has confirmed the message (I1).
 *
 * @example
 * const hooks = relay({ provider: crm, to: amqpPublisher({ url, queue: "crm" }), headers: ["x-event"] });
 * createServer(hooks.node).listen(3000);
 * // elsewhere: new SyncEngine({ …, sources: [amqpSource({ provider: "crm", url, queue: "crm" })] })
 *
 * @throws TrueupError `OPTION_INVALID`
 */
export function relay(options: RelayOptions): Relay {
  const { clock = systemClock, provider, to } = options;
  if (typeof to?.publish !== "function")
    throw invalidOption("`to` must be a publisher, as `amqpPublisher(…)`");
  const allowed = allowlist(options.headers ?? []);
  const timeoutMs = positive(options.timeoutMs, 8_000, "timeoutMs");
  const maxWaiting = positive(options.maxWaiting, 256, "maxWaiting");
  const connections = new ConnectionRegistry(
    options.connections ?? singleConnection,
    new Map([[provider.name, provider]]),
    clock,
  );
  const redactor = new Redactor({
    providers: new Map([[provider.name, provider]]),
    connections,
    owners: [to],
  });
  const logger = redactor.logger(options.logger ?? stderrLogger((line) => process.stderr.write(line)));
  const hooks = new Hooks(logger, (event) => redactor.event(event));
  logEvents(hooks, logger, clock);
  let accepting = true;
  let waiting = 0;
  const hasRoom = () => waiting < maxWaiting;

  /** Takes up room until the broker has answered, also when nobody waits for that any more (I10). */
  const published = async (envelope: Envelope): Promise<void> => {
    waiting += 1;
    try {
      await to.publish(envelope);
    } finally {
      waiting -= 1;
    }
  };
  const publish = async (delivery: WebhookDelivery, connection: string): Promise<Outcome> => {
    // Any number may have been let in while there was room, before the first of them was published.
    if (!hasRoom()) return { status: "retry", ...NOTHING, retryAfterMs: RETRY_AFTER_MS };
    const envelope = sealDelivery(delivery, connection, allowed);
    try {
      await inTime(clock, timeoutMs, published(envelope));
      return { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };
    } catch (thrown) {
      const error = asError(thrown);
      hooks.emit("error", {
        error,
        during: `publishing a webhook of provider "${provider.name}" to ${to.name}`,
      });
      return { status: "retry", ...NOTHING, error, retryAfterMs: RETRY_AFTER_MS };
    }
  };
  const receiver = createReceiver({
    provider,
    connection: options.connection,
    clock,
    hooks,
    accepting: () => accepting && hasRoom(),
    findConnection: (id) => connections.find(provider.name, id),
    learn: (id, secrets) => connections.learn(provider.name, id, "webhook.verify", secrets),
    forward: async (delivery, connection) => {
      const outcome = await publish(delivery, connection);
      const { error } = outcome;
      hooks.emit("delivery", { provider: provider.name, connection, origin: "webhook", ...outcome, error });
      return outcome;
    },
    sink: () => Promise.reject(new TrueupError("NOT_SUPPORTED", "a relay reads no events")),
  });
  const close = async (): Promise<void> => {
    accepting = false;
    const over = new AbortController();
    // A broker that confirms nothing must not keep the process.
    await Promise.race([to.close(), sleep(clock, timeoutMs, over.signal).catch(() => {})]);
    over.abort();
  };
  return {
    ...receiver,
    on: (name, listener) => hooks.on(name, listener),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** @throws TrueupError `OPTION_INVALID` */
function allowlist(headers: readonly string[]): readonly string[] {
  const names = ["content-type", ...headers].map((name) => name.toLowerCase());
  for (const name of names) {
    if (NEVER_TAKEN.has(name)) throw invalidOption(`\`headers\` must not have "${name}": it holds a secret`);
    if (!HEADER_NAME.test(name) || name.startsWith(ENVELOPE_PREFIX)) {
      throw invalidOption(
        `\`headers\` must be names of request headers, and ${JSON.stringify(name)} is none`,
      );
    }
  }
  return [...new Set(names)];
}

/** What comes after that may have been published all the same: a repeat is a duplicate, or a fetch that finds nothing. */
async function inTime(clock: Clock, timeoutMs: number, published: Promise<void>): Promise<void> {
  const over = new AbortController();
  const late = sleep(clock, timeoutMs, over.signal).then(() => {
    throw new TrueupError("API_TIMEOUT", `the broker did not confirm within ${timeoutMs} ms`);
  });
  late.catch(() => {});
  published.catch(() => {});
  try {
    await Promise.race([published, late]);
  } finally {
    over.abort();
  }
}
