/**
 * What every webhook request passes, whichever server it came through: from its head to its answer.
 *
 * @module
 */

import type { Clock } from "../../core/clock.ts";
import { type ErrorCode, invalidOption, TrueupError } from "../../core/errors.ts";
import type { Hooks } from "../../core/hooks.ts";
import { isPromise, type MaybePromise } from "../../core/maybe-promise.ts";
import type { AnyProvider, Connection, WebhookAnswer, WebhookDefinition } from "../../core/provider.ts";
import { secretsOf } from "../../core/secrets.ts";
import type { EventDelivery, Outcome, Verifier, WebhookDelivery } from "../../core/source.ts";
import {
  type Answer,
  codeOf,
  CONSUMED_REMEDY,
  defaultAnswer,
  refusal,
  type RefusalCode,
  refusalCode,
  shapedAnswer,
  statusOf,
} from "./answer.ts";
import { authenticate, verifierList } from "./authenticate.ts";
import { connectionIdText, ReceivedDelivery, type RequestHead } from "./delivery.ts";
import { checkedEvents, DEFAULT_MAX_BODY_BYTES } from "./events.ts";
import { ReadDeadlines } from "./read-deadlines.ts";

export interface ReceiverOptions {
  readonly provider: AnyProvider;
  /** The connection of every request, for a route per tenant; `webhook.connection` is then not asked. */
  readonly connection?: string | undefined;
  /** Where the platform wants to be told of work that outlives the answer (serverless). */
  readonly waitUntil?: ((work: Promise<unknown>) => void) | undefined;
  /** The work that follows when events were accepted; handed to `waitUntil`, and not asked for without one. */
  readonly onAccepted?: (() => Promise<unknown> | undefined) | undefined;
  readonly clock: Clock;
  readonly hooks: Hooks;
  /** Resolves once the events are as safe as the store can make them (I1). */
  readonly sink: (delivery: EventDelivery) => Promise<Outcome>;
  /** Takes a verified delivery as it is, in place of reading its events for `sink`. */
  readonly forward?: ((delivery: WebhookDelivery, connection: string) => Promise<Outcome>) | undefined;
  /** `undefined` for a connection that nobody knows. The id may come from anybody: it is asked before `verify`. */
  readonly findConnection: (id: string) => MaybePromise<Connection | undefined>;
  /** Hears of secrets of a connection's signature schemes (I12). */
  readonly learn?: ((connection: string, secrets: readonly string[]) => void) | undefined;
  /** False while the engine stops. */
  readonly accepting: () => boolean;
}

/** How often a failure is reported that anybody can bring about. */
const TELL_EVERY_MS = 10_000;
const DEFAULT_CONNECTION = "default";

/** Errors that adapters may throw, or have thrown by `json` and `header`, to say what is wrong with the delivery. */
const DELIVERY_ERRORS: readonly (ErrorCode | undefined)[] = [
  "BODY_INVALID",
  "HEADER_REPEATED",
  "EVENT_INVALID",
  "SIGNATURE_INVALID",
];

// oxlint-disable-next-line typescript/no-explicit-any -- credentials are typed where the provider is defined
type AnyWebhook = WebhookDefinition<any>;

export class Gate {
  readonly maxBodyBytes: number;
  readonly deadlines: ReadDeadlines;
  readonly #options: ReceiverOptions;
  readonly #webhook: AnyWebhook;
  /** Where it does not depend on the delivery. */
  readonly #connection: string | undefined;
  /** Where they do not depend on the connection. */
  readonly #verifiers: readonly Verifier[] | undefined;
  #warnedOfConsumedBody = false;
  #tellsAgainAt = Number.NEGATIVE_INFINITY;

  /** @throws TrueupError `OPTION_INVALID` for a provider without `webhook` */
  constructor(options: ReceiverOptions) {
    const { name, webhook } = options.provider;
    if (webhook === undefined) throw invalidOption(`provider "${name}" has no \`webhook\``);
    this.#options = options;
    this.#webhook = webhook;
    this.#connection =
      options.connection ?? (webhook.connection === undefined ? DEFAULT_CONNECTION : undefined);
    this.#verifiers = typeof webhook.verify === "function" ? undefined : verifierList(webhook.verify, name);
    this.maxBodyBytes = webhook.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES;
    this.deadlines = new ReadDeadlines(options.clock);
  }

