/**
 * The engine as its users hold it: what they call, and what each call asks of the parts.
 *
 * @module
 */

import { compose, type EngineParts } from "./composition.ts";
import { adoptRows, type AdoptRow } from "./core/adopt.ts";
import type {
  ConnectionOption,
  ModeOf,
  ReconcileOptions,
  ScheduleOptions,
  VerifyOptions,
  WebhookOptions,
} from "./core/calls.ts";
import type { BatchHandler, Change, Handler } from "./core/change.ts";
import { refuseInsideCommit } from "./core/commit-scope.ts";
import { DEFAULT_CONNECTION } from "./core/connections.ts";
import type { DeadLetters } from "./core/dead-letters.ts";
import { drained } from "./core/drain.ts";
import { invalidOption } from "./core/errors.ts";
import { objectIdText } from "./core/event.ts";
import type { BatchHandlerOptions, HandlerOptions } from "./core/handling.ts";
import type { EventMap, Listener } from "./core/hooks.ts";
import type { StartOptions } from "./core/lifecycle.ts";
import { durationMs, positive, type EngineOptions, type Given } from "./core/options.ts";
import type { DriftReport, ReconcileReport } from "./core/pass.ts";
import { requireMode } from "./core/passes.ts";
import type { AnyProvider, ResourceOf, RouteOf } from "./core/provider.ts";
import { requireHandler } from "./core/registry.ts";
import type { IdValue, ObjectOf } from "./core/resource.ts";
import { drainResult, readStatus, type DrainResult, type EngineStatus } from "./core/status.ts";
import type { Transport } from "./http/transport.ts";
import { createReceiver, type Receiver } from "./sources/webhook/receiver.ts";

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

  readonly #parts: EngineParts;

  /** @throws TrueupError `OPTION_INVALID`, naming the option */
  constructor(options: EngineOptions<Providers, Tx>);
  /** @internal `transport` stands in for the network; `testEngine` hands one in. */
  constructor(options: EngineOptions<Providers, Tx>, transport: Transport | undefined);
  constructor(options: EngineOptions<Providers, Tx>, transport?: Transport) {
    this.#parts = compose(options as EngineOptions<readonly AnyProvider[], unknown>, transport);
    this.deadLetters = this.#parts.deadLetters;
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
    this.#parts.routes.setHandler(route, {
      kind: "single",
      run: handler,
      options: this.#handlerOptions(options, this.#parts.limits.concurrency),
    });
  }

  /** Registers a handler that takes up to `size` changes at once, each of another object. @throws as {@link handle} */
  handleBatch<RouteName extends RouteOf<Providers[number]>>(
    route: RouteName,
    handler: BatchHandler<ObjectOf<ResourceOf<Providers[number], RouteName>>, Tx>,
    options: Given<BatchHandlerOptions> = {},
  ): void {
    requireFunction(handler, "a batch handler");
    this.#parts.routes.setHandler(route, {
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
    const { lifecycle, routes, schedules } = this.#parts;
    if (lifecycle.begun) throw invalidOption("schedules are set before `start`");
    const known = routes.get(route);
    requireMode(known, options?.mode);
    schedules.push({
      route: known,
      everyMs: durationMs(options.every, "every"),
      mode: options.mode,
    });
  }

  /**
   * The receiver of a provider's webhooks: mount `.node` or `.fetch`. Works before `start`, and without it.
   * @throws TrueupError `OPTION_INVALID`
   */
  webhook(provider: Providers[number]["name"], options: WebhookOptions = {}): Receiver {
    const { clock, connections, hooks, intake, lifecycle, routes } = this.#parts;
    const definition = routes.providers.get(provider);
    if (definition === undefined) throw invalidOption(`no provider is named ${JSON.stringify(provider)}`);
    return createReceiver({
      provider: definition,
      connection: options.connection,
      waitUntil: options.waitUntil,
      onAccepted: () => (lifecycle.started ? undefined : this.tick()),
      clock,
      hooks,
      sink: (delivery) => intake.accept(delivery),
      findConnection: (id) => connections.find(provider, id),
      learn: (id, secrets) => connections.learn(provider, id, "webhook.verify", secrets),
      accepting: () => lifecycle.accepting,
    });
  }

  /**
   * Starts working, the sources and the schedules; each can be left out, for processes that only receive.
   * Idempotent.
   * @throws TrueupError `HANDLER_MISSING`, `STORE_IN_USE`, `STORE_FAILED`, `STOPPED`
   */
  async start(options: StartOptions = {}): Promise<void> {
    refuseInsideCommit("start");
    const passes = options.schedules !== false && this.#parts.schedules.length > 0;
    if (options.work !== false || passes) this.#requireHandlers();
    this.#warnOfVolatileStore();
    await this.#parts.lifecycle.start(options);
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
    const { passes, routes } = this.#parts;
    return passes.reconcile(routes.get(route), options);
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
    const { passes, routes } = this.#parts;
    return passes.verify(routes.get(route), options);
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
    const { lifecycle, passes, routes, store } = this.#parts;
    const known = routes.get(route);
    await lifecycle.ready();
    return adoptRows(store, known, await passes.scopeOf(known, options.connection), rows);
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
    const { intake, passes, routes } = this.#parts;
    const known = routes.get(route);
    if (!Array.isArray(ids)) throw invalidOption("`trigger` takes a list of ids");
    const { connection } = await passes.scopeOf(known, options.connection);
    await intake.trigger(known, connection, ids.map(objectIdText));
  }

  /**
   * Waits until nothing is dirty or leased, in any process, nor due before the deadline.
   * @param options `timeoutMs` defaults to 30_000
   */
  async drain(options: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainResult> {
    refuseInsideCommit("drain");
    const { clock, lifecycle, store } = this.#parts;
    await lifecycle.ready();
    const timeoutMs = positive(options.timeoutMs, DRAIN_TIMEOUT_MS, "timeoutMs");
    const signal = lifecycle.stopSignal;
    const worker = () => lifecycle.worker;
    return drained({ store, clock, worker, signal }, timeoutMs);
  }

  /**
   * One bounded slice of work, due schedules and due polls, after which no timer, lease or heartbeat is left: for cron jobs and
   * serverless functions.
   * @param options `timeoutMs` defaults to 10_000
   */
  async tick(options: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainResult> {
    refuseInsideCommit("tick");
    const { clock, lifecycle, store, watch } = this.#parts;
    this.#requireHandlers();
    const timeoutMs = positive(options.timeoutMs, TICK_TIMEOUT_MS, "timeoutMs");
    if (lifecycle.started) return this.drain({ timeoutMs });
    await lifecycle.tick(timeoutMs, async () => {
      const { due, leased } = await store.pending(clock.now());
      return due === 0 && leased === 0;
    });
    await watch.flush();
    return drainResult(await store.pending(clock.now()));
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
    const { lifecycle, pauses } = this.#parts;
    await lifecycle.ready();
    await pauses.pause(provider, connection, null, "paused by hand");
  }

  async resume({
    provider,
    connection = DEFAULT_CONNECTION,
  }: {
    readonly provider: Providers[number]["name"];
    readonly connection?: string | undefined;
  }): Promise<void> {
    refuseInsideCommit("resume");
    const { lifecycle, pauses } = this.#parts;
    await lifecycle.ready();
    await pauses.resume(provider, connection);
    lifecycle.worker?.wake();
  }

  /** Deletes all that is known of a connection: its work, events, index and checkpoints. The user's copy is the user's. */
  async forget(provider: Providers[number]["name"], connection: string): Promise<void> {
    refuseInsideCommit("forget");
    const { apis, connections, lifecycle, pollers, store, watch } = this.#parts;
    await lifecycle.ready();
    const polling = pollers.filter((poller) => poller.provider === provider);
    await Promise.all(polling.map((poller) => poller.forget(connection)));
    await watch.forget({ provider, connection });
    await store.forget(provider, connection);
    connections.forget(provider, connection);
    apis.forget(provider, connection);
  }

  /** How things stand, per route and connection. */
  async status(): Promise<EngineStatus> {
    refuseInsideCommit("status");
    const { clock, lifecycle, store, watch } = this.#parts;
    await lifecycle.ready();
    return readStatus(store, clock, lifecycle.started, watch);
  }

  /** Listens to an event of {@link EventMap}. @returns what takes it back */
  on<Name extends keyof EventMap>(name: Name, listener: Listener<Name>): () => void {
    requireFunction(listener, "a listener");
    return this.#parts.hooks.on(name, listener);
  }

  /**
   * Refuses new deliveries, claims no more, waits for work in flight, aborts it at the deadline, gives back its leases,
   * and closes what the engine opened. The backlog waits in the store. Idempotent, also before `start`.
   * @param options `timeoutMs` defaults to 10_000
   */
  async stop(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    refuseInsideCommit("stop");
    await this.#parts.lifecycle.stop(options.timeoutMs);
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
    for (const route of this.#parts.routes.all()) requireHandler(route);
  }

  #warnOfVolatileStore(): void {
    const { hasSources, hooks, routes, store } = this.#parts;
    if (store.guarantees.durability !== "none") return;
    const fed =
      hasSources || [...routes.providers.values()].some((provider) => provider.webhook !== undefined);
    if (!fed) return;
    hooks.emit("warning", {
      code: "STORE_VOLATILE",
      message:
        "the store survives nothing, so webhooks are answered only once they are handled; use sqliteStore, or a shared store, in production",
    });
  }
}

function requireFunction(value: unknown, what: string): void {
  if (typeof value !== "function") throw invalidOption(`${what} must be a function`);
}
