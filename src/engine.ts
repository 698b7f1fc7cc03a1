/**
 * The engine: wires sources, store, API clients and handlers into the one path. It is the composition root, and alone
 * in picking defaults.
 *
 * @module
 */

import { adoptRows, type AdoptRow } from "./core/adopt.ts";
import type { ApiClients } from "./core/api.ts";
import type {
  ConnectionOption,
  ModeOf,
  ReconcileOptions,
  ScheduleOptions,
  VerifyOptions,
  WebhookOptions,
} from "./core/calls.ts";
import type { BatchHandler, Change, Handler } from "./core/change.ts";
import { systemClock, systemRandom, type Clock } from "./core/clock.ts";
import { refuseInsideCommit } from "./core/commit-scope.ts";
import { ConnectionRegistry, DEFAULT_CONNECTION, singleConnection } from "./core/connections.ts";
import { DeliveryWatch } from "./core/delivery-watch.ts";
import { DeadLetters } from "./core/dead-letters.ts";
import { drained } from "./core/drain.ts";
import { invalidOption } from "./core/errors.ts";
import { objectIdText } from "./core/event.ts";
import type { BatchHandlerOptions, HandlerOptions } from "./core/handling.ts";
import { logEvents } from "./core/event-log.ts";
import { Hooks, stderrLogger, type EventMap, type Listener } from "./core/hooks.ts";
import { Intake } from "./core/intake.ts";
import { Lifecycle, type StartOptions } from "./core/lifecycle.ts";
import {
  durationMs,
  positive,
  resolveLimits,
  type EngineOptions,
  type Given,
  type Limits,
} from "./core/options.ts";
import type { DriftReport, ReconcileReport } from "./core/pass.ts";
import { Passes, requireMode } from "./core/passes.ts";
import { Pauses } from "./core/pauses.ts";
import { withPollers, type Poller } from "./core/poller.ts";
import type { AnyProvider, ResourceOf, RouteOf } from "./core/provider.ts";
import { Redactor } from "./core/redactor.ts";
import { requireHandler, RouteRegistry } from "./core/registry.ts";
import type { IdValue, ObjectOf } from "./core/resource.ts";
import type { Schedule } from "./core/scheduler.ts";
import { SourceRunner } from "./core/source-runner.ts";
import { drainResult, readStatus, type DrainResult, type EngineStatus } from "./core/status.ts";
import type { Store } from "./core/store.ts";
import { type ApiClientOptions, createApiClients } from "./http/index.ts";
import { type Transport, transportDispatcher } from "./http/transport.ts";
import { createSink } from "./sources/sink.ts";
import { createReceiver, type Receiver } from "./sources/webhook/receiver.ts";
import { keyvStore } from "./stores/keyv.ts";

/** An engine of whatever providers and store, for functions that take any: `(engine: AnyEngine) => engine.status()`. */
// oxlint-disable-next-line typescript/no-explicit-any -- handlers take what the store hands out: no type fits all
export type AnyEngine = SyncEngine<any, any>;

/** The changes of a route, as an engine's handlers receive them: `ChangeOf<typeof engine, "crm.contact">`. */
export type ChangeOf<Engine, RouteName extends string> =
  Engine extends SyncEngine<infer Providers, infer Tx>
    ? Change<ObjectOf<ResourceOf<Providers[number], RouteName>>, Tx>
    : never;

/** A handler of a route: `HandlerOf<typeof engine, "crm.contact">`. */
export type HandlerOf<Engine, RouteName extends string> = (change: ChangeOf<Engine, RouteName>) => unknown;

/** What `commit` callbacks receive: `TxOf<typeof engine>`. */
export type TxOf<Engine> = Engine extends SyncEngine<readonly AnyProvider[], infer Tx> ? Tx : never;

const DRAIN_TIMEOUT_MS = 30_000;
const TICK_TIMEOUT_MS = 10_000;

