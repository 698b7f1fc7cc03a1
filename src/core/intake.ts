/**
 * Where all sources meet: events are checked, recorded durably, and only then answered for (I1).
 *
 * @module
 */

import { batcher } from "./batcher.ts";
import { sleep, type Clock } from "./clock.ts";
import { refuseInsideCommit } from "./commit-scope.ts";
import { TrueupError } from "./errors.ts";
import {
  dedupeKey,
  validateEvent,
  WHOLE_RESOURCE,
  type ObjectRef,
  type Origin,
  type ValidEvent,
} from "./event.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./options.ts";
import type { AnyProvider } from "./provider.ts";
import type { Route, RouteRegistry } from "./registry.ts";
import { asError } from "./retry.ts";
import type { EventDelivery, Outcome } from "./source.ts";
import type { AppendEntry, AppendResult, Claim, Store } from "./store.ts";
import { versionOrder } from "./version.ts";

export interface IntakeOptions {
  readonly store: Store<unknown>;
  readonly routes: RouteRegistry;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly limits: Limits;
  /** Opens the store if it is not open yet. */
  readonly ready: () => Promise<void> | undefined;
  /** Something of this route became dirty. */
  readonly onAccepted: (route: Route) => void;
}

/** After this the sender may try again, in milliseconds. */
const RETRY_AFTER_MS = 5_000;

const NOTHING = { accepted: 0, duplicates: 0, ignored: 0 } as const;

