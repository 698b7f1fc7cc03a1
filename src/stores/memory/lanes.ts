/**
 * What waits for work, arranged so that a claim costs what it claims: neither the objects that wait nor the
 * connections that have nothing ready, or are paused, are looked at.
 *
 * Each connection and resource has two lanes, live and repair. Lanes with something ready take turns in a ring per
 * route; what is due later waits in a heap per route; lanes of paused connections leave the ring.
 *
 * @module
 */

import { type LaneKind, REPAIR_AGING_MS } from "../../core/store.ts";
import { Chain, type Link } from "./chain.ts";
import { type Due, DueHeap } from "./heap.ts";
import type { ObjectRecord } from "./record.ts";

/** An object's place among what waits. */
interface Ticket extends Due {
  readonly key: number;
  readonly lane: Lane;
  /** Its place in the lane, once it is due. */
  link: Link<Ticket> | undefined;
  /** Set when the object stops waiting: the heap drops the ticket when it comes to the top. */
  cancelled: boolean;
}

interface Lane {
  readonly route: Route;
  readonly kind: LaneKind;
  readonly connection: Connection;
  readonly ready: Chain<Ticket>;
  /** Its place in the ring, while it has something ready and its connection is not paused. */
  turn: Link<Lane> | undefined;
}

interface Route {
  readonly rings: Readonly<Record<LaneKind, Chain<Lane>>>;
  readonly later: DueHeap<Ticket>;
}

interface Connection {
  readonly lanes: Map<string, Lane>;
  /** Milliseconds since the epoch; `Infinity`: until resumed. */
  pausedUntil: number;
}

export class Lanes {
  readonly #routes = new Map<string, Route>();
  readonly #connections = new Map<string, Connection>();
  readonly #tickets = new Map<number, Ticket>();
  readonly #pauseEnds = new DueHeap<Due & { readonly connection: Connection }>();
  #order = 0;

