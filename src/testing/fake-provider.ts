/**
 * A provider to test adapters against: objects, an API, webhooks, and everything that goes wrong with real ones.
 *
 * @module
 */

import { type Clock, type Random, sleep, systemClock } from "../core/clock.ts";
import { invalidOption } from "../core/errors.ts";
import type { Transport } from "../http/transport.ts";
import type { FakeAnswer, FakeRequest } from "./fake-provider/answer.ts";
import { FakeApi, type FakeTraffic } from "./fake-provider/api.ts";
import { type FakeRateLimit, RateBudget } from "./fake-provider/budget.ts";
import {
  Courier,
  type FakeDelivery,
  type Sign,
  standardSignature,
  type WebhookTarget,
} from "./fake-provider/courier.ts";
import { EventFeed, type FakeEvent } from "./fake-provider/event-feed.ts";
import { Chances, type Faults } from "./fake-provider/faults.ts";
import { type FakeChange, type FakeObject, type FakeState, Objects } from "./fake-provider/objects.ts";
import { FakeServer } from "./fake-provider/server.ts";
import { seededRandom } from "./seeded-random.ts";

export interface FakeProviderOptions<Resource extends string = string> {
  /** The kinds of objects it has; each is a path of its API too. */
  readonly resources: readonly Resource[];
  /** Decides all its dice. @default 1 */
  readonly seed?: number | undefined;
  /** @default the system's; a `TestClock` for virtual time */
  readonly clock?: Clock | undefined;
  /** What goes wrong, and how often. @default nothing */
  readonly faults?: Partial<Faults> | undefined;
  /** Signs its webhooks, as Standard Webhooks has it. @default {@link FAKE_SECRET} */
  readonly secret?: string | undefined;
  /** Signs them in another way. */
  readonly sign?: Sign | undefined;
  /** What a webhook's body says, as JSON. @default the event as it is in the feed */
  readonly webhookBody?: ((event: FakeEvent, change: FakeChange) => unknown) | undefined;
  /** Delays before the further attempts at a webhook that was not answered 2xx, in milliseconds. @default none */
  readonly webhookRetryDelaysMs?: readonly number[] | undefined;
  /** What every request must have as its `authorization`; another is answered 401. */
  readonly authorization?: string | undefined;
  /** What more is answered 429. @default no limit */
  readonly rateLimit?: FakeRateLimit | undefined;
  /** An answer takes up to so many milliseconds. @default 0 */
  readonly latencyMs?: number | undefined;
  /** How much the provider's clock is ahead of ours (below 0: behind), in milliseconds. @default 0 */
  readonly clockSkewMs?: number | undefined;
  /** How many events its feed remembers; older cursors are answered 410. @default 1_000 */
  readonly feedSize?: number | undefined;
}

/** How a change is made. */
export interface FakeChangeOptions {
  /** No webhook, and no event in the feed: what a bulk edit does. @default false */
  readonly quiet?: boolean | undefined;
  /** `version` and `updated_at` stay as they are, though the object changes. @default false */
  readonly keepVersion?: boolean | undefined;
}

/** The secret that signs a fake provider's webhooks unless it is given another. Not secret at all. */
export const FAKE_SECRET = "whsec_dHJ1ZXVwIGZha2UgcHJvdmlkZXIgc2VjcmV0";

/**
 * A stateful provider. It keeps every state that each of its objects ever had ({@link history}), so that a test can
 * say what a copy may hold and what it may not.
 *
 * Its API, below any path: `GET …/<resource>/<id>`, `GET …/<resource>?limit&cursor&since` (`{ items, next, deleted? }`),
 * `GET …/<resource>?ids=a,b` (`{ items }`), `GET …/events?cursor` (`{ events, next, more }`, with `X-Poll-Interval`).
 * Answers have `ETag`, `Date`, and, with a rate limit, `X-RateLimit-*`.
 *
 * It has two faces: {@link listen} serves the API from a real port; {@link transport} answers in memory, and needs no
 * socket and no real time (see `testEngine`).
 *
 * @example
 * const clock = new TestClock();
 * const fake = new FakeProvider({ resources: ["contact"], clock, faults: { dropWebhook: 0.2, lag: 0.5 } });
 * const { engine, settled } = testEngine({ providers: [crm], clock, transport: fake.transport });
 * fake.deliverTo(engine.webhook("crm").fetch);
 * fake.put("contact", "c_1", { email: "a@b.example" });
 */
