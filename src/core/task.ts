/**
 * One object's way through the path, from its claim to its settling: fetch, judge, handle, settle. The worker and the
 * reconciler both bring their claims here.
 *
 * @module
 */

import type { HandlerTask } from "./change.ts";
import type { Clock, Random } from "./clock.ts";
import type { Deadlines } from "./deadline.ts";
import { TrueupError } from "./errors.ts";
import { describeRef } from "./event.ts";
import { failureRecord } from "./failure.ts";
import type { FetchResult, Fetcher } from "./fetcher.ts";
import { batchHandling, singleHandling, type Handling, type HandlingContext } from "./handling.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./options.ts";
import type { Pauses } from "./pauses.ts";
import type { Redactor } from "./redactor.ts";
import type { Route } from "./registry.ts";
import { afterFailure, asError, codeOf, isUnanswered, type AfterFailure } from "./retry.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Settle } from "./settler.ts";
import type { ShrinkGuard } from "./shrink-guard.ts";
import type { Claim, FailureRecord, IndexEntry, SettleOutcome, Store, WorkSession } from "./store.ts";
import { judge, type Evidence } from "./verdict.ts";

export interface TaskRunnerOptions {
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly settle: Settle;
  readonly fetcher: Fetcher;
  readonly deadlines: Deadlines;
  /** Bounds the fetches under way, over all routes. */
  readonly fetchSlots: Semaphore;
  readonly pauses: Pauses;
  readonly guard: ShrinkGuard;
  readonly redactor: Redactor;
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly limits: Limits;
  /** Hears of each claim whose work is over: handled, found unchanged, or dead. */
  readonly onDone: (claim: Claim) => void;
  /** Hears when an object of the route is to be claimed again, from `due` on (milliseconds since the epoch). */
  readonly onRedue: (route: Route, due: number) => void;
}

/** How one claim ended. */
export type TaskResult =
  | { readonly kind: "handled"; readonly change: "upsert" | "delete"; readonly regressed: boolean }
  | { readonly kind: "unchanged"; readonly index: IndexEntry | null }
  | { readonly kind: "lagging" | "lost" | "released" }
  | { readonly kind: "failed" | "dead"; readonly error: Error };

