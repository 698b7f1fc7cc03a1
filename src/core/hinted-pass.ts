/**
 * The work of a whole resource: an event said that something of it changed, and not what. A pass finds out.
 *
 * Ten thousand connections can be told so at once. A few of their passes run, each holding some pages of rows, and the
 * others' claims go back to the store until it may be their turn: so neither memory nor leases grow with them.
 *
 * @module
 */

import { sleep, type Clock } from "./clock.ts";
import type { Endings } from "./ending.ts";
import { stopped } from "./errors.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Route } from "./registry.ts";
import { asError } from "./retry.ts";
import { BUSY } from "./scope-lock.ts";
import { Semaphore } from "./semaphore.ts";
import type { Claim } from "./store.ts";

export interface HintedPassesOptions {
  readonly endings: Endings;
  readonly reconciler: Reconciler;
  readonly clock: Clock;
  /** How many fetches the engine makes at once: no more passes than that. */
  readonly concurrency: number;
}

/** Passes at once, over all routes and connections. */
const PASSES_AT_ONCE = 8;
/** How soon one is tried again whose scope another pass is at, and how often before its claim goes back. */
const BUSY_MS = 1_000;
const BUSY_TRIES = 5;
/** Between two that come back to look for room: claiming them is work for the store. */
const LEAST_SPACING_MS = 5;
const LONGEST_WAIT_MS = 30_000;

export class HintedPasses {
  readonly #options: HintedPassesOptions;
  readonly #atOnce: number;
  readonly #permits: Semaphore;
  /** What the last pass took. */
  #passMs = BUSY_MS;
  /** When the last of those that were sent back comes again, by the monotonic clock. */
  #backAt = -Infinity;

  constructor(options: HintedPassesOptions) {
    this.#options = options;
    this.#atOnce = Math.min(PASSES_AT_ONCE, options.concurrency);
    this.#permits = new Semaphore(this.#atOnce);
  }

  /**
   * Runs the pass, and ends its claim; where there is no room for it, the claim goes back for a while.
   * @param signal ends it early: the claim then goes back as it came
   */
  async run(route: Route, claim: Claim, signal: AbortSignal): Promise<void> {
    const { clock, endings } = this.#options;
    if (endings.isWornOut(claim)) {
      await endings.giveUp(route, claim);
      return;
    }
    try {
      for (let tries = 1; ; tries += 1) {
        const outcome = await this.#try(route, claim, signal);
        if (outcome === "done") return void (await endings.done(route, { claim, kind: "done", index: null }));
        if (outcome === "no room") return await endings.putOff(route, claim, this.#waitMs());
        // Kept for a while: a tick, which has no time later, does not end before what it has leased.
        if (tries === BUSY_TRIES) return await endings.putOff(route, claim, BUSY_MS);
        await sleep(clock, BUSY_MS, signal);
      }
    } catch (thrown) {
      await endings.fail(route, claim, asError(thrown), false);
    }
  }

  async #try(route: Route, claim: Claim, signal: AbortSignal): Promise<"done" | "busy" | "no room"> {
    const { clock } = this.#options;
    if (!this.#permits.tryAcquire()) return "no room";
    const beganAt = clock.monotonic();
    try {
      return (await this.#isDone(route, claim, signal)) ? "done" : "busy";
    } finally {
      this.#passMs = clock.monotonic() - beganAt;
      this.#permits.release();
    }
  }

  /** Lists what the event may have meant. @returns false where another pass is at it */
  async #isDone(route: Route, claim: Claim, signal: AbortSignal): Promise<boolean> {
    const { forced, generation, ref } = claim;
    if (route.resource.list === undefined) return true;
    const { provider, connection, resource } = ref;
    const mode = forced ? "full" : route.resource.onHint;
    const scope = { provider, connection, resource };
    const request = { mode, handle: "changed", signal } as const;
    const report = await this.#options.reconciler.reconcileAfter(route, scope, request, generation);
    if (report === BUSY) return false;
    if (!report.complete) throw stopped();
    return true;
  }

  /** Until it may have its turn, behind those that were sent back before. */
  #waitMs(): number {
    const now = this.#options.clock.monotonic();
    const spacingMs = Math.max(LEAST_SPACING_MS, this.#passMs / this.#atOnce);
    this.#backAt = Math.min(now + LONGEST_WAIT_MS, Math.max(now, this.#backAt) + spacingMs);
    return Math.ceil(this.#backAt - now);
  }
}
