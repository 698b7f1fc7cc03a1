/**
 * Lanes: the work of one scope and kind, and whose turn it is.
 *
 * Lanes that have work now stand in a queue, ordered by `turn`; one that was served goes to its end. The others are not
 * looked at: an empty lane, one whose work is due later, and one whose connection is paused cost a claim nothing.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Scope } from "../../core/event.ts";
import type { LaneKind } from "../../core/store.ts";
import { laneOf, scopeOf } from "./lane-number.ts";
import type { Leases, OpenLeases } from "./leases.ts";
import type { Turn } from "./turn.ts";
import { type ArrayStatement, prepare, prepareArrays, type Statement } from "./statement.ts";

/** `held_until` of a connection that is paused until it is resumed. */
const FOREVER = Number.MAX_SAFE_INTEGER;

/** How many lanes whose time has come join the queue at one claim: a bound, not a share. */
const PROMOTIONS = 512;

/** The earliest due date among what waits in a lane and is not leased (first parameter). */
const HEAD_DUE = `(
  SELECT o.due FROM trueup_object o
  WHERE o.lane = trueup_lane.n AND o.due IS NOT NULL AND o.n NOT IN (SELECT value FROM json_each(?1))
  ORDER BY o.due LIMIT 1)`;

export interface ReadyLane {
  readonly n: number;
  readonly connection: string;
}

type Route = Pick<Scope, "provider" | "resource">;

export class Lanes {
  readonly #leases: Leases;
  readonly #insert: Statement;
  readonly #heldUntil: Statement;
  readonly #join: Statement;
  readonly #wait: Statement;
  readonly #promote: Statement;
  readonly #front: Statement;
  readonly #toBack: Statement;
  readonly #leave: Statement;
  readonly #hold: Statement;
  readonly #free: Statement;
  readonly #ready: Statement;
  readonly #waiting: Statement;
  readonly #heads: ArrayStatement;

