/**
 * How many calls of one connection run at once, how many start in a time, and who goes first.
 *
 * @module
 */

import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import type { Clock } from "../core/clock.ts";
import { TrueupError } from "../core/errors.ts";
import type { RateLimit } from "../core/provider.ts";
import { type Gate, type Permit, RateGate } from "./rate-gate.ts";
import { SharedGate, type TakePermits } from "./shared-gate.ts";

/** Whose work a call is: `live` for what an event asked for, `repair` for reconciliation. */
export type Lane = "live" | "repair";

export interface RunOptions {
  /** Ends the waiting. A call that runs has to hear it by itself. */
  readonly signal: AbortSignal;
  /** @default "live" */
  readonly lane?: Lane | undefined;
}

/** Thrown by a call whose request may not leave with the permit that it has. It gets its next turn before others. */
export class PermitSpent extends Error {}

/** A call, told of its permit where there is a configured rate. One that knows when its request leaves asks it then. */
export type Call<T> = (permit?: Permit) => Promise<T>;

/** Lets calls through as a connection's budget allows. */
export interface Limiter {
  /**
   * Runs a call in its turn, and again where it throws {@link PermitSpent}.
   * @throws what the call throws; the signal's reason; TrueupError `STOPPED` when the limiter closes first
   */
  run<T>(call: Call<T>, options: RunOptions): Promise<T>;
  /**
   * As {@link run}, for calls that may come back for more: what they run under the same limiter uses their place, since
   * they would otherwise wait for it for ever.
   */
  runNested<T>(call: () => Promise<T>, options: RunOptions): Promise<T>;
  /** Whether more calls wait than can start in about a second, or than may run at once. */
  saturated(): boolean;
  /** Whether nothing runs, waits or is remembered, so that a new limiter would be as good. */
  idle(): boolean;
  close(): void;
}

export interface LimiterOptions {
  readonly rateLimit: RateLimit | undefined;
  /** Where `rateLimit` has no `concurrent`. */
  readonly maxConcurrent: number;
  readonly clock: Clock;
  /** Where the rate is shared with other processes. */
  readonly takePermits?: TakePermits | undefined;
}

export function createLimiter(options: LimiterOptions): Limiter {
  return new CallLimiter(options);
}

interface Waiter {
  start(permit: Permit | undefined): Promise<void>;
  refuse(error: Error): void;
}

/** The place of a call that is allowed to nest. */
interface Place {
  readonly limiter: CallLimiter;
  nested: number;
}

const places = new AsyncLocalStorage<Place>();

class CallLimiter implements Limiter {
  readonly #concurrent: number;
  readonly #repairShare: number;
  readonly #saturation: number;
  readonly #gate: Gate | undefined;
  readonly #lanes: Readonly<Record<Lane, Set<Waiter>>> = { live: new Set(), repair: new Set() };
  /** Those that had their turn, and could not use it. */
  readonly #again = new Set<Waiter>();
  #running = 0;
  /** Permits that the gate was asked for. */
  #asked = 0;
  /** What repair is owed, in starts. */
  #repairCredit = 0;
  #closed = false;

  constructor({ rateLimit, maxConcurrent, clock, takePermits }: LimiterOptions) {
    this.#concurrent = rateLimit?.concurrent ?? maxConcurrent;
    this.#repairShare = rateLimit?.repairShare ?? 0.5;
    const perMs = rateLimit?.perMs ?? 1_000;
    if (rateLimit?.requests === undefined) {
      this.#saturation = this.#concurrent;
    } else {
      this.#gate =
        takePermits === undefined
          ? new RateGate(rateLimit.requests, perMs, clock)
          : new SharedGate(rateLimit.requests, perMs, takePermits, clock);
      this.#saturation = Math.min(this.#concurrent, (rateLimit.requests / perMs) * 1_000);
    }
  }

  async run<T>(call: Call<T>, options: RunOptions): Promise<T> {
    const place = places.getStore();
    if (place?.limiter !== this) return this.#admit(call, options);
    // The outer call lends its place while at least one inner call wants it.
    place.nested += 1;
    if (place.nested === 1) this.#running -= 1;
    try {
      return await this.#admit(call, options);
    } finally {
      place.nested -= 1;
      if (place.nested === 0) this.#running += 1;
    }
  }

  runNested<T>(call: () => Promise<T>, options: RunOptions): Promise<T> {
    return this.run(() => places.run({ limiter: this, nested: 0 }, call), options);
  }

