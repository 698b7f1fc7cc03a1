/**
 * An engine on virtual time, to test adapters and handlers together: no sleeping, no network of its own.
 *
 * @module
 */

import type { SyncEvent } from "../core/event.ts";
import type { EventMap } from "../core/hooks.ts";
import type { EngineOptions } from "../core/options.ts";
import type { AnyProvider } from "../core/provider.ts";
import type { Outcome, Sink, Source } from "../core/source.ts";
import { TrueupError } from "../core/errors.ts";
import { SyncEngine } from "../engine.ts";
import type { Transport } from "../http/transport.ts";
import { TestClock } from "./test-clock.ts";

export interface TestEngineOptions<Providers extends readonly AnyProvider[], Tx> extends Omit<
  EngineOptions<Providers, Tx>,
  "clock"
> {
  /** A clock that others share, a `FakeProvider` say. @default one of its own */
  readonly clock?: TestClock | undefined;
  /** Answers requests of `context.api` instead of the network: a `FakeProvider`'s `transport`. */
  readonly transport?: Transport | undefined;
}

/** One event of `engine.on`, as it was told. */
export type RecordedEvent = {
  readonly [Name in keyof EventMap]: { readonly name: Name; readonly event: EventMap[Name] };
}[keyof EventMap];

export interface TestEngine<Providers extends readonly AnyProvider[], Tx> {
  readonly engine: SyncEngine<Providers, Tx>;
  readonly clock: TestClock;
  /** What the engine told, in order. */
  readonly told: readonly RecordedEvent[];
  /** Delivers events as a verified webhook of the provider would. After `engine.start()`. */
  readonly deliver: (
    provider: Providers[number]["name"],
    events: readonly SyncEvent[],
    options?: { readonly connection?: string | undefined; readonly deliveryId?: string | undefined },
  ) => Promise<Outcome>;
  /**
   * Lets virtual time pass until no work waits. What the handlers and the adapter wait for must come by itself.
   * @param limitMs most virtual time to pass, in milliseconds; 1 hour by default
   * @throws TrueupError `API_TIMEOUT` when work is left after that
   */
  readonly settled: (limitMs?: number) => Promise<void>;
}

const NAMES: readonly (keyof EventMap)[] = [
  "delivery",
  "delivery.refused",
  "poll",
  "poll.failed",
  "delivery.unsettled",
  "fetch",
  "api.response",
  "change.handled",
  "change.unchanged",
  "change.lagging",
  "change.failed",
  "change.dead",
  "change.lost",
  "pass.started",
  "pass.page",
  "pass.finished",
  "pass.failed",
  "deletes.suppressed",
  "webhooks.quiet",
  "connection.paused",
  "connection.resumed",
  "source.failed",
  "warning",
  "error",
];
const HOUR_MS = 3_600_000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Makes an engine over an in-memory store, a {@link TestClock}, a fixed `random` and a silent logger; each can be
 * replaced. Register handlers and start it as any other, and stop it at the end.
 *
 * @example
 * const { engine, deliver, settled } = testEngine({ providers: [crm] });
 * engine.handle("crm.contact", onContact);
 * await engine.start();
 * void deliver("crm", [{ resource: "contact", objectId: "c_1" }]); // answers once it is handled
 * await settled();
 */
export function testEngine<const Providers extends readonly AnyProvider[], Tx = never>(
  given: TestEngineOptions<Providers, Tx>,
): TestEngine<Providers, Tx> {
  const { clock = new TestClock(), sources = [], transport, ...options } = given;
  const told: RecordedEvent[] = [];
  let sink: Sink | undefined;
  const source: Source = {
    name: "test",
    run: (own, signal) => {
      sink = own;
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    },
  };
  const all = { random: () => 0.5, logger: quiet, ...options, clock, sources: [source, ...sources] };
  const engine = new SyncEngine<Providers, Tx>(all, transport);
  for (const name of NAMES) engine.on(name, (event) => told.push({ name, event } as RecordedEvent));
  return {
    engine,
    clock,
    told,
    async deliver(provider, events, { connection = "default", deliveryId } = {}) {
      if (sink === undefined) throw new TrueupError("STOPPED", "start the engine before delivering to it");
      const delivery = {
        provider,
        connection,
        origin: "webhook",
        deliveryId,
        receivedAt: clock.now(),
        events,
      } as const;
      const [outcome] = await sink([delivery]);
      return outcome as Outcome;
    },
    async settled(limitMs = HOUR_MS) {
      const deadline = clock.monotonic() + limitMs;
      for (;;) {
        await clock.settle();
        const { backlog } = await engine.status();
        if (backlog === 0) return;
        const step = clock.nextTimerInMs ?? 0;
        if (clock.monotonic() + step > deadline)
          throw new TrueupError("API_TIMEOUT", `${backlog} objects are left after ${limitMs} ms`);
        await clock.advance(step);
      }
    },
  };
}
