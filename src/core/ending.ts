/**
 * How claims end: what is settled, who is told, and when the object is claimed again. What becomes of a failure is
 * decided elsewhere ({@link afterFailure}), and acted on here alone.
 *
 * @module
 */

import type { Clock, Random } from "./clock.ts";
import { TrueupError } from "./errors.ts";
import { failureRecord } from "./failure.ts";
import type { ConnectionRef, Hooks } from "./hooks.ts";
import type { Limits } from "./options.ts";
import type { Pauses } from "./pauses.ts";
import type { Redactor } from "./redactor.ts";
import type { Route } from "./registry.ts";
import { afterFailure, asError, codeOf, isUnanswered, type AfterFailure } from "./retry.ts";
import type { Settle } from "./settler.ts";
import type { Claim, FailureRecord, IndexEntry, Settlement, SettleOutcome } from "./store.ts";
import type { Verdict } from "./verdict.ts";

export interface EndingsOptions {
  readonly settle: Settle;
  readonly pauses: Pauses;
  readonly redactor: Redactor;
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly limits: Limits;
  /** Hears of each claim whose work is over: handled, found unchanged, or dead. */
  readonly onDone: (claim: Claim) => void;
  /** Hears when an object of the route is to be claimed again, from `due` on (milliseconds since the epoch). */
  readonly onRedue: (route: Route, due: number) => void;
  /** Hears that a connection is about to be paused. */
  readonly onPause: (connection: ConnectionRef) => void;
}

/** How one claim ended. */
export type TaskResult =
  | { readonly kind: "handled"; readonly change: "upsert" | "delete"; readonly regressed: boolean }
  | { readonly kind: "unchanged"; readonly index: IndexEntry | null }
  | { readonly kind: "lagging" | "lost" | "released" }
  | { readonly kind: "failed" | "dead"; readonly error: Error };

const LOST: TaskResult = { kind: "lost" };

export type Done = Extract<Settlement, { kind: "done" }>;

export class Endings {
  readonly #options: EndingsOptions;

  constructor(options: EndingsOptions) {
    this.#options = options;
  }

  /** Settles what is done. */
  done(route: Route, done: Done): Promise<SettleOutcome> {
    return this.#options.settle(done).then((outcome) => this.settled(route, done, outcome));
  }

  /** Tells of what is settled: by {@link done}, or by a handler's commit. */
  settled(route: Route, { claim, notBefore }: Done, outcome: SettleOutcome): SettleOutcome {
    if (outcome === "lost") this.#lost(claim);
    else this.#over(route, claim, outcome, notBefore);
    return outcome;
  }