  constructor(db: DatabaseSync, leases: Leases) {
    this.#leases = leases;
    this.#insert = prepare(
      db,
      `
      INSERT INTO trueup_lane (n, provider, connection, resource, repair, held_until) VALUES (?, ?, ?, ?, ?, ?)`,
    );
    this.#heldUntil = prepare(
      db,
      `SELECT coalesce(until, ${FOREVER}) AS until FROM trueup_pause WHERE provider = ? AND connection = ?`,
    );
    this.#join = prepare(
      db,
      `
      UPDATE trueup_lane SET turn = ?2, due = NULL WHERE n = ?1 AND turn IS NULL AND held_until <= ?3`,
    );
    this.#wait = prepare(
      db,
      `
      UPDATE trueup_lane SET due = max(?2, held_until)
      WHERE n = ?1 AND turn IS NULL AND (due IS NULL OR due > max(?2, held_until))`,
    );
    this.#promote = prepare(
      db,
      `
      UPDATE trueup_lane SET turn = ?, due = NULL WHERE n IN (
        SELECT n FROM trueup_lane WHERE provider = ? AND resource = ? AND due <= ? ORDER BY due LIMIT ${PROMOTIONS})`,
    );
    this.#front = prepare(
      db,
      `
      SELECT n, connection FROM trueup_lane
      WHERE provider = ? AND resource = ? AND repair = ? AND turn IS NOT NULL
        AND connection NOT IN (SELECT value FROM json_each(?))
      ORDER BY turn LIMIT ?`,
    );
    this.#toBack = prepare(db, "UPDATE trueup_lane SET turn = ? WHERE n IN (SELECT value FROM json_each(?))");
    this.#leave = prepare(
      db,
      `
      UPDATE trueup_lane SET turn = NULL, due = ${HEAD_DUE} WHERE n IN (SELECT value FROM json_each(?2))`,
    );
    this.#hold = prepare(
      db,
      `
      UPDATE trueup_lane SET held_until = ?1, turn = NULL,
        due = CASE WHEN turn IS NOT NULL THEN ?1 WHEN due IS NOT NULL THEN max(due, ?1) END
      WHERE provider = ?2 AND connection = ?3`,
    );
    this.#free = prepare(
      db,
      `
      UPDATE trueup_lane SET held_until = 0, turn = NULL, due = ${HEAD_DUE}
      WHERE provider = ?2 AND connection = ?3`,
    );
    this.#ready = prepare(
      db,
      `
      SELECT n FROM trueup_lane
      WHERE provider = ? AND resource = ? AND repair = ? AND turn IS NOT NULL ORDER BY turn`,
    );
    this.#waiting = prepare(
      db,
      `
      SELECT n, due FROM trueup_lane WHERE provider = ? AND resource = ? AND due < ${FOREVER} ORDER BY due`,
    );
    this.#heads = prepareArrays(
      db,
      `
      SELECT n, due FROM trueup_object INDEXED BY trueup_object_waiting
      WHERE lane = ? AND due IS NOT NULL ORDER BY due LIMIT ?`,
    );
  }

  create(scope: number, { provider, connection, resource }: Scope): void {
    const pause = this.#heldUntil.get(provider, connection) as { until: number } | undefined;
    for (const kind of ["live", "repair"] as const) {
      const n = laneOf(scope, kind);
      this.#insert.run(n, provider, connection, resource, Number(kind === "repair"), pause?.until ?? 0);
    }
  }

  /** Something in the lane is due from then on. */
  wake(turn: Turn, lane: number, due: number): void {
    if (turn.awake.has(lane)) return;
    if (due <= turn.now) {
      turn.awake.add(lane);
      if (this.#join.run(lane, turn.tick(), turn.now).changes === 1) return;
    }
    this.#wait.run(lane, due);
  }

  /** The lanes of a route that have work now, the one that has waited longest first. */
  front(turn: Turn, route: Route, kind: LaneKind, except: readonly string[], limit: number): ReadyLane[] {
    const repair = Number(kind === "repair");
    return this.#front.all(route.provider, route.resource, repair, JSON.stringify(except), limit) as never;
  }

  /** Lets lanes join the queue whose time has come. */
  promote(turn: Turn, { provider, resource }: Route): void {
    this.#promote.run(turn.tick(), provider, resource, turn.now);
  }

  /** Lanes that were served and have more work now. */
  toBack(turn: Turn, lanes: readonly number[]): void {
    if (lanes.length > 0) this.#toBack.run(turn.tick(), JSON.stringify(lanes));
  }

  /** Lanes that have no more work now; what they have later brings them back. */
  leave(turn: Turn, lanes: readonly number[]): void {
    if (lanes.length === 0) return;
    const leased = this.#leases.in(turn).numbersIn(new Set(lanes.map(scopeOf)));
    this.#leave.run(leased, JSON.stringify(lanes));
    for (const lane of lanes) turn.awake.delete(lane);
  }

  /** `null`: until {@link free}. */
  hold(turn: Turn, provider: string, connection: string, until: number | null): void {
    this.#hold.run(until ?? FOREVER, provider, connection);
    turn.awake.clear();
  }

  free(turn: Turn, provider: string, connection: string): void {
    this.#free.run(this.#leases.in(turn).numbers(), provider, connection);
    turn.awake.clear();
  }

  /** When the next object of the route is due that waits and is not held; see `Store.nextDue`. */
  nextDue({ provider, resource }: Route, now: number): number | undefined {
    // What the queue says is checked: an object may have left a lane that still stands in it, or be due later.
    const leases = this.#leases.committed();
    let next = Number.POSITIVE_INFINITY;
    for (const repair of [0, 1]) {
      for (const row of this.#ready.iterate(provider, resource, repair)) {
        const due = this.#headDue((row as { n: number }).n, leases);
        if (due !== undefined && due <= now) return due;
        next = Math.min(next, due ?? next);
      }
    }
    for (const row of this.#waiting.iterate(provider, resource)) {
      const { n, due } = row as { n: number; due: number };
      if (due >= next) break;
      const head = this.#headDue(n, leases);
      if (head !== undefined) next = Math.min(next, Math.max(due, head));
    }
    return next === Number.POSITIVE_INFINITY ? undefined : next;
  }

  /** The earliest due date among what waits in a lane and is not leased. */
  #headDue(lane: number, leases: OpenLeases): number | undefined {
    const heads = this.#heads.all(lane, leases.countIn(scopeOf(lane)) + 1) as [n: number, due: number][];
    return heads.find(([n]) => leases.get(n) === undefined)?.[1];
  }
}