  saturated(): boolean {
    return this.#waiting > 0 && this.#waiting >= this.#saturation;
  }

  idle(): boolean {
    return this.#running === 0 && this.#waiting === 0 && (this.#gate?.idle() ?? true);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gate?.close();
    for (const queue of [this.#again, ...Object.values(this.#lanes)]) {
      for (const waiter of queue) waiter.refuse(closed());
      queue.clear();
    }
  }

  get #waiting(): number {
    return this.#again.size + this.#lanes.live.size + this.#lanes.repair.size;
  }

  async #admit<T>(call: Call<T>, options: RunOptions): Promise<T> {
    options.signal.throwIfAborted();
    if (this.#closed) throw closed();
    if (this.#gate !== undefined || this.#waiting > 0 || this.#running >= this.#concurrent) {
      // Whoever makes room starts the call, but it belongs to the async context of its caller (tracing relies on it).
      return this.#queue(AsyncResource.bind(call), options);
    }
    this.#running += 1;
    try {
      return await call();
    } finally {
      this.#left();
    }
  }

  #queue<T>(call: Call<T>, { signal, lane = "live" }: RunOptions): Promise<T> {
    return new Promise((resolve, reject) => {
      let queue = this.#lanes[lane];
      const onAbort = () => {
        queue.delete(waiter);
        reject(signal.reason as Error);
      };
      const wait = () => {
        signal.addEventListener("abort", onAbort, { once: true });
        queue.add(waiter);
      };
      const waiter: Waiter = {
        start: async (permit) => {
          signal.removeEventListener("abort", onAbort);
          const running = (async () => call(permit))();
          const spent = await running.then(
            () => false,
            (error: unknown) => error instanceof PermitSpent,
          );
          if (!spent) resolve(running);
          else if (signal.aborted) reject(signal.reason as Error);
          else if (this.#closed) reject(closed());
          else {
            queue = this.#again;
            wait();
          }
        },
        refuse: (error) => {
          signal.removeEventListener("abort", onAbort);
          reject(error);
        },
      };
      wait();
      this.#pump();
    });
  }

  #pump(): void {
    const gate = this.#gate;
    let startable = Math.min(this.#waiting, this.#concurrent - this.#running) - this.#asked;
    if (gate === undefined) {
      for (; startable > 0; startable -= 1) void this.#startNext(undefined);
      return;
    }
    while (startable > 0) {
      const count = gate.worthAsking(startable);
      // Little is asked for only when nothing else is: while that is waited for, more comes together.
      if (count < gate.block && this.#asked > 0) return;
      this.#asked += count;
      startable -= count;
      gate.take(
        count,
        (granted) => this.#granted(gate, granted),
        (missing, error) => this.#refused(missing, error),
      );
    }
  }

  /** Who starts is decided only now, when it can: the permit goes to whoever is first by now. */
  #granted(gate: Gate, count: number): void {
    this.#asked -= count;
    let unused = count;
    while (unused > 0 && this.#waiting > 0 && this.#running < this.#concurrent) {
      unused -= 1;
      const permit = gate.start();
      void this.#startNext(permit).finally(() => permit.seen());
    }
    gate.giveBack(unused);
    this.#pump();
  }

  /** No permits can be had: so many of those who wait for them are told. */
  #refused(count: number, error: Error): void {
    this.#asked -= count;
    for (let left = count; left > 0 && this.#waiting > 0; left -= 1) this.#next()?.refuse(error);
    this.#pump();
  }

  async #startNext(permit: Permit | undefined): Promise<void> {
    const waiter = this.#next();
    if (waiter === undefined) return;
    this.#running += 1;
    await waiter.start(permit);
    this.#left();
  }

  /** Whoever is first, who waits no longer. */
  #next(): Waiter | undefined {
    const queue = this.#again.size > 0 ? this.#again : this.#lanes[this.#nextLane()];
    const [waiter] = queue;
    if (waiter !== undefined) queue.delete(waiter);
    return waiter;
  }

  #left(): void {
    this.#running -= 1;
    this.#pump();
  }

  /** Live before repair, but of the starts while both wait, repair has its share. */
  #nextLane(): Lane {
    if (this.#lanes.repair.size === 0) return "live";
    if (this.#lanes.live.size === 0) return "repair";
    this.#repairCredit += this.#repairShare;
    if (this.#repairCredit < 1) return "live";
    this.#repairCredit -= 1;
    return "repair";
  }
}

function closed(): TrueupError<"STOPPED"> {
  return new TrueupError("STOPPED", "the API client is closed");
}
