/**
 * The API clients of all connections.
 *
 * @module
 */

import type { Dispatcher } from "undici";
import type {
  ApiCall,
  ApiClient,
  ApiClients,
  ApiRequest,
  ApiResponse,
  ConnectionApi,
  Context,
} from "../core/api.ts";
import type { Clock, Random } from "../core/clock.ts";
import { invalidOption, TrueupError } from "../core/errors.ts";
import type { Hooks, Logger } from "../core/hooks.ts";
import { isPromise, type MaybePromise } from "../core/maybe-promise.ts";
import type { AnyProvider, ApiDefinition, Connection } from "../core/provider.ts";
import type { PermitGrant, RateBudget } from "../core/store.ts";
import { abortable } from "../core/abortable.ts";
import { type ConnectionState, send, type Shared } from "./connection.ts";
import { Credentials, type Held } from "./credentials.ts";
import { createAgent } from "./dispatcher.ts";
import { createLimiter } from "./limiter.ts";
import { requireApiLimits } from "./options.ts";
import { ValidatorCache } from "./validators.ts";

export interface ApiClientOptions {
  readonly providers: ReadonlyMap<string, AnyProvider>;
  /** Finds a connection, cached and checked. `refresh` passes the cache by, after the provider refused the credentials. */
  readonly connections: {
    get(provider: string, id: string, options: { readonly refresh: boolean }): MaybePromise<Connection>;
    /** Hears of secrets that requests carry (I12). */
    learn?(provider: string, id: string, what: string, secrets: readonly string[]): void;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly logger: Logger;
  /** Where requests go; a caller's own stays open. @default an undici Agent, made at the first request, closed by `close` */
  readonly dispatcher?: Dispatcher | undefined;
  /** Calls at once, per connection, where its provider has no `rateLimit.concurrent`. */
  readonly maxConcurrent: number;
  /** Hands out permits of configured rates, where other processes share them. @default each process has the whole rate */
  readonly takePermits?: ((budget: RateBudget, wanted: number) => Promise<PermitGrant>) | undefined;
  /** For the answers kept for conditional requests, in all. @default 33_554_432 (32 MiB) */
  readonly validatorCacheBytes?: number | undefined;
}

/**
 * Makes the API clients.
 * @throws TrueupError `OPTION_INVALID` naming the provider and the field
 */
export function createApiClients(options: ApiClientOptions): ApiClients {
  for (const [name, provider] of options.providers) {
    const api = provider.api as ApiDefinition<unknown> | undefined;
    if (api !== undefined) requireApiLimits(name, api);
  }
  return new Clients(options);
}

/** So many connections are remembered while they are idle. What is lost with one is a look-up of its credentials. */
const MAX_IDLE = 1_000;
/** How many are looked at for each one that is made, so that no request pays for many. */
const EVICTION_STEP = 8;

class Clients implements ApiClients, Shared {
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly logger: Logger;
  readonly validators: ValidatorCache;
  readonly #options: ApiClientOptions;
  /** The least recently used first. */
  readonly #states = new Map<string, ConnectionState>();
  /** The one that was used last, which need not be moved to the back. */
  #latest: ConnectionState | undefined;
  #agent: Promise<Dispatcher> | undefined;
  #closed = false;

  constructor(options: ApiClientOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.random = options.random;
    this.hooks = options.hooks;
    this.logger = options.logger;
    this.validators = new ValidatorCache(options.validatorCacheBytes ?? 33_554_432);
  }

