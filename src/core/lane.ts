/**
 * What a worker remembers of a route: how much of it is in work, what of that waits for a fetch slot, and how much more
 * there is room for.
 *
 * @module
 */

import type { Route } from "./registry.ts";
import type { Claim } from "./store.ts";
import { type StorePlace, Throughput } from "./throughput.ts";

/** Claims of one connection that one fetch serves. */
export interface Unit {
  readonly lane: Lane;
  readonly connection: string;
  readonly claims: readonly Claim[];
}

/** Batches of a route that may be in work at once, however few of their objects its handler takes. */
const BATCHES_IN_WORK = 4;

export class Lane {
  readonly route: Route;
  /** False once a claim found less than it asked for, until something happens. */
  ready = true;
  /** Whether the last claim passed a connection over. */
  passedOver = false;
  /** Objects that one fetch slot can serve. */
  readonly #perSlot: number;
  /** Objects that may be in work at once: those being handled, and as many again being fetched. */
  readonly #room: number;
  /** Where the store works. One elsewhere is asked for half of the room at a time, and can get it while the other is in work. */
  readonly #store: StorePlace;
  /** Where a rate is configured, that says how fast it goes. */
  readonly #throughput: Throughput | undefined;
  /** Claimed ahead of its slot, the oldest first. */
  #waiting: Unit[] = [];
  #inWork = 0;
  readonly #perConnection = new Map<string, number>();
  /** Connections with a fetch that was not full: more of theirs waits and gathers until it is back (as Nagle's algorithm). */
  readonly #partial = new Set<string>();

  constructor(route: Route, now: number, store: StorePlace = "here") {
    const { handler, provider, resource } = route;
    const handled =
      handler === undefined
        ? 1
        : handler.options.concurrency * (handler.kind === "batch" ? handler.options.size : 1);
    this.route = route;
    this.#store = store;
    this.#perSlot = resource.fetchMany === undefined ? 1 : resource.batchSize;
    this.#room = Math.max(BATCHES_IN_WORK * this.#perSlot, 2 * handled);
    if (provider.api?.rateLimit?.requests === undefined) this.#throughput = new Throughput(now, store);
  }

  /**
   * How many objects to claim: what its share of the slots takes, or where it goes fast, what gets done before the next
   * claim is back. Nothing where there is no room for more, or for so little that it can wait.
   */
  wanted(slots: number, now: number): number {
    const ahead = this.#ahead(now);
    const room = Math.max(Math.floor(this.#room / this.#perSlot), 2 * ahead);
    const free = room - Math.ceil(this.#inWork / this.#perSlot);
    if (free < ahead / 2) return 0;
    const share = this.#store === "elsewhere" ? Math.min(slots, Math.ceil(room / 2)) : slots;
    return Math.min(free, Math.max(share, ahead)) * this.#perSlot;
  }

  /** How many slots its work will free while the next claim is under way, beside those that it waits for itself. */
  spare(now: number): number {
    return Math.max(0, this.#ahead(now) - this.#waiting.length);
  }

  /** In slots. */
  #ahead(now: number): number {
    return Math.floor((this.#throughput?.ahead(now) ?? 0) / this.#perSlot);
  }

  /** Connections that have no room for more: their rate budget is used up, or a fetch of theirs was not full. */
  busyConnections(isSaturated: (connection: string) => boolean): string[] {
    const saturated = [...this.#perConnection.keys()].filter(isSaturated);
    return [...new Set([...saturated, ...this.#partial])];
  }

  /** Takes claims of objects of one connection in, which then wait for slots. */
  add(connection: string, claims: readonly Claim[]): void {
    if (claims.length === 0) return;
    const perSlot = this.#perSlot;
    this.#inWork += claims.length;
    this.#perConnection.set(connection, (this.#perConnection.get(connection) ?? 0) + claims.length);
    for (let start = 0; start < claims.length; start += perSlot) {
      const unit = { lane: this, connection, claims: claims.slice(start, start + perSlot) };
      if (unit.claims.length < perSlot) this.#partial.add(connection);
      this.#waiting.push(unit);
    }
  }

  /** How much of it waits for a slot, in slots. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** The next to be fetched. */
  next(): Unit | undefined {
    return this.#waiting.shift();
  }

  /** Takes out what waits, of one connection or of all: it is to go back to the store. */
  withdraw(connection?: string): Unit[] {
    const own = (unit: Unit) => connection === undefined || unit.connection === connection;
    const withdrawn = this.#waiting.filter(own);
    this.#waiting = this.#waiting.filter((unit) => !own(unit));
    return withdrawn;
  }

  /** A unit's work is over, or was given back. */
  end({ claims, connection }: Unit): void {
    if (claims.length < this.#perSlot) this.#partial.delete(connection);
    this.#inWork -= claims.length;
    const left = (this.#perConnection.get(connection) ?? 0) - claims.length;
    if (left > 0) this.#perConnection.set(connection, left);
    else this.#perConnection.delete(connection);
    if (this.passedOver) this.ready = true;
  }

  done({ claims }: Unit): void {
    this.#throughput?.add(claims.length);
  }

  /** Something is wrong with it, and it will not go on as fast as it went. */
  slowDown(now: number): void {
    this.#throughput?.reset(now);
  }
}
