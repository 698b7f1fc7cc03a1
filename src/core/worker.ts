/**
 * The worker: claims what is due, as much as there is room for, and sends it on its way. Claims of all routes and the
 * settling of what came before share a turn of the event loop, and so a commit of the store.
 *
 * @module
 */

import type { ApiClients } from "./api.ts";
import type { Clock } from "./clock.ts";
import { TrueupError } from "./errors.ts";
import { WHOLE_RESOURCE } from "./event.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./options.ts";
import type { Route } from "./registry.ts";
import { asError } from "./retry.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Claim, Store, WorkSession } from "./store.ts";
import type { TaskRunner } from "./task.ts";

export interface WorkerOptions {
  readonly routes: readonly Route[];
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly runner: TaskRunner;
  readonly fetchSlots: Semaphore;
  readonly apis: ApiClients;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly limits: Limits;
  /** Runs the pass that a dirty resource asks for, and settles its claim. */
  readonly runPass: (route: Route, claim: Claim) => Promise<void>;
  /** The session was taken over by another process. */
  readonly onLost: (error: Error) => void;
}

/** Batches of a route that may be in work at once, however few of their objects its handler takes. */
const BATCHES_IN_WORK = 4;

/** What the worker remembers of a route. */
interface Lane {
  readonly route: Route;
  /** Objects that one fetch slot can serve. */
  readonly perSlot: number;
  /** Objects that may be in work at once: those being handled, and as many again being fetched. */
  readonly room: number;
  /** False once a claim found less than it asked for, until something happens. */
  ready: boolean;
  inWork: number;
  /** Connections with a fetch that was not full: more of theirs waits and gathers until it is back (as Nagle's algorithm). */
  readonly partial: Set<string>;
  readonly perConnection: Map<string, number>;
  /** Whether the last claim passed a connection over. */
  passedOver: boolean;
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #lanes: Lane[];
  #running: Promise<void> | undefined;
  #stopping = false;
  #signalled = false;
  #wakeUp: (() => void) | undefined;
  #turn = 0;
  #failures = 0;
  /** How much is under way: only counted, since a set that ever changes leaves much to the garbage collector. */
  #inFlight = 0;
  #whenQuiet: PromiseWithResolvers<void> | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#lanes = options.routes.map(makeLane);
  }

  start(): void {
    // Passes fetch under the same slots: what waits for one here is not told of their end otherwise.
    this.#options.fetchSlots.onFree = () => this.#wakeUp?.();
    this.#running ??= this.#run();
  }

  /** Something of this route (or of any) may have become claimable. */
  wake(routeName?: string): void {
    for (const lane of this.#lanes) {
      if (routeName === undefined || lane.route.name === routeName) lane.ready = true;
    }
    this.#signal();
  }

  /** An object of this route is due at a moment: now, or when the present pause might already be too long. */
  redue(routeName: string, due: number): void {
    if (due <= this.#options.clock.now()) this.wake(routeName);
    else this.#signal();
  }

  /** Whether nothing is in flight. */
  get quiet(): boolean {
    return this.#inFlight === 0;
  }

  /** Stops claiming. Resolves when nothing is in flight any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#signal();
    await this.#running;
    if (this.quiet) return;
    this.#whenQuiet ??= Promise.withResolvers();
    await this.#whenQuiet.promise;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      this.#signalled = false;
      try {
        await this.#round();
        this.#failures = 0;
      } catch (thrown) {
        const error = asError(thrown);
        if (error instanceof TrueupError && error.code === "STORE_LOST") {
          this.#options.onLost(error);
          return;
        }
        this.#failures += 1;
        this.#options.hooks.emit("error", { error, during: "claiming work" });
      }
      await this.#pause();
    }
  }

  /** One claim for each route that is ready and has room, all in one turn. */
  async #round(): Promise<void> {
    const open = this.#lanes.filter((lane) => lane.ready && unitsFree(lane) > 0);
    const free = this.#options.fetchSlots.free;
    if (open.length === 0 || free === 0) return;
    // Who comes first rotates, so that with few slots every route gets its turn.
    this.#turn += 1;
    const first = this.#turn % open.length;
    const share = Math.max(1, Math.floor(free / open.length));
    const lanes = [...open.slice(first), ...open.slice(0, first)].slice(0, free);
    await Promise.all(lanes.map((lane) => this.#claim(lane, share)));
  }

  async #claim(lane: Lane, slots: number): Promise<void> {
    const { provider, resourceName } = lane.route;
    const limit = Math.min(slots, unitsFree(lane)) * lane.perSlot;
    const exceptConnections = this.#busyConnections(lane);
    lane.ready = false; // a wake during the claim sets it again
    lane.passedOver = exceptConnections.length > 0;
    let claims: Claim[];
    try {
      claims = await this.#options.session.claim({
        provider: provider.name,
        resource: resourceName,
        limit,
        exceptConnections,
      });
    } catch (error) {
      lane.ready = true;
      throw error;
    }
    if (claims.length >= limit) lane.ready = true;
    if (claims.length > 0) this.#launch(lane, claims);
  }

  /** Connections that have no room for more: their rate budget is used up, or a fetch of theirs was not full. */
  #busyConnections(lane: Lane): string[] {
    const { apis } = this.#options;
    const provider = lane.route.provider.name;
    const saturated = [...lane.perConnection.keys()].filter((connection) =>
      apis.of(provider, connection).saturated(),
    );
    return [...new Set([...saturated, ...lane.partial])];
  }

  #launch(lane: Lane, claims: readonly Claim[]): void {
    const byConnection = Map.groupBy(claims, (claim) => claim.ref.connection);
    for (const [connection, own] of byConnection) {
      for (const claim of own) {
        if (claim.ref.id === WHOLE_RESOURCE) this.#track(this.#options.runPass(lane.route, claim));
      }
      const objects = own.filter((claim) => claim.ref.id !== WHOLE_RESOURCE);
      for (let start = 0; start < objects.length; start += lane.perSlot) {
        this.#launchUnit(lane, connection, objects.slice(start, start + lane.perSlot));
      }
    }
  }

  #launchUnit(lane: Lane, connection: string, unit: readonly Claim[]): void {
    const gathers = lane.perSlot > 1 && unit.length < lane.perSlot;
    if (gathers) lane.partial.add(connection);
    lane.inWork += unit.length;
    lane.perConnection.set(connection, (lane.perConnection.get(connection) ?? 0) + unit.length);
    const ended = this.#options.runner.fetch(lane.route, unit).finally(() => {
      if (gathers) lane.partial.delete(connection);
      lane.inWork -= unit.length;
      const left = (lane.perConnection.get(connection) ?? 0) - unit.length;
      if (left > 0) lane.perConnection.set(connection, left);
      else lane.perConnection.delete(connection);
      if (lane.passedOver) lane.ready = true;
      this.#signal();
    });
    this.#track(ended);
  }

  #track(work: Promise<unknown>): void {
    this.#inFlight += 1;
    void work
      .catch((thrown: unknown) =>
        this.#options.hooks.emit("error", { error: asError(thrown), during: "working" }),
      )
      .finally(() => {
        this.#inFlight -= 1;
        if (this.quiet) this.#whenQuiet?.resolve();
      });
  }

  #signal(): void {
    this.#signalled = true;
    this.#wakeUp?.();
  }

  /** Waits for something to do: a signal (then for the rest of the turn, which may bring more), or a due date. */
  async #pause(): Promise<void> {
    const { clock, limits } = this.#options;
    const hasMore =
      this.#lanes.some((lane) => lane.ready && unitsFree(lane) > 0) && this.#options.fetchSlots.free > 0;
    if (this.#failures === 0 && (hasMore || this.#signalled)) return turnEnd();
    const delayMs =
      this.#failures > 0
        ? Math.min(limits.pollMs, 50 * 2 ** Math.min(this.#failures, 10))
        : await this.#untilDue();
    if (this.#stopping || (this.#signalled && this.#failures === 0)) return turnEnd();
    let due = false;
    await new Promise<void>((resolve) => {
      const cancel = clock.setTimer(() => {
        due = true;
        resolve();
      }, delayMs);
      this.#wakeUp = () => {
        // While the store fails, only the end of the pause (or stopping) ends it.
        if (this.#failures > 0 && !this.#stopping) return;
        cancel();
        resolve();
      };
    });
    this.#wakeUp = undefined;
    if (due) for (const lane of this.#lanes) lane.ready = true;
    else await turnEnd();
  }

  async #untilDue(): Promise<number> {
    const { clock, fetchSlots, limits, store } = this.#options;
    // While no slot is free, nothing that is due can be claimed; the end of a fetch wakes.
    if (fetchSlots.free === 0) return limits.pollMs;
    const routes = this.#lanes
      // Work of a connection that was passed over is due all the time; the end of what keeps it busy wakes its lane.
      .filter((lane) => unitsFree(lane) > 0 && !lane.passedOver)
      .map(({ route }) => ({ provider: route.provider.name, resource: route.resourceName }));
    try {
      const due = await store.nextDue(routes);
      return Math.min(limits.pollMs, Math.max(1, (due ?? Infinity) - clock.now()));
    } catch {
      return limits.pollMs; // the next claim will tell what is wrong
    }
  }
}

function makeLane(route: Route): Lane {
  const perSlot = route.resource.fetchMany === undefined ? 1 : route.resource.batchSize;
  const { handler } = route;
  const handled =
    handler === undefined
      ? 1
      : handler.options.concurrency * (handler.kind === "batch" ? handler.options.size : 1);
  return {
    route,
    perSlot,
    room: Math.max(BATCHES_IN_WORK * perSlot, 2 * handled),
    ready: true,
    inWork: 0,
    partial: new Set(),
    perConnection: new Map(),
    passedOver: false,
  };
}

/** How many more fetches there is room for. */
function unitsFree(lane: Lane): number {
  return Math.floor((lane.room - lane.inWork) / lane.perSlot);
}

function turnEnd(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