export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  readonly #handlings = new Map<string, Handling>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Fetches the objects of claims (all of one scope, at most a batch) and takes each on its way. */
  async fetch(route: Route, claims: readonly Claim[]): Promise<TaskResult[]> {
    const { clock, fetchSlots, fetcher } = this.#options;
    const [first] = claims;
    if (first === undefined) return [];
    if (claims.some((claim) => this.isWornOut(claim))) return this.#withoutWornOut(route, claims);
    if (!fetchSlots.tryAcquire()) await fetchSlots.acquire();
    const requestedAt = clock.now();
    let results: FetchResult[];
    try {
      results =
        claims.length === 1
          ? [await fetcher.one(route.resource, first.ref, first.lane)]
          : await fetcher.many(
              route.resource,
              first.ref,
              claims.map((claim) => claim.ref.id),
              first.lane,
            );
    } finally {
      fetchSlots.release();
    }
    return Promise.all(
      claims.map((claim, i) => this.#arrived(route, claim, results[i] as FetchResult, requestedAt)),
    );
  }

  /** All attempts were begun and none came to an end: the work ends its process, and would do so for ever. */
  isWornOut(claim: Claim): boolean {
    return claim.attempt > this.#options.limits.retry.attempts;
  }

  async #withoutWornOut(route: Route, claims: readonly Claim[]): Promise<TaskResult[]> {
    const results = new Map<Claim, TaskResult>();
    const sound = claims.filter((claim) => !this.isWornOut(claim));
    for (const [i, result] of (await this.fetch(route, sound)).entries())
      results.set(sound[i] as Claim, result);
    for (const claim of claims)
      if (this.isWornOut(claim)) results.set(claim, await this.giveUp(route, claim));
    return claims.map((claim) => results.get(claim) as TaskResult);
  }

  /** Makes a dead letter of work whose attempts are used up by crashes. */
  giveUp(route: Route, claim: Claim): Promise<TaskResult> {
    const message = `the process ended in each of ${claim.attempt - 1} attempts`;
    return this.fail(route, claim, new TrueupError("ATTEMPTS_EXHAUSTED", message), false);
  }

  /** Takes a claim on its way whose object was read from a list. */
  async row(route: Route, claim: Claim, evidence: Evidence): Promise<TaskResult> {
    try {
      return await this.#finish(route, claim, evidence, undefined);
    } catch (thrown) {
      return this.fail(route, claim, asError(thrown), true);
    }
  }

  /** Ends the claim of a whole resource, whose pass is complete. */
  async passDone(route: Route, claim: Claim): Promise<void> {
    const outcome = await this.#options.settle({ claim, kind: "done", index: null });
    if (outcome === "lost") this.#lost(claim);
    else this.#over(route, claim, outcome, undefined);
  }

  async #arrived(route: Route, claim: Claim, result: FetchResult, requestedAt: number): Promise<TaskResult> {
    const { guard, pauses } = this.#options;
    if (result.kind === "error") return this.fail(route, claim, result.error, false);
    pauses.answered(claim.ref.provider, claim.ref.connection);
    if (result.kind === "object") guard.present(claim.ref);
    try {
      return await this.#finish(route, claim, result, requestedAt);
    } catch (thrown) {
      return this.fail(route, claim, asError(thrown), false);
    }
  }

  async #finish(
    route: Route,
    claim: Claim,
    evidence: Evidence,
    requestedAt: number | undefined,
  ): Promise<TaskResult> {
    const { clock, hooks } = this.#options;
    const { coalesceMs } = route.resource;
    const notBefore = coalesceMs > 0 && requestedAt !== undefined ? requestedAt + coalesceMs : undefined;
    const verdict = judge(route.resource, claim, evidence, clock.now());
    switch (verdict.kind) {
      case "wait": {
        const due = clock.now() + verdict.retryInMs;
        await this.#retry(route, claim, {
          due,
          attempts: claim.attempt - 1,
          lags: claim.lags + 1,
          begun: claim.begun,
        });
        hooks.emit("change.lagging", {
          ref: claim.ref,
          lags: claim.lags + 1,
          retryInMs: verdict.retryInMs,
          reason: verdict.reason,
        });
        return { kind: "lagging" };
      }
      case "unchanged": {
        const outcome = await this.#options.settle({ claim, kind: "done", index: verdict.index, notBefore });
        if (outcome === "lost") return this.#lost(claim);
        this.#over(route, claim, outcome, notBefore);
        hooks.emit("change.unchanged", {
          ref: claim.ref,
          origin: claim.origin,
          eventCount: claim.eventCount,
        });
        return { kind: "unchanged", index: verdict.index };
      }
      case "handle": {
        if (verdict.change === "delete") await this.#refuseMassDelete(route, claim);
        return this.#handle(
          route,
          { claim, evidence, verdict, done: { claim, kind: "done", index: verdict.index, notBefore } },
          notBefore,
        );
      }
    }
  }

  async #handle(route: Route, task: HandlerTask, notBefore: number | undefined): Promise<TaskResult> {
    const { clock, hooks, settle } = this.#options;
    const { claim, verdict } = task;
    const startedAt = clock.monotonic();
    const result = await this.#handlingOf(route).run(task);
    if (!result.ok) return this.fail(route, claim, result.error, true);
    const outcome = result.settled ? "settled" : await settle(task.done);
    if (outcome === "lost") return this.#lost(claim);
    this.#over(route, claim, outcome, notBefore);
    hooks.emit("change.handled", {
      ref: claim.ref,
      kind: verdict.change,
      origin: claim.origin,
      attempt: claim.attempt,
      eventCount: claim.eventCount,
      regressed: verdict.regressed,
      durationMs: clock.monotonic() - startedAt,
    });
    return { kind: "handled", change: verdict.change, regressed: verdict.regressed };
  }

  /**
   * Ends a claim that failed. The one place that acts on {@link afterFailure}.
   * @param begun whether a handler may have begun
   */
  async fail(route: Route, claim: Claim, error: Error, begun: boolean): Promise<TaskResult> {
    const { clock, hooks, limits, pauses, random, settle } = this.#options;
    const { ref, attempt } = claim;
    const unanswered = !begun && isUnanswered(error) ? pauses.unanswered(ref.provider, ref.connection) : 0;
    const after = afterFailure(error, attempt, limits.retry, random, unanswered);
    const now = clock.now();
    const kept = { lags: claim.lags, begun: claim.begun || begun };
    switch (after.kind) {
      case "lost":
        return this.#lost(claim);
      case "release":
        await this.#retry(route, claim, { ...kept, due: now, attempts: attempt - 1 });
        return { kind: "released" };
      case "pause":
        await this.#retry(route, claim, {
          ...kept,
          due: (await this.#pause(claim, after, error)) ? now : now + limits.retry.minDelayMs,
          attempts: attempt - 1,
          error: this.#record(claim, error),
        });
        return { kind: "failed", error };
      case "retry": {
        const attempts = after.counts ? attempt : attempt - 1;
        await this.#retry(route, claim, {
          ...kept,
          due: now + after.delayMs,
          attempts,
          error: this.#record(claim, error),
        });
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

  async #retry(
    route: Route,
    claim: Claim,
    how: { due: number; attempts: number; lags: number; begun: boolean; error?: FailureRecord },
  ): Promise<void> {
    const outcome = await this.#options.settle({ claim, kind: "retry", ...how });
    if (outcome === "lost") this.#lost(claim);
    else this.#options.onRedue(route, how.due);
  }

  #lost(claim: Claim): TaskResult {
    this.#options.hooks.emit("change.lost", { ref: claim.ref });
    return { kind: "lost" };
  }

  #over(route: Route, claim: Claim, outcome: SettleOutcome, notBefore: number | undefined): void {
    this.#options.onDone(claim);
    if (outcome === "dirty") this.#options.onRedue(route, notBefore ?? this.#options.clock.now());
  }

  /** Only what nobody announced is suspicious: a delete event, a trigger or a complete list have their own proof. */
  async #refuseMassDelete(route: Route, claim: Claim): Promise<void> {
    if (route.resource.shrinkGuard === false) return;
    if (claim.hint === "delete" || claim.forced || claim.origin === "reconcile") return;
    const { guard, hooks, store } = this.#options;
    const { provider, connection, resource } = claim.ref;
    const held = await guard.gone(route.resource, claim.ref, () => store.countPresent(claim.ref));
    if (held === undefined) return;
    if (held.news) {
      const { gone: count, indexed } = held;
      hooks.emit("deletes.suppressed", {
        provider,
        connection,
        resource,
        count,
        indexed,
        samples: [claim.ref.id],
      });
    }
    throw new TrueupError(
      "DELETES_SUPPRESSED",
      `${held.gone} objects of ${route.name} are gone and no event announced it: this looks like lost access, so ${describeRef(claim.ref)} is not treated as deleted`,
    );
  }

  #record(claim: Claim, error: Error): FailureRecord {
    const { clock, redactor } = this.#options;
    return failureRecord(error, claim.ref, redactor, clock.now());
  }

  #handlingOf(route: Route): Handling {
    const known = this.#handlings.get(route.name);
    if (known !== undefined) return known;
    const made = this.#makeHandling(route);
    this.#handlings.set(route.name, made);
    return made;
  }

  #makeHandling(route: Route): Handling {
    const { deadlines, hooks, limits, session } = this.#options;
    const context: HandlingContext = {
      session,
      deadlines,
      commitTimeoutMs: limits.commitTimeoutMs,
      afterCommit: async ({ claim }, error) =>
        hooks.emit("error", {
          error: this.#options.redactor.error(error, claim.ref),
          during: `the handler of ${describeRef(claim.ref)}, after its commit`,
        }),
    };
    const { handler } = route;
    switch (handler?.kind) {
      case "single":
        return singleHandling(handler.run, handler.options, context);
      case "batch":
        return batchHandling(handler.run, handler.options, context);
      case undefined:
        throw new TrueupError(
          "HANDLER_MISSING",
          `${route.name} has no handler: call engine.handle(${JSON.stringify(route.name)}, …)`,
        );
    }
  }
}