export class FakeProvider<const Resource extends string = string> {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #resources: readonly Resource[];
  readonly #latencyMs: number;
  readonly #webhookBody: (event: FakeEvent, change: FakeChange) => unknown;
  readonly #objects = new Objects();
  readonly #chances: Chances;
  readonly #budget: RateBudget;
  readonly #feed: EventFeed;
  readonly #api: FakeApi;
  readonly #courier: Courier;
  readonly #server: FakeServer;
  /** Its own time, which goes on evenly when somebody sets our clock. */
  readonly #now: () => number;
  #skewMs: number;

  /** @throws TrueupError `OPTION_INVALID` */
  constructor(options: FakeProviderOptions<Resource>) {
    if (options.resources.length === 0) throw invalidOption("a FakeProvider needs `resources`");
    const clock = options.clock ?? systemClock;
    const random = seededRandom(options.seed ?? 1);
    this.#clock = clock;
    this.#random = random;
    this.#resources = [...options.resources];
    this.#latencyMs = options.latencyMs ?? 0;
    this.#skewMs = options.clockSkewMs ?? 0;
    this.#webhookBody = options.webhookBody ?? ((event) => event);
    this.#chances = new Chances(random);
    this.#chances.set(options.faults ?? {});
    this.#budget = new RateBudget(options.rateLimit);
    this.#feed = new EventFeed(options.feedSize ?? 1_000);
    const epoch = clock.now() - clock.monotonic();
    this.#now = () => epoch + clock.monotonic();
    const providerNow = () => this.#now() + this.#skewMs;
    this.#api = new FakeApi({
      objects: this.#objects,
      feed: this.#feed,
      chances: this.#chances,
      budget: this.#budget,
      resources: this.#resources,
      authorization: options.authorization,
      now: this.#now,
      providerNow,
    });
    this.#courier = new Courier({
      clock,
      chances: this.#chances,
      sign: options.sign ?? standardSignature(options.secret ?? FAKE_SECRET),
      providerNow,
      retryDelaysMs: options.webhookRetryDelaysMs ?? [],
    });
    this.#server = new FakeServer((request) => this.#answer(request));
  }

  /** Answers in memory, whatever host a request is for. A function by itself: it can be handed on. */
  readonly transport: Transport = async ({ method, url, headers }) => {
    const answer = await this.#answer({ method, url: new URL(url), headers });
    switch (answer.kind) {
      case "silent":
        return new Promise(() => {}); // whoever asked gives up by itself
      case "refused":
        throw Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
      case "reset":
        throw Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
      case "answer": {
        const body = Buffer.from(answer.body);
        const cut = answer.brokenAfter;
        return {
          status: answer.status,
          headers: answer.headers,
          body: cut === undefined ? body : body.subarray(0, cut),
          broken: cut !== undefined,
        };
      }
    }
  };

  /** Serves the API on a free port of the loopback interface. @returns its origin, for `api.baseUrl` */
  listen(): Promise<string> {
    return this.#server.start();
  }

  /** Ends what {@link listen} began. */
  close(): Promise<void> {
    return this.#server.stop();
  }

  /** Where its webhooks go, from now on. */
  deliverTo(target: WebhookTarget | undefined): void {
    this.#courier.target = target;
  }

  /** Creates an object, or changes the given fields of one. @returns the object as it is now */
  put(
    resource: Resource,
    id: string,
    fields: Readonly<Record<string, unknown>>,
    options: FakeChangeOptions = {},
  ): FakeObject {
    const change = this.#change(resource, id, fields, options);
    return change?.state.object as FakeObject;
  }

  /** Deletes an object. @returns whether there was one */
  delete(resource: Resource, id: string, options: FakeChangeOptions = {}): boolean {
    return this.#change(resource, id, undefined, options) !== undefined;
  }

  /** An object as it is in truth, whatever the API shows of it yet. */
  get(resource: Resource, id: string): FakeObject | undefined {
    return this.#objects.current(resource, id);
  }

  /** All objects of a resource as they are in truth. */
  all(resource: Resource): FakeObject[] {
    return this.#objects.all(resource);
  }

  /** Every state that an object ever had, the oldest first. */
  history(resource: Resource, id: string): readonly FakeState[] {
    return this.#objects.history(resource, id);
  }

  /** The ids of all objects that there are or ever were. */
  ids(resource: Resource): string[] {
    return this.#objects.ids(resource);
  }

  /** What was asked of the API so far. */
  get traffic(): Readonly<FakeTraffic> {
    return this.#api.traffic;
  }

  /** All webhooks that were sent, and how they were answered. Dropped ones are not among them. */
  get deliveries(): readonly Readonly<FakeDelivery>[] {
    return this.#courier.deliveries;
  }

  /** Whether webhooks are under way, or wait for another attempt. */
  get delivering(): boolean {
    return this.#courier.busy;
  }

  /** Sends what was held back, and resolves when no webhook is under way. Under virtual time, time has to pass. */
  delivered(): Promise<void> {
    return this.#courier.settled();
  }

  /** Changes what goes wrong; faults that are not named stay as they are. @throws TrueupError `OPTION_INVALID` */
  setFaults(faults: Partial<Faults>): void {
    this.#chances.set(faults);
  }

  /** Cuts the API off for some time. */
  fail(ms: number): void {
    this.#api.fail(ms);
  }

  /** Sets the provider's clock ahead of ours, or behind. */
  setClockSkew(ms: number): void {
    this.#skewMs = ms;
  }

  /** Ends all faults, also those under way: storms, outages, lag, webhooks that are held back. */
  calm(): void {
    this.#chances.clear();
    this.#objects.reveal();
    this.#budget.calm();
    this.#api.calm();
    this.#courier.flush();
  }

  async #answer(request: FakeRequest): Promise<FakeAnswer> {
    if (this.#latencyMs === 0) return this.#api.answer(request);
    // What is true when the answer is made may be true no more when it arrives.
    const half = () => sleep(this.#clock, Math.ceil((this.#random() * this.#latencyMs) / 2));
    await half();
    const answer = this.#api.answer(request);
    await half();
    return answer;
  }

  #change(
    resource: Resource,
    id: string,
    fields: Readonly<Record<string, unknown>> | undefined,
    { keepVersion = false, quiet = false }: FakeChangeOptions,
  ): FakeChange | undefined {
    if (!this.#resources.includes(resource))
      throw invalidOption(`this provider has no ${JSON.stringify(resource)}`);
    const at = this.#now();
    const lagMs = this.#chances.hits("lag") ? this.#chances.upTo("lagMs") : 0;
    const change = this.#objects.apply({
      resource,
      id,
      fields,
      at,
      lagMs,
      providerTime: at + this.#skewMs,
      keepsVersion: keepVersion,
    });
    if (change === undefined || quiet) return change;
    const event = this.#eventOf(change);
    this.#feed.add(change, event);
    this.#courier.post({ id: event.id, body: JSON.stringify(this.#webhookBody(event, change)) });
    return change;
  }

  #eventOf({ id, kind, resource, state }: FakeChange): FakeEvent {
    return {
      id: `evt_${state.sequence}`,
      type: `${resource}.${kind}`,
      resource,
      object_id: id,
      version: state.version,
      occurred_at: new Date(state.changedAt).toISOString(),
    };
  }
}