/**
 * Keeps a copy of providers' objects right. Constructing it does nothing; `start` makes it work.
 *
 * @example
 * const engine = new SyncEngine({ providers: [crm], store: sqliteStore({ path: "sync.db" }) });
 * engine.handle("crm.contact", async (change) => { … });
 * createServer(engine.webhook("crm").node).listen(3000);
 * await engine.start();
 */
export class SyncEngine<const Providers extends readonly AnyProvider[] = readonly AnyProvider[], Tx = never> {
  /** Work that was given up. */
  readonly deadLetters: DeadLetters;

  readonly #store: Store<unknown>;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #hooks: Hooks;
  readonly #routes: RouteRegistry;
  readonly #connections: ConnectionRegistry;
  readonly #apis: ApiClients;
  readonly #pauses: Pauses;
  readonly #intake: Intake;
  readonly #lifecycle: Lifecycle;
  readonly #passes: Passes;
  readonly #watch: DeliveryWatch;
  readonly #schedules: Schedule[] = [];
  readonly #hasSources: boolean;
  readonly #pollers: readonly Poller[];

  /** @throws TrueupError `OPTION_INVALID`, naming the option */
  constructor(options: EngineOptions<Providers, Tx>);
  /** @internal `transport` stands in for the network; `testEngine` hands one in. */
  constructor(options: EngineOptions<Providers, Tx>, transport: Transport | undefined);
  constructor(options: EngineOptions<Providers, Tx>, transport?: Transport) {
    const { sources = [] } = options;
    const clock = options.clock ?? systemClock;
    const random = options.random ?? systemRandom;
    const limits = resolveLimits(options as EngineOptions<readonly AnyProvider[], unknown>);
    const store = (options.store ?? keyvStore()) as Store<unknown>;
    if (!Array.isArray(options.providers)) throw invalidOption("`providers` must be a list of providers");
    // A `Keyv`, or `sqliteStore` that nobody called.
    if (typeof store.guarantees?.durability !== "string")
      throw invalidOption("`store` must be a store: sqliteStore({ path }), keyvStore(keyv), …");
    const routes = new RouteRegistry(options.providers);
    const connections = new ConnectionRegistry(
      options.connections ?? singleConnection,
      routes.providers,
      clock,
      limits.fetchTimeoutMs,
    );
    const redactor = new Redactor({
      providers: routes.providers,
      connections,
      owners: [store, ...sources],
      secrets: options.secrets,
    });
    const logger = redactor.logger(options.logger ?? stderrLogger((line) => process.stderr.write(line)));
    const hooks = new Hooks(logger, (event) => redactor.event(event));
    const pauses = new Pauses(store, clock, hooks);
    const apis = createApiClients({
      providers: routes.providers,
      connections,
      clock,
      random,
      hooks,
      logger,
      maxConcurrent: limits.concurrency,
      dispatcher: transport === undefined ? undefined : transportDispatcher(transport),
      takePermits: sharedPermits(store, () => this.#lifecycle.ready()),
    });
    const intake = new Intake({
      store,
      routes,
      clock,
      hooks,
      limits,
      ready: () => this.#lifecycle.ready(),
      onAccepted: (route) => this.#lifecycle.worker?.wake(route.name),
    });
    const sink = createSink((delivery) => intake.accept(delivery), {
      provider: (name) => routes.providers.get(name),
      findConnection: (provider, id) => connections.find(provider, id),
      learn: (provider, id, secrets) => connections.learn(provider, id, "webhook.verify", secrets),
      tell: (error, scope) => redactor.error(error, scope),
      hooks,
    });
    this.#store = store;
    this.#clock = clock;
    this.#limits = limits;
    this.#hooks = hooks;
    this.#routes = routes;
    this.#connections = connections;
    this.#apis = apis;
    this.#pauses = pauses;
    this.#intake = intake;
    this.#hasSources = sources.length > 0;
    const { sources: runnable, pollers } = withPollers(sources, routes.providers, {
      store,
      apis,
      pauses,
      clock,
      random,
      hooks,
      limits,
      ready: () => this.#lifecycle.ready(),
      connectionsOf: (provider) => this.#lifecycle.connectionsOf(provider),
      accept: (delivery) => intake.accept(delivery),
      askForPasses: (provider, connection) => intake.askForPasses(provider, connection),
    });
    this.#pollers = pollers;
    this.#lifecycle = new Lifecycle({
      store,
      apis,
      connections,
      redactor,
      pauses,
      clock,
      random,
      hooks,
      limits,
      routes,
      environment: {
        clock,
        random,
        logger,
        eventTtlMs: limits.eventTtlMs,
        maxEventsPerChange: limits.maxEventsPerChange,
      },
      sources: new SourceRunner({ sources: runnable, sink, clock, random, hooks }),
      pollers,
      schedules: () => this.#schedules,
      onDone: (claim) => intake.done(claim),
      onStopped: async () => {
        intake.close();
        await this.#watch.flush();
      },
    });
    this.#passes = new Passes({ clock, connections, redactor, lifecycle: this.#lifecycle });
    this.deadLetters = new DeadLetters({
      store,
      routes,
      ready: () => this.#lifecycle.ready(),
      onRevived: () => this.#lifecycle.worker?.wake(),
    });
    logEvents(hooks, logger, clock);
    this.#watch = new DeliveryWatch({ store, clock, hooks, providers: routes.providers });
  }

  /**
   * Registers the handler of a route: one change at a time for each object, `concurrency` objects at once.
   * @throws TrueupError `DUPLICATE_HANDLER`, `ROUTE_UNKNOWN`, `OPTION_INVALID`
   */
  handle<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    handler: Handler<ObjectOf<ResourceOf<Providers[number], RouteName>>, Tx>,
    options: Given<HandlerOptions> = {},
  ): void {
    requireFunction(handler, "a handler");
    this.#routes.setHandler(route, {
      kind: "single",
      run: handler,
      options: this.#handlerOptions(options, this.#limits.concurrency),
    });
  }

  /** Registers a handler that takes up to `size` changes at once, each of another object. @throws as {@link handle} */
  handleBatch<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    handler: BatchHandler<ObjectOf<ResourceOf<Providers[number], RouteName>>, Tx>,
    options: Given<BatchHandlerOptions> = {},
  ): void {
    requireFunction(handler, "a batch handler");
    this.#routes.setHandler(route, {
      kind: "batch",
      run: handler as BatchHandler<unknown, unknown>,
      options: { ...this.#handlerOptions(options, 1), size: positive(options.size, 100, "size") },
    });
  }

  /**
   * Runs passes of a route from `start` on, for all listed and stored connections; never two of one at once.
   * @throws TrueupError `OPTION_INVALID`, `NOT_SUPPORTED`
   */
  schedule<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    options: ScheduleOptions<ModeOf<ResourceOf<Providers[number], RouteName>>>,
  ): void {
    if (this.#lifecycle.begun) throw invalidOption("schedules are set before `start`");
    const known = this.#routes.get(route);
    requireMode(known, options?.mode);
    this.#schedules.push({ route: known, everyMs: durationMs(options.every, "every"), mode: options.mode });
  }

  /**
   * The receiver of a provider's webhooks: mount `.node` or `.fetch`. Works before `start`, and without it.
   * @throws TrueupError `OPTION_INVALID`
   */
  webhook(provider: Providers[number]["name"], options: WebhookOptions = {}): Receiver {
    const definition = this.#routes.providers.get(provider);
    if (definition === undefined) throw invalidOption(`no provider is named ${JSON.stringify(provider)}`);
    return createReceiver({
      provider: definition,
      connection: options.connection,
      waitUntil: options.waitUntil,
      onAccepted: () => (this.#lifecycle.started ? undefined : this.tick()),
      clock: this.#clock,
      hooks: this.#hooks,
      sink: (delivery) => this.#intake.accept(delivery),
      findConnection: (id) => this.#connections.find(provider, id),
      learn: (id, secrets) => this.#connections.learn(provider, id, "webhook.verify", secrets),
      accepting: () => this.#lifecycle.accepting,
    });
  }

  /**
   * Starts working, the sources and the schedules; each can be left out, for processes that only receive.
   * Idempotent.
   * @throws TrueupError `HANDLER_MISSING`, `STORE_IN_USE`, `STORE_FAILED`, `STOPPED`
   */
  async start(options: StartOptions = {}): Promise<void> {
    refuseInsideCommit("start");
    const passes = options.schedules !== false && this.#schedules.length > 0;
    if (options.work !== false || passes) this.#requireHandlers();
    this.#warnOfVolatileStore();
    await this.#lifecycle.start(options);
  }

  /**
   * Lists a resource at the provider and repairs what differs. Needs no `start`. Resolves when all that it brought into
   * work is settled; a page that fails rejects and keeps the checkpoint.
   * @throws TrueupError `CONNECTION_REQUIRED`, `NOT_SUPPORTED`, `HANDLER_MISSING`, and what the API failed with
   */
  async reconcile<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    options: ReconcileOptions<ModeOf<ResourceOf<Providers[number], RouteName>>>,
  ): Promise<ReconcileReport> {
    refuseInsideCommit("reconcile");
    return this.#passes.reconcile(this.#routes.get(route), options);
  }

  /**
   * Compares a resource with the index, and repairs nothing.
   * @throws as {@link reconcile}; also when the list cannot be read to its end, since then nothing is proved
   */
  async verify<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    options: VerifyOptions = {},
  ): Promise<DriftReport> {
    refuseInsideCommit("verify");
    return this.#passes.verify(this.#routes.get(route), options);
  }

  /**
   * Tells the index what the user's copy already holds: `{ id, version?, object? }` a row.
   * @returns how many rows were taken over; objects that wait for work are left to it
   * @throws TrueupError `CONNECTION_REQUIRED`, `SCHEMA_MISMATCH`
   */
  async adopt<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    rows: Iterable<AdoptRow> | AsyncIterable<AdoptRow>,
    options: ConnectionOption = {},
  ): Promise<number> {
    refuseInsideCommit("adopt");
    const known = this.#routes.get(route);
    await this.#lifecycle.ready();
    return adoptRows(this.#store, known, await this.#passes.scopeOf(known, options.connection), rows);
  }

  /**
   * Fetches and handles objects, changed or not. Resolves when that is recorded, not when it is done.
   * @throws TrueupError `CONNECTION_REQUIRED`
   */
  async trigger<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    ids: readonly IdValue[],
    options: ConnectionOption = {},
  ): Promise<void> {
    refuseInsideCommit("trigger");
    const known = this.#routes.get(route);
    if (!Array.isArray(ids)) throw invalidOption("`trigger` takes a list of ids");
    const { connection } = await this.#passes.scopeOf(known, options.connection);
    await this.#intake.trigger(known, connection, ids.map(objectIdText));
  }

  /**
   * Waits until nothing is dirty or leased, in any process, nor due before the deadline.
   * @param options `timeoutMs` defaults to 30_000
   */
  async drain(options: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainResult> {
    refuseInsideCommit("drain");
    await this.#lifecycle.ready();
    const timeoutMs = positive(options.timeoutMs, DRAIN_TIMEOUT_MS, "timeoutMs");
    const signal = this.#lifecycle.stopSignal;
    const worker = () => this.#lifecycle.worker;
    return drained({ store: this.#store, clock: this.#clock, worker, signal }, timeoutMs);
  }

  /**
   * One bounded slice of work, due schedules and due polls, after which no timer, lease or heartbeat is left: for cron jobs and
   * serverless functions.
   * @param options `timeoutMs` defaults to 10_000
   */
  async tick(options: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainResult> {
    refuseInsideCommit("tick");
    this.#requireHandlers();
    const timeoutMs = positive(options.timeoutMs, TICK_TIMEOUT_MS, "timeoutMs");
    if (this.#lifecycle.started) return this.drain({ timeoutMs });
    await this.#lifecycle.tick(timeoutMs, async () => {
      const { due, leased } = await this.#store.pending(this.#clock.now());
      return due === 0 && leased === 0;
    });
    await this.#watch.flush();
    return drainResult(await this.#store.pending(this.#clock.now()));
  }

  /** Claims no more work of a connection, in any process, until it is resumed. Events are still taken in. */
  async pause({
    provider,
    connection = DEFAULT_CONNECTION,
  }: {
    readonly provider: Providers[number]["name"];
    readonly connection?: string | undefined;
  }): Promise<void> {
    refuseInsideCommit("pause");
    await this.#lifecycle.ready();
    await this.#pauses.pause(provider, connection, null, "paused by hand");
  }

  async resume({
    provider,
    connection = DEFAULT_CONNECTION,
  }: {
    readonly provider: Providers[number]["name"];
    readonly connection?: string | undefined;
  }): Promise<void> {
    refuseInsideCommit("resume");
    await this.#lifecycle.ready();
    await this.#pauses.resume(provider, connection);
    this.#lifecycle.worker?.wake();
  }

  /** Deletes all that is known of a connection: its work, events, index and checkpoints. The user's copy is the user's. */
  async forget(provider: Providers[number]["name"], connection: string): Promise<void> {
    refuseInsideCommit("forget");
    await this.#lifecycle.ready();
    const polling = this.#pollers.filter((poller) => poller.provider === provider);
    await Promise.all(polling.map((poller) => poller.forget(connection)));
    await this.#watch.forget({ provider, connection });
    await this.#store.forget(provider, connection);
    this.#connections.forget(provider, connection);
    this.#apis.forget(provider, connection);
  }

  /** How things stand, per route and connection. */
  async status(): Promise<EngineStatus> {
    refuseInsideCommit("status");
    await this.#lifecycle.ready();
    return readStatus(this.#store, this.#clock, this.#lifecycle.started, this.#watch);
  }

  /** Listens to an event of {@link EventMap}. @returns what takes it back */
  on<Name extends keyof EventMap>(name: Name, listener: Listener<Name>): () => void {
    requireFunction(listener, "a listener");
    return this.#hooks.on(name, listener);
  }

  /**
   * Refuses new deliveries, claims no more, waits for work in flight, aborts it at the deadline, gives back its leases,
   * and closes what the engine opened. The backlog waits in the store. Idempotent, also before `start`.
   * @param options `timeoutMs` defaults to 10_000
   */
  async stop(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    refuseInsideCommit("stop");
    await this.#lifecycle.stop(options.timeoutMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #handlerOptions(
    { concurrency, timeoutMs }: Given<HandlerOptions>,
    defaultConcurrency: number,
  ): HandlerOptions {
    return {
      concurrency: positive(concurrency, defaultConcurrency, "concurrency"),
      timeoutMs: positive(timeoutMs, 30_000, "timeoutMs"),
    };
  }

  #requireHandlers(): void {
    for (const route of this.#routes.all()) requireHandler(route);
  }

  #warnOfVolatileStore(): void {
    if (this.#store.guarantees.durability !== "none") return;
    const fed =
      this.#hasSources ||
      [...this.#routes.providers.values()].some((provider) => provider.webhook !== undefined);
    if (!fed) return;
    this.#hooks.emit("warning", {
      code: "STORE_VOLATILE",
      message:
        "the store survives nothing, so webhooks are answered only once they are handled; use sqliteStore, or a shared store, in production",
    });
  }
}

/** Only a store that other processes share has permits to hand out. */
function sharedPermits(
  store: Store<unknown>,
  ready: () => Promise<void> | undefined,
): ApiClientOptions["takePermits"] {
  const takePermits = store.takePermits?.bind(store);
  if (takePermits === undefined) return undefined;
  return async (budget, wanted) => {
    await ready();
    return await takePermits(budget, wanted);
  };
}

function requireFunction(value: unknown, what: string): void {
  if (typeof value !== "function") throw invalidOption(`${what} must be a function`);
}
