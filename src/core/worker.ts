/**
 * The worker: claims what is due, as much as there is room for, and sends it on its way. Claims of all routes and the
 * settling of what came before share a turn of the event loop, and so a commit of the store.
 *
 * @module
 */

import type { ApiClients } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Endings } from "./ending.ts";
import { TrueupError } from "./errors.ts";
import { WHOLE_RESOURCE } from "./event.ts";
import type { ConnectionRef, Hooks } from "./hooks.ts";
import { Lane, type Unit } from "./lane.ts";
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
  readonly endings: Endings;
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

export class Worker {
  readonly #options: WorkerOptions;
  readonly #lanes: Lane[];
  #running: Promise<void> | undefined;
  #stopping = false;
  #signalled = false;
  #wakeUp: (() => void) | undefined;
  #turn = 0;
  /** Of which route a unit was fetched last. */
  #nextLane = 0;
  #failures = 0;
  /** How much is under way: only counted, since a set that ever changes leaves much to the garbage collector. */
  #inFlight = 0;
  #whenQuiet: PromiseWithResolvers<void> | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    const now = options.clock.monotonic();
    this.#lanes = options.routes.map((route) => new Lane(route, now, options.store.guarantees.shared));
  }

  start(): void {
    // Passes fetch under the same slots: what waits for one here is not told of their end otherwise, nor has its turn.
    this.#options.fetchSlots.onFree = () => {
      this.#launch();
      this.#wakeUp?.();
    };
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

  /** A connection is about to be paused: what was claimed ahead of it goes back. */
  holdBack({ connection, provider }: ConnectionRef): void {
    const now = this.#options.clock.monotonic();
    for (const lane of this.#lanes) {
      if (lane.route.provider.name !== provider) continue;
      lane.slowDown(now);
      this.#giveBack(lane.withdraw(connection));
    }
  }

  /** Whether nothing is in flight, nor waits to be. */
  get quiet(): boolean {
    return this.#inFlight === 0 && !this.#lanes.some((lane) => lane.waiting > 0);
  }

  /** Stops claiming. Resolves when nothing is in flight any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#signal();
    await this.#running;
    this.#giveBack(this.#lanes.flatMap((lane) => lane.withdraw()));
    await this.whenQuiet();
  }

  /** Resolves when nothing is in flight, nor waits to be. */
  async whenQuiet(): Promise<void> {
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
    const open = this.#open();
    const slots = this.#slots;
    if (open.length === 0 || slots === 0) return;
    // Who comes first rotates, so that with few slots every route gets its turn.
    this.#turn += 1;
    const first = this.#turn % open.length;
    const share = Math.max(1, Math.floor(slots / open.length));
    const lanes = [...open.slice(first), ...open.slice(0, first)].slice(0, slots);
    await Promise.all(lanes.map((lane) => this.#claim(lane, share)));
  }

  /** Lanes that a claim is worth for. */
  #open(): Lane[] {
    const now = this.#options.clock.monotonic();
    return this.#lanes.filter((lane) => lane.ready && lane.wanted(1, now) > 0);
  }

  /** Fetch slots to share out: those that are free, or will be. */
  get #slots(): number {
    const { clock, fetchSlots } = this.#options;
    const now = clock.monotonic();
    const spare = this.#lanes.reduce((sum, lane) => sum + lane.spare(now), 0);
    const taken = this.#lanes.reduce((sum, lane) => sum + lane.waiting, 0);
    return Math.max(fetchSlots.expected - taken, spare);
  }

  async #claim(lane: Lane, slots: number): Promise<void> {
    const { apis, clock, session } = this.#options;
    const { provider, resourceName } = lane.route;
    const limit = lane.wanted(slots, clock.monotonic());
    const exceptConnections = lane.busyConnections((connection) =>
      apis.of(provider.name, connection).saturated(),
    );
    lane.ready = false; // a wake during the claim sets it again
    lane.passedOver = exceptConnections.length > 0;
    let claims: Claim[];
    try {
      claims = await session.claim({
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
    if (claims.length > 0) this.#take(lane, claims);
  }

  #take(lane: Lane, claims: readonly Claim[]): void {
    const byConnection = Map.groupBy(claims, (claim) => claim.ref.connection);
    for (const [connection, own] of byConnection) {
      for (const claim of own) {
        if (claim.ref.id === WHOLE_RESOURCE) this.#track(this.#options.runPass(lane.route, claim));
      }
      lane.add(
        connection,
        own.filter((claim) => claim.ref.id !== WHOLE_RESOURCE),
      );
    }
    this.#launchSoon();
  }

  /**
   * Where the store works elsewhere, not before the next claim is on its way to it: then it is back when this batch is
   * done. One that works here should write that claim down together with how this batch ends.
   */
  #launchSoon(): void {
    if (this.#options.store.guarantees.shared)
      void turnEnd()
        .then(turnEnd)
        .then(() => this.#launch());
    else this.#launch();
  }

  /** Fetches what waits, as far as there are slots. */
  #launch(): void {
    const { fetchSlots } = this.#options;
    while (fetchSlots.free > 0) {
      const unit = this.#next();
      if (unit === undefined) return;
      this.#track(this.#options.runner.fetch(unit.lane.route, unit.claims), () => {
        unit.lane.done(unit);
        this.#ended(unit);
      });
    }
  }

  /** The oldest of what waits, of one route after the other. */
  #next(): Unit | undefined {
    for (const _ of this.#lanes) {
      this.#nextLane = (this.#nextLane + 1) % this.#lanes.length;
      const unit = this.#lanes[this.#nextLane]?.next();
      if (unit !== undefined) return unit;
    }
    return undefined;
  }

  #giveBack(units: readonly Unit[]): void {
    const { endings } = this.#options;
    for (const unit of units) {
      const { claims, lane } = unit;
      const released = Promise.all(claims.map((claim) => endings.release(lane.route, claim)));
      this.#track(released, () => this.#ended(unit));
    }
  }

  #ended(unit: Unit): void {
    unit.lane.end(unit);
    this.#signal();
  }

  /** @param over hears of the end of the work */
  #track(work: Promise<unknown>, over: () => void = () => {}): void {
    this.#inFlight += 1;
    const ended = () => {
      this.#inFlight -= 1;
      over();
      if (this.#whenQuiet === undefined || !this.quiet) return;
      this.#whenQuiet.resolve();
      this.#whenQuiet = undefined;
    };
    work.then(ended, (thrown: unknown) => {
      this.#options.hooks.emit("error", { error: asError(thrown), during: "working" });
      ended();
    });
  }

  #signal(): void {
    this.#signalled = true;
    this.#wakeUp?.();
  }

  /** Waits for something to do: a signal (then for the rest of the turn, which may bring more), or a due date. */
  async #pause(): Promise<void> {
    const { clock, limits } = this.#options;
    const hasMore = this.#slots > 0 && this.#open().length > 0;
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
        this.#wakeUp = undefined;
        cancel();
        resolve();
      };
    });
    this.#wakeUp = undefined;
    if (due) for (const lane of this.#lanes) lane.ready = true;
    else await turnEnd();
  }

  async #untilDue(): Promise<number> {
    const { clock, limits, store } = this.#options;
    // While no slot is free, nothing that is due can be claimed; the end of a fetch wakes.
    if (this.#slots === 0) return limits.pollMs;
    const now = clock.monotonic();
    const routes = this.#lanes
      // Work of a connection that was passed over is due all the time; the end of what keeps it busy wakes its lane.
      .filter((lane) => lane.wanted(1, now) > 0 && !lane.passedOver)
      .map(({ route }) => ({ provider: route.provider.name, resource: route.resourceName }));
    try {
      const due = await store.nextDue(routes);
      return Math.min(limits.pollMs, Math.max(1, (due ?? Infinity) - clock.now()));
    } catch {
      return limits.pollMs; // the next claim will tell what is wrong
    }
  }
}

function turnEnd(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