  /** The refusal of a request whose body need not even be read. */
  preflight(head: RequestHead): Answer | undefined {
    if (head.method !== "POST") return this.refuse("METHOD_NOT_ALLOWED");
    let encoding: string | undefined;
    let length: string | undefined;
    try {
      encoding = head.header("content-encoding");
      length = head.header("content-length");
    } catch (error) {
      return this.refuse(refusalCode(error), { error });
    }
    // Inflating what strangers send invites bombs, and senders sign either form: nobody compresses webhooks.
    if (encoding && encoding.toLowerCase() !== "identity") return this.refuse("ENCODING_NOT_SUPPORTED");
    // Only saves the reading: the bytes are counted all the same.
    if (length !== undefined && Number(length) > this.maxBodyBytes) return this.refuse("BODY_TOO_LARGE");
    return this.#options.accepting() ? undefined : this.refuse("STOPPED");
  }

  /** Takes in a request whose body was read. Never rejects. */
  async accept(head: RequestHead, body: Uint8Array): Promise<Answer> {
    let genuine = false;
    let claimed: string | undefined;
    try {
      const delivery = new ReceivedDelivery(head, body, this.#options.clock.now());
      const id = this.#connection ?? (await this.#connectionIdOf(delivery));
      const found = id === undefined ? undefined : this.#options.findConnection(id);
      const connection = isPromise(found) ? await found : found;
      if (connection === undefined) return this.#unknownConnection();
      claimed = connection.id;
      const vouched = authenticate(delivery, this.#verifiers ?? (await this.#verifiersFor(connection)));
      delivery.id = isPromise(vouched) ? await vouched : vouched;
      genuine = true;
      const { forward } = this.#options;
      const outcome = await (forward === undefined
        ? this.#record(delivery, connection.id)
        : forward(delivery, connection.id));
      return this.#answerTo(outcome, delivery, connection.id);
    } catch (error) {
      return this.failed(error, genuine, claimed);
    }
  }

  #record(delivery: ReceivedDelivery, connection: string): Promise<Outcome> {
    const record = (events: unknown) =>
      this.#options.sink({
        provider: this.#options.provider.name,
        connection,
        origin: "webhook",
        deliveryId: delivery.id,
        receivedAt: delivery.receivedAt,
        events: checkedEvents(events, this.maxBodyBytes),
      });
    const events = this.#askForEvents(delivery);
    return isPromise(events) ? Promise.resolve(events).then(record) : record(events);
  }

  /** A refusal, and its report. The sender learns the code, the operator also the reason. */
  refuse(
    code: RefusalCode,
    {
      connection,
      error,
      retryAfterMs,
    }: { connection?: string | undefined; error?: unknown; retryAfterMs?: number } = {},
  ): Answer {
    const answer = refusal(code, retryAfterMs);
    this.#options.hooks.emit("delivery.refused", {
      provider: this.#options.provider.name,
      ...(connection === undefined ? undefined : { connection }),
      status: answer.status,
      code,
      error: error instanceof Error ? error : undefined,
    });
    return answer;
  }

  /** The refusal that an error amounts to. */
  failed(error: unknown, genuine: boolean, connection?: string): Answer {
    const answer = this.refuse(refusalCode(error), { connection, error });
    // What strangers send fails in silence, else they could fill the log, unless the fault is ours; and that, a made-up
    // id that the user's look-up chokes on, is told now and then. The store reports its own failures.
    if (genuine ? answer.status === 400 || answer.status === 500 : answer.status === 500 && this.#mayTell())
      this.report(error, "receiving a webhook", connection);
    return answer;
  }

  /** The refusal of a request that a body parser has emptied. It says how to mount the route, and so does one warning. */
  consumed(): Answer {
    if (!this.#warnedOfConsumedBody) {
      this.#warnedOfConsumedBody = true;
      const { name: provider } = this.#options.provider;
      this.#options.hooks.emit("warning", {
        code: "BODY_CONSUMED",
        message: CONSUMED_REMEDY,
        scope: { provider },
      });
    }
    return this.refuse("BODY_CONSUMED");
  }

  #mayTell(): boolean {
    const now = this.#options.clock.monotonic();
    if (now < this.#tellsAgainAt) return false;
    this.#tellsAgainAt = now + TELL_EVERY_MS;
    return true;
  }

  report(error: unknown, during: string, connection?: string): void {
    const known =
      error instanceof Error
        ? error
        : new Error("something other than an Error was thrown", { cause: error });
    const { name: provider } = this.#options.provider;
    this.#options.hooks.emit("error", {
      error: known,
      during: `${during} of provider "${provider}"`,
      scope: { provider, connection },
    });
  }

  async #connectionIdOf(delivery: WebhookDelivery): Promise<string | undefined> {
    let id: unknown;
    try {
      id = await this.#webhook.connection?.(delivery);
    } catch (error) {
      throw deliveryError(error, "`webhook.connection` threw");
    }
    return connectionIdText(id);
  }

  async #verifiersFor(connection: Connection): Promise<readonly Verifier[]> {
    const { verify } = this.#webhook;
    const verifiers = verifierList(
      typeof verify === "function" ? await verify(connection) : verify,
      this.#options.provider.name,
    );
    this.#options.learn?.(connection.id, verifiers.flatMap(secretsOf));
    return verifiers;
  }

  #askForEvents(delivery: WebhookDelivery): MaybePromise<unknown> {
    const failed = (error: unknown): never => {
      throw deliveryError(error, "`webhook.events` threw");
    };
    try {
      const events: MaybePromise<unknown> = this.#webhook.events(delivery);
      return isPromise(events) ? events.then(undefined, failed) : events;
    } catch (error) {
      return failed(error);
    }
  }

  /**
   * An acknowledgement that changes nothing: refusing would make the provider repeat what will never be wanted.
   * The id is not reported, because anybody may have made it up.
   */
  #unknownConnection(): Answer {
    const { name: provider } = this.#options.provider;
    this.#options.hooks.emit("delivery.refused", {
      provider,
      connection: undefined,
      status: 200,
      code: "CONNECTION_UNKNOWN",
      error: undefined,
    });
    return defaultAnswer({ status: "ignored", accepted: 0, duplicates: 0, ignored: 1 });
  }

  #answerTo(outcome: Outcome, delivery: WebhookDelivery, connection: string): Answer {
    const { status, error, retryAfterMs } = outcome;
    if (status === "retry" || status === "rejected") {
      const [expected, otherwise] =
        status === "retry" ? ([503, "RETRY_LATER"] as const) : ([400, "DELIVERY_REJECTED"] as const);
      const code = refusalCode(error);
      return this.refuse(statusOf(code) === expected ? code : otherwise, {
        error,
        connection,
        ...(retryAfterMs === undefined ? undefined : { retryAfterMs }),
      });
    }
    if (outcome.accepted > 0) this.#handOver();
    return this.#shape(outcome, delivery, connection);
  }

  /** What fails from here on fails after the commit: the sender is told that all is well, because it is. */
  #handOver(): void {
    const { waitUntil, onAccepted } = this.#options;
    if (waitUntil === undefined || onAccepted === undefined) return;
    try {
      const work = onAccepted();
      if (work !== undefined) waitUntil(work);
    } catch (error) {
      this.report(error, "`waitUntil` of a webhook");
    }
  }

  #shape(outcome: Outcome, delivery: WebhookDelivery, connection: string): Answer {
    if (this.#webhook.respond === undefined) return defaultAnswer(outcome);
    try {
      const shaped: unknown = this.#webhook.respond(outcome, delivery);
      if (shaped instanceof Promise) {
        shaped.catch(() => {});
        throw new TypeError("`webhook.respond` must answer at once, and returned a promise");
      }
      return shaped === undefined ? defaultAnswer(outcome) : shapedAnswer(shaped as WebhookAnswer);
    } catch (error) {
      this.report(error, `\`webhook.respond\` to connection "${connection}"`, connection);
      return defaultAnswer(outcome);
    }
  }
}

function deliveryError(error: unknown, message: string): TrueupError {
  if (error instanceof Error && DELIVERY_ERRORS.includes(codeOf(error))) return error as TrueupError;
  return new TrueupError("EVENTS_FAILED", message, { cause: error });
}
