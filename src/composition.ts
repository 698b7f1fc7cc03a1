/**
 * The composition root: makes the parts of an engine and wires sources, store, API clients and handlers into the one
 * path. It is alone in picking defaults. Nothing that it makes does anything yet.
 *
 * @module
 */

import type { ApiClients } from "./core/api.ts";
import { systemClock, systemRandom, type Clock } from "./core/clock.ts";
import { ConnectionRegistry, singleConnection } from "./core/connections.ts";
import { DeadLetters } from "./core/dead-letters.ts";
import { DeliveryWatch } from "./core/delivery-watch.ts";
import { invalidOption } from "./core/errors.ts";
import { logEvents } from "./core/event-log.ts";
import { Hooks, stderrLogger } from "./core/hooks.ts";
import { Intake } from "./core/intake.ts";
import { Lifecycle } from "./core/lifecycle.ts";
import { resolveLimits, type EngineOptions, type Limits } from "./core/options.ts";
import { Passes } from "./core/passes.ts";
import { Pauses } from "./core/pauses.ts";
import { withPollers, type Poller } from "./core/poller.ts";
import type { AnyProvider } from "./core/provider.ts";
import { Redactor } from "./core/redactor.ts";
import { RouteRegistry } from "./core/registry.ts";
import type { Schedule } from "./core/scheduler.ts";
import { SourceRunner } from "./core/source-runner.ts";
import type { Store } from "./core/store.ts";
import { type ApiClientOptions, createApiClients } from "./http/index.ts";
import { type Transport, transportDispatcher } from "./http/transport.ts";
import { createSink } from "./sources/sink.ts";
import { keyvStore } from "./stores/keyv.ts";

export interface EngineParts {
  readonly store: Store<unknown>;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly hooks: Hooks;
  readonly routes: RouteRegistry;
  readonly connections: ConnectionRegistry;
  readonly apis: ApiClients;
  readonly pauses: Pauses;
  readonly intake: Intake;
  readonly lifecycle: Lifecycle;
  readonly passes: Passes;
  readonly deadLetters: DeadLetters;
  readonly watch: DeliveryWatch;
  readonly pollers: readonly Poller[];
  /** Whether any source was given, beside webhooks. */
  readonly hasSources: boolean;
  /** Those that were set so far. */
  readonly schedules: Schedule[];
}

/**
 * @param transport stands in for the network
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function compose(
  options: EngineOptions<readonly AnyProvider[], unknown>,
  transport: Transport | undefined,
): EngineParts {
  const { sources = [] } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const limits = resolveLimits(options);
  const store: Store<unknown> = options.store ?? keyvStore();
  if (!Array.isArray(options.providers)) throw invalidOption("`providers` must be a list of providers");
  // A `Keyv`, or `sqliteStore` that nobody called.
  if (typeof store.guarantees?.durability !== "string")
    throw invalidOption("`store` must be a store: sqliteStore({ path }), keyvStore(keyv), …");
  const ready = () => lifecycle.ready();
  const schedules: Schedule[] = [];
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
    takePermits: sharedPermits(store, ready),
  });
  const intake = new Intake({
    store,
    routes,
    clock,
    hooks,
    limits,
    ready,
    onAccepted: (route) => lifecycle.worker?.wake(route.name),
  });
  const sink = createSink((delivery) => intake.accept(delivery), {
    provider: (name) => routes.providers.get(name),
    findConnection: (provider, id) => connections.find(provider, id),
    learn: (provider, id, secrets) => connections.learn(provider, id, "webhook.verify", secrets),
    tell: (error, scope) => redactor.error(error, scope),
    hooks,
  });
  const { sources: runnable, pollers } = withPollers(sources, routes.providers, {
    store,
    apis,
    pauses,
    clock,
    random,
    hooks,
    limits,
    ready,
    connectionsOf: (provider) => lifecycle.connectionsOf(provider),
    accept: (delivery) => intake.accept(delivery),
    askForPasses: (provider, connection) => intake.askForPasses(provider, connection),
  });
  const lifecycle: Lifecycle = new Lifecycle({
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
    schedules: () => schedules,
    onDone: (claim) => intake.done(claim),
    onStopped: async () => {
      intake.close();
      await watch.flush();
    },
  });
  const passes = new Passes({ clock, connections, redactor, lifecycle });
  const deadLetters = new DeadLetters({
    store,
    routes,
    ready,
    onRevived: () => lifecycle.worker?.wake(),
  });
  logEvents(hooks, logger, clock);
  const watch = new DeliveryWatch({ store, clock, hooks, providers: routes.providers });
  return {
    store,
    clock,
    limits,
    hooks,
    routes,
    connections,
    apis,
    pauses,
    intake,
    lifecycle,
    passes,
    deadLetters,
    watch,
    pollers,
    hasSources: sources.length > 0,
    schedules,
  };
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