  of(provider: string, connection: string): ConnectionApi {
    if (!this.#options.providers.has(provider)) throw invalidOption(`there is no provider "${provider}"`);
    // A state may be forgotten while it is idle and made again, so whatever is handed out asks for it each time.
    const state = () => this.#state(provider, connection);
    return {
      context: (call) => this.#context(state, call),
      saturated: () => this.#states.get(keyOf(provider, connection))?.limiter.saturated() ?? false,
    };
  }

  forget(provider: string, connection: string): void {
    const key = keyOf(provider, connection);
    if (this.#latest?.key === key) this.#latest = undefined;
    const state = this.#states.get(key);
    this.#states.delete(key);
    this.validators.forget(key);
    // What has left counts at the provider, whoever forgets it here (I10).
    if (state !== undefined && !state.limiter.idle())
      this.#states.set(key, { ...state, credentials: this.#credentialsOf(provider, connection) });
  }

  /** Lets requests under way end, which their timeouts see to, and refuses those that wait and those that come. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const state of this.#states.values()) state.limiter.close();
    this.#states.clear();
    this.validators.clear();
    const agent = this.#agent;
    this.#agent = undefined;
    await (await agent)?.close();
  }

  learn(state: ConnectionState, what: string, secrets: readonly string[]): void {
    this.#options.connections.learn?.(state.provider, state.id, what, secrets);
  }

  async dispatcher(): Promise<Dispatcher> {
    if (this.#options.dispatcher !== undefined) return this.#options.dispatcher;
    this.#agent ??= createAgent();
    return this.#agent;
  }

  #context(state: () => ConnectionState, call: ApiCall): MaybePromise<Context> {
    const contextOf = ({ connection }: Held): Context =>
      new CallContext(
        this.#client(state, call),
        call.signal,
        async (run) => state().limiter.runNested(run, call),
        () => state().credentials.peek() ?? connection,
      );
    const held = state().credentials.load();
    if (!isPromise(held)) return contextOf(held);
    return abortable(Promise.resolve(held), call.signal).then(contextOf);
  }

  #client(state: () => ConnectionState, call: ApiCall): ApiClient {
    // What a body is like is for the caller's type argument to say, and for the resource's schema to check.
    const request = async <T>(given: ApiRequest) =>
      (await send(this, state(), call, given)) as ApiResponse<T>;
    return {
      request,
      get: async <T>(path: string, { query, headers }: Pick<ApiRequest, "query" | "headers"> = {}) => {
        const { status, data } = await request<T>({ path, query, headers });
        // To an adapter's `fetch`, no body would mean that the object is gone.
        if (data === undefined) throw bodyMissing(status);
        return data;
      },
    };
  }

  #state(provider: string, connection: string): ConnectionState {
    if (this.#closed) throw new TrueupError("STOPPED", "the API client is closed");
    const latest = this.#latest;
    if (latest?.id === connection && latest.provider === provider) return latest;
    const key = keyOf(provider, connection);
    const known = this.#states.get(key);
    if (known !== undefined) {
      this.#states.delete(key);
      this.#states.set(key, known);
      this.#latest = known;
      return known;
    }
    const made = this.#makeState(key, provider, connection);
    this.#states.set(key, made);
    this.#latest = made;
    this.#evictIdle();
    return made;
  }

  #makeState(key: string, provider: string, id: string): ConnectionState {
    const { maxConcurrent, providers, takePermits } = this.#options;
    const api = providers.get(provider)?.api as ApiDefinition<unknown> | undefined;
    return {
      key,
      provider,
      id,
      api,
      limiter: createLimiter({
        rateLimit: api?.rateLimit,
        maxConcurrent,
        clock: this.clock,
        takePermits:
          takePermits && ((rate, wanted) => takePermits({ provider, connection: id, ...rate }, wanted)),
      }),
      credentials: this.#credentialsOf(provider, id),
    };
  }

  #credentialsOf(provider: string, id: string): Credentials {
    return new Credentials((how) => this.#options.connections.get(provider, id, how));
  }

  #evictIdle(): void {
    let steps = EVICTION_STEP;
    for (const [key, state] of this.#states) {
      if (this.#states.size <= MAX_IDLE || steps === 0) return;
      steps -= 1;
      this.#states.delete(key);
      // One that is busy goes to the back, so that it does not shield those behind it.
      if (!state.limiter.idle()) this.#states.set(key, state);
    }
  }
}

const NEWEST = Symbol("newest connection");

class CallContext implements Context {
  readonly api: ApiClient;
  readonly signal: AbortSignal;
  readonly limited: Context["limited"];
  /** After a refresh, the rest of the call sees the new credentials too. */
  declare readonly connection: Connection;
  /** No private member, which would not be found through a proxy. */
  readonly [NEWEST]: () => Connection;

  constructor(api: ApiClient, signal: AbortSignal, limited: Context["limited"], newest: () => Connection) {
    this.api = api;
    this.signal = signal;
    this.limited = limited;
    this[NEWEST] = newest;
    // Its own, so that it is in a copy of the context. (A getter in an object literal takes three times as long to make.)
    Object.defineProperty(this, "connection", CONNECTION);
  }
}

const CONNECTION: PropertyDescriptor & ThisType<CallContext> = {
  enumerable: true,
  get() {
    return this[NEWEST]();
  },
};

/** A provider's name has no slash, so no two pairs share a key. */
function keyOf(provider: string, connection: string): string {
  return `${provider}/${connection}`;
}

function bodyMissing(status: number): TrueupError<"RESPONSE_INVALID"> {
  return new TrueupError(
    "RESPONSE_INVALID",
    `\`get\` was answered ${status} without a body; use \`api.request\` where that is to be expected`,
  );
}