  /** Files a waiting record, or files it anew; its place is kept if neither due date nor lane changed. */
  put(record: ObjectRecord): void {
    const lane = this.#lane(record);
    const old = this.#tickets.get(record.key);
    if (old !== undefined) {
      if (old.due === record.due && old.lane === lane) return;
      this.remove(record.key);
    }
    this.#order += 1;
    const { key, due } = record;
    const ticket: Ticket = { key, due, order: this.#order, lane, link: undefined, cancelled: false };
    this.#tickets.set(record.key, ticket);
    lane.route.later.push(ticket);
  }

  /** The object no longer waits. */
  remove(key: number): void {
    const ticket = this.#tickets.get(key);
    if (ticket === undefined) return;
    this.#tickets.delete(key);
    ticket.cancelled = true;
    if (ticket.link === undefined) return;
    const { lane } = ticket;
    lane.ready.remove(ticket.link);
    if (lane.ready.isEmpty) leaveRing(lane);
  }

  /**
   * Takes up to `limit` objects of a route that are due out of their lanes, each connection in its turn. What is taken
   * and then not leased has to be {@link put} back.
   */
  take(
    route: { readonly provider: string; readonly resource: string },
    options: { readonly limit: number; readonly except: readonly string[]; readonly now: number },
  ): number[] {
    this.#advance(options.now);
    const rings = this.#routes.get(pairKey(route.provider, route.resource))?.rings;
    const taken: number[] = [];
    if (rings === undefined) return taken;
    const passedOver = this.#passOver(route, options.except);
    while (taken.length < options.limit) {
      const lane = nextLane(rings);
      const ticket = lane?.ready.first;
      if (lane === undefined || ticket === undefined) break;
      rings[lane.kind].rotate();
      this.remove(ticket.key);
      taken.push(ticket.key);
    }
    for (const lane of passedOver) enterRing(lane);
    return taken;
  }

  /** When the next object of a route is due, in milliseconds since the epoch; those of paused connections aside. */
  nextDue(route: { readonly provider: string; readonly resource: string }, now: number): number | undefined {
    this.#advance(now);
    const found = this.#routes.get(pairKey(route.provider, route.resource));
    if (found === undefined) return undefined;
    const ready = found.rings.live.first ?? found.rings.repair.first;
    if (ready !== undefined) return ready.ready.first?.due;
    const { first } = found.later;
    if (first === undefined || !this.#isPaused(first.lane, now)) return first?.due;
    // The first is paused: only now is it worth looking at all of them.
    let next: number | undefined;
    for (const ticket of found.later) {
      if (ticket.cancelled || this.#isPaused(ticket.lane, now)) continue;
      if (next === undefined || ticket.due < next) next = ticket.due;
    }
    return next;
  }

  /** How many objects are due by a moment on connections that are not paused beyond it, and how many are not. */
  countDue(dueBy: number): { due: number; later: number } {
    let due = 0;
    for (const ticket of this.#tickets.values()) {
      if (ticket.due <= dueBy && !this.#isPaused(ticket.lane, dueBy)) due += 1;
    }
    return { due, later: this.#tickets.size - due };
  }

  /** Numbers of all objects that wait. */
  waiting(): IterableIterator<number> {
    return this.#tickets.keys();
  }

  /** @param until Milliseconds since the epoch; `null`: until resumed. */
  pause(provider: string, connection: string, until: number | null): void {
    const paused = this.#connection(provider, connection);
    paused.pausedUntil = until ?? Number.POSITIVE_INFINITY;
    for (const lane of paused.lanes.values()) leaveRing(lane);
    if (until !== null) this.#pauseEnds.push({ due: until, order: 0, connection: paused });
  }

  resume(provider: string, connection: string): void {
    endPause(this.#connection(provider, connection));
  }

  /** Forgets a connection of which nothing waits any more. */
  forget(provider: string, connection: string): void {
    const key = pairKey(provider, connection);
    const forgotten = this.#connections.get(key);
    if (forgotten === undefined) return;
    endPause(forgotten);
    this.#connections.delete(key);
  }

  // Takes the lanes of these connections out of their rings, for as long as one claim lasts.
  #passOver(
    { provider, resource }: { readonly provider: string; readonly resource: string },
    except: readonly string[],
  ): Lane[] {
    const passedOver: Lane[] = [];
    for (const name of except) {
      const lanes = this.#connections.get(pairKey(provider, name))?.lanes;
      for (const kind of ["live", "repair"] as const) {
        const lane = lanes?.get(pairKey(kind, resource));
        if (lane?.turn === undefined) continue;
        leaveRing(lane);
        passedOver.push(lane);
      }
    }
    return passedOver;
  }

  // Lets pauses end whose time has come, and files what has become due into its lane.
  #advance(now: number): void {
    for (let end = this.#pauseEnds.first; end !== undefined && end.due <= now; end = this.#pauseEnds.first) {
      this.#pauseEnds.pop();
      if (end.connection.pausedUntil <= now) endPause(end.connection);
    }
    for (const { later } of this.#routes.values()) {
      for (let ticket = later.first; ticket !== undefined; ticket = later.first) {
        if (!ticket.cancelled && ticket.due > now) break;
        later.pop();
        if (ticket.cancelled) continue;
        ticket.link = ticket.lane.ready.push(ticket);
        if (!this.#isPaused(ticket.lane, now)) enterRing(ticket.lane);
      }
    }
  }

  #isPaused(lane: Lane, at: number): boolean {
    return lane.connection.pausedUntil > at;
  }

  #lane({ ref, work }: ObjectRecord): Lane {
    const kind = work?.lane ?? "live";
    const connection = this.#connection(ref.provider, ref.connection);
    const name = pairKey(kind, ref.resource);
    let lane = connection.lanes.get(name);
    if (lane === undefined) {
      lane = {
        route: this.#route(ref.provider, ref.resource),
        kind,
        connection,
        ready: new Chain(),
        turn: undefined,
      };
      connection.lanes.set(name, lane);
    }
    return lane;
  }

  #route(provider: string, resource: string): Route {
    const key = pairKey(provider, resource);
    let route = this.#routes.get(key);
    if (route === undefined) {
      route = { rings: { live: new Chain(), repair: new Chain() }, later: new DueHeap() };
      this.#routes.set(key, route);
    }
    return route;
  }

  #connection(provider: string, name: string): Connection {
    const key = pairKey(provider, name);
    let connection = this.#connections.get(key);
    if (connection === undefined) {
      connection = { lanes: new Map(), pausedUntil: Number.NEGATIVE_INFINITY };
      this.#connections.set(key, connection);
    }
    return connection;
  }
}

/** One text for two. The length goes in front, so that no two pairs read alike. */
function pairKey(first: string, second: string): string {
  return `${first.length}:${first}${second}`;
}

function enterRing(lane: Lane): void {
  if (lane.turn === undefined && !lane.ready.isEmpty) lane.turn = lane.route.rings[lane.kind].push(lane);
}

function leaveRing(lane: Lane): void {
  if (lane.turn === undefined) return;
  lane.route.rings[lane.kind].remove(lane.turn);
  lane.turn = undefined;
}

function endPause(connection: Connection): void {
  connection.pausedUntil = Number.NEGATIVE_INFINITY;
  for (const lane of connection.lanes.values()) enterRing(lane);
}

/** Live work first, unless the repair work whose turn it is has waited for so much longer. */
function nextLane(rings: Route["rings"]): Lane | undefined {
  const live = rings.live.first;
  const repair = rings.repair.first;
  if (live === undefined || repair === undefined) return live ?? repair;
  const liveDue = live.ready.first?.due ?? 0;
  const repairDue = repair.ready.first?.due ?? 0;
  return repairDue + REPAIR_AGING_MS <= liveDue ? repair : live;
}