  /** The API lags: it is asked again, which is no attempt. */
  async wait(
    route: Route,
    claim: Claim,
    { reason, retryInMs }: Extract<Verdict, { kind: "wait" }>,
  ): Promise<TaskResult> {
    const { clock, hooks } = this.#options;
    const isOurs = await this.#retry(route, claim, {
      due: clock.now() + retryInMs,
      attempts: claim.attempt - 1,
      lags: claim.lags + 1,
      begun: claim.begun,
    });
    if (!isOurs) return LOST;
    hooks.emit("change.lagging", { ref: claim.ref, lags: claim.lags + 1, retryInMs, reason });
    return { kind: "lagging" };
  }

  /**
   * Gives a claim back as it came.
   * @param begun as for {@link fail}
   */
  async release(route: Route, claim: Claim, begun = false): Promise<TaskResult> {
    const { attempt, lags } = claim;
    const due = this.#options.clock.now();
    const how = { due, attempts: attempt - 1, lags, begun: claim.begun || begun };
    return (await this.#retry(route, claim, how)) ? { kind: "released" } : LOST;
  }

  /** The same, to be claimed again after a time. */
  async putOff(route: Route, claim: Claim, delayMs: number): Promise<void> {
    const { attempt, begun, lags } = claim;
    const due = this.#options.clock.now() + delayMs;
    await this.#retry(route, claim, { due, attempts: attempt - 1, lags, begun });
  }

  /** Whether all attempts were begun and none came to an end: the work ends its process, and would do so for ever. */
  isWornOut(claim: Claim): boolean {
    return claim.attempt > this.#options.limits.retry.attempts;
  }

  /** Makes a dead letter of work whose attempts are used up by crashes. */
  giveUp(route: Route, claim: Claim): Promise<TaskResult> {
    const message = `the process ended in each of ${claim.attempt - 1} attempts`;
    return this.fail(route, claim, new TrueupError("ATTEMPTS_EXHAUSTED", message), false);
  }

  /**
   * Ends a claim that failed. The one place that acts on {@link afterFailure}.
   * @param begun whether a handler may have begun
   */
  async fail(route: Route, claim: Claim, error: Error, begun: boolean): Promise<TaskResult> {
    const { clock, hooks, limits, onPause, pauses, random, settle } = this.#options;
    const { ref, attempt } = claim;
    const unanswered = !begun && isUnanswered(error) ? pauses.unanswered(ref.provider, ref.connection) : 0;
    const after = afterFailure(error, attempt, limits.retry, random, unanswered);
    const now = clock.now();
    const kept = { lags: claim.lags, begun: claim.begun || begun };
    switch (after.kind) {
      case "lost":
        return this.#lost(claim);
      case "release":
        return this.release(route, claim, begun);
      case "pause": {
        onPause(ref);
        const isOurs = await this.#retry(route, claim, {
          ...kept,
          due: (await this.#pause(claim, after, error)) ? now : now + limits.retry.minDelayMs,
          attempts: attempt - 1,
          error: this.#record(claim, error),
        });
        return isOurs ? { kind: "failed", error } : LOST;
      }
      case "retry": {
        const isOurs = await this.#retry(route, claim, {
          ...kept,
          due: now + after.delayMs,
          attempts: after.counts ? attempt : attempt - 1,
          error: this.#record(claim, error),
        });
        if (!isOurs) return LOST;
        hooks.emit("change.failed", { ref, attempt, retryInMs: after.delayMs, error });
        return { kind: "failed", error };
      }
      case "dead": {
        const outcome = await settle({
          claim,
          kind: "dead",
          begun: kept.begun,
          error: this.#record(claim, error),
        });
        if (outcome === "lost") return this.#lost(claim);
        this.#over(route, claim, outcome, undefined);
        hooks.emit("change.dead", { ref, attempt, error });
        return { kind: "dead", error };
      }
    }
  }

  /** Never rejects: a claim must be settled whatever happens. @returns whether the connection is paused */
  async #pause(
    { ref }: Claim,
    after: Extract<AfterFailure, { kind: "pause" }>,
    error: Error,
  ): Promise<boolean> {
    const { hooks, pauses } = this.#options;
    try {
      await pauses.obey(ref, after, codeOf(error));
      return true;
    } catch (thrown) {
      hooks.emit("error", { error: asError(thrown), during: "pausing a connection" });
      return false;
    }
  }

  /** @returns whether the work was still ours, so that it is claimed again */
  async #retry(
    route: Route,
    claim: Claim,
    how: { due: number; attempts: number; lags: number; begun: boolean; error?: FailureRecord },
  ): Promise<boolean> {
    const outcome = await this.#options.settle({ claim, kind: "retry", ...how });
    if (outcome === "lost") {
      this.#lost(claim);
      return false;
    }
    this.#options.onRedue(route, how.due);
    return true;
  }

  #lost(claim: Claim): TaskResult {
    this.#options.hooks.emit("change.lost", { ref: claim.ref });
    return LOST;
  }

  #over(route: Route, claim: Claim, outcome: SettleOutcome, notBefore: number | undefined): void {
    this.#options.onDone(claim);
    if (outcome === "dirty") this.#options.onRedue(route, notBefore ?? this.#options.clock.now());
  }

  #record(claim: Claim, error: Error): FailureRecord {
    const { clock, redactor } = this.#options;
    return failureRecord(error, claim.ref, redactor, clock.now());
  }
}