interface Reading {
  readonly provider: AnyProvider;
  readonly entries: AppendEntry[];
  /** Each once. A list, because nearly all deliveries touch one. */
  readonly touched: readonly Route[];
  readonly ignored: number;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #append: (entries: AppendEntry[]) => Promise<AppendResult[]>;
  /** For stores without durability: who waits for which object to be handled. */
  readonly #waiting = new Map<string, Set<{ readonly generation: number; readonly resolve: () => void }>>();
  /** Ends of their patience. */
  readonly #timers = new Set<AbortController>();
  #closed = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#append = batcher(async (deliveries: AppendEntry[][]) => {
      const results = await options.store.append(deliveries.flat());
      let start = 0;
      return deliveries.map((entries) => results.slice(start, (start += entries.length)));
    });
  }

  /**
   * Records a delivery's events. Resolves when they are as safe as the store can make them.
   * @throws TrueupError `EVENT_INVALID`, `STORE_FULL`, `STORE_FAILED`; then nothing was recorded
   */
  async accept(delivery: EventDelivery): Promise<Outcome> {
    const { onAccepted, ready, store } = this.#options;
    try {
      const { provider, entries, touched, ignored } = this.#read(delivery);
      if (entries.length === 0) return this.#tell(delivery, { ...NOTHING, status: "ignored", ignored });
      const opening = ready();
      if (opening !== undefined) await opening;
      const results = await this.#append(entries);
      for (const route of touched) onAccepted(route);
      const outcome = outcomeOf(results, ignored);
      const safe =
        store.guarantees.durability !== "none" ||
        (await this.#handled(entries, results, provider.ackTimeoutMs));
      return this.#tell(delivery, safe ? outcome : tooLate(outcome));
    } catch (thrown) {
      const error = asError(thrown);
      // What is no event never will be; what the store could not take now, it may take later.
      const status = error instanceof TrueupError && error.code === "EVENT_INVALID" ? "rejected" : "retry";
      this.#tell(delivery, { ...NOTHING, status, error });
      throw error;
    }
  }

  #tell({ provider, connection, origin }: EventDelivery, outcome: Outcome): Outcome {
    const { hooks } = this.#options;
    if (hooks.has("delivery"))
      hooks.emit("delivery", { provider, connection, origin, ...outcome, error: outcome.error });
    return outcome;
  }

  /** What a delivery asks the store to record. */
  #read(delivery: EventDelivery): Reading {
    const { limits, routes } = this.#options;
    const provider = routes.providers.get(delivery.provider);
    if (provider === undefined)
      throw new TrueupError("OPTION_INVALID", `no provider is named "${delivery.provider}"`);
    const entries: AppendEntry[] = [];
    const touched: Route[] = [];
    let ignored = 0;
    const { connection, events, origin, receivedAt } = delivery;
    for (const [i, event] of events.entries()) {
      // Several events of one delivery without ids of their own must not be each other's duplicates.
      const deliveryId =
        delivery.deliveryId === undefined || events.length === 1
          ? delivery.deliveryId
          : `${delivery.deliveryId}#${i}`;
      const valid = validateEvent(event, { origin, receivedAt, deliveryId }, limits);
      const targets = this.#targets(provider, valid);
      if (targets.length === 0) ignored += 1;
      for (const route of targets) {
        if (!touched.includes(route)) touched.push(route);
        const { resourceName: resource } = route;
        entries.push(
          this.#entry({ provider: provider.name, connection, resource, id: valid.objectId }, valid, origin),
        );
      }
    }
    return { provider, entries, touched, ignored };
  }

  /** Marks objects dirty that must be fetched and handled whatever happens (`engine.trigger`). */
  async trigger(route: Route, connection: string, ids: readonly string[]): Promise<void> {
    refuseInsideCommit("trigger");
    await this.#options.ready();
    const entries = ids.map((id): AppendEntry => ({
      ref: { provider: route.provider.name, connection, resource: route.resourceName, id },
      origin: "trigger",
      lane: "live",
      force: true,
    }));
    if (entries.length === 0) return;
    await this.#append(entries);
    this.#options.onAccepted(route);
  }

  /** Asks for full passes, whatever `onHint` says, over all that a provider lists (a feed has lost its place). */
  async askForPasses(provider: string, connection: string): Promise<void> {
    const { onAccepted, ready, routes } = this.#options;
    const listed = routes
      .all()
      .filter((route) => route.provider.name === provider && route.resource.list !== undefined);
    if (listed.length === 0) return;
    await ready();
    await this.#append(
      listed.map((route): AppendEntry => ({
        ref: { provider, connection, resource: route.resourceName, id: WHOLE_RESOURCE },
        origin: "poll",
        lane: "live",
        force: true,
      })),
    );
    for (const route of listed) onAccepted(route);
  }

  /** Work on this claim is over: whoever waited for it may answer. */
  done(claim: Claim): void {
    if (this.#waiting.size === 0) return;
    const key = refKey(claim.ref);
    const waiters = this.#waiting.get(key);
    if (waiters === undefined) return;
    for (const waiter of waiters) {
      if (waiter.generation > claim.generation) continue;
      waiters.delete(waiter);
      waiter.resolve();
    }
    if (waiters.size === 0) this.#waiting.delete(key);
  }

  /** No work will be done any more: whoever still waits for it waits in vain. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) timer.abort();
  }

  #targets(provider: AnyProvider, event: ValidEvent): Route[] {
    const { hooks } = this.#options;
    const { resource, objectId } = event;
    const known = this.#routesOf(provider, resource);
    if (objectId !== "") {
      if (resource === "*")
        throw new TrueupError("EVENT_INVALID", 'an event about `resource: "*"` cannot name an object');
      return known;
    }
    const listed = known.filter((route) => route.resource.list !== undefined);
    if (listed.length < known.length && resource !== "*") {
      hooks.emit("warning", {
        code: "NOT_SUPPORTED",
        message: `an event about all of ${provider.name}.${resource} was ignored: the resource has no \`list\``,
        scope: { provider: provider.name, resource },
      });
    }
    return listed;
  }

  #routesOf(provider: AnyProvider, resource: string): Route[] {
    const { routes } = this.#options;
    if (resource === "*") return routes.all().filter((route) => route.provider === provider);
    const route = routes.find(provider.name, resource);
    return route === undefined ? [] : [route];
  }

  #entry(ref: ObjectRef, event: ValidEvent, origin: Origin): AppendEntry {
    const { stored } = event;
    const order = versionOrder(stored.version ?? null);
    return {
      ref,
      dedupeKey: event.id === undefined ? undefined : dedupeKey(ref, event.id),
      event: stored,
      origin,
      lane: "live",
      hint: stored.hint,
      version: stored.version,
      versionOrder: order ?? undefined,
    };
  }

  /** Waits until what was appended is handled. @returns false when that takes too long */
  async #handled(
    entries: readonly AppendEntry[],
    results: readonly AppendResult[],
    timeoutMs: number,
  ): Promise<boolean> {
    const registered: (() => void)[] = [];
    const all = entries.map(async (entry, i) => {
      const { generation } = results[i] as AppendResult;
      if (generation === 0) return; // a duplicate of something that was handled
      const key = refKey(entry.ref);
      await new Promise<void>((resolve) => {
        const waiters = this.#waiting.get(key) ?? new Set();
        this.#waiting.set(key, waiters);
        const waiter = { generation, resolve };
        waiters.add(waiter);
        registered.push(() => {
          waiters.delete(waiter);
          if (waiters.size === 0 && this.#waiting.get(key) === waiters) this.#waiting.delete(key);
        });
      });
    });
    const timer = new AbortController();
    this.#timers.add(timer);
    if (this.#closed) timer.abort();
    const late = sleep(this.#options.clock, timeoutMs, timer.signal).then(
      () => false,
      () => false,
    );
    const inTime = await Promise.race([Promise.all(all).then(() => true), late]);
    timer.abort();
    this.#timers.delete(timer);
    for (const unregister of registered) unregister();
    return inTime;
  }
}

function outcomeOf(results: readonly AppendResult[], ignored: number): Outcome {
  let accepted = 0;
  for (const { status } of results) if (status === "accepted") accepted += 1;
  const duplicates = results.length - accepted;
  return { status: accepted > 0 ? "accepted" : "duplicate", accepted, duplicates, ignored };
}

function tooLate(outcome: Outcome): Outcome {
  const error = new TrueupError(
    "ACK_TIMEOUT",
    "the store survives nothing, and the event was not handled in time",
  );
  return { ...outcome, status: "retry", error, retryAfterMs: RETRY_AFTER_MS };
}

function refKey(ref: ObjectRef): string {
  return JSON.stringify([ref.provider, ref.connection, ref.resource, ref.id]);
}
