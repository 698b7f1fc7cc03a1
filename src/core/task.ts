/**
 * One object's way through the path, from its claim to its ending: fetch, judge, handle. The worker and the reconciler
 * both bring their claims here.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { Deadlines } from "./deadline.ts";
import type { Done, Endings, TaskResult } from "./ending.ts";
import { TrueupError } from "./errors.ts";
import { describeRef } from "./event.ts";
import type { FetchResult, Fetcher } from "./fetcher.ts";
import { batchHandling, singleHandling, type Handling, type HandlingContext } from "./handling.ts";
import type { Hooks } from "./hooks.ts";
import { isPromise } from "./maybe-promise.ts";
import type { Limits } from "./options.ts";
import type { Pauses } from "./pauses.ts";
import type { Redactor } from "./redactor.ts";
import type { Route } from "./registry.ts";
import { asError } from "./retry.ts";
import type { ShrinkGuard } from "./shrink-guard.ts";
import type { Claim, Store, WorkSession } from "./store.ts";
import { judge, type Evidence, type Verdict } from "./verdict.ts";

export interface TaskRunnerOptions {
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly endings: Endings;
  readonly fetcher: Fetcher;
  readonly deadlines: Deadlines;
  readonly pauses: Pauses;
  readonly guard: ShrinkGuard;
  readonly redactor: Redactor;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly limits: Limits;
}

export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  readonly #handlings = new Map<string, Handling>();

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Fetches the objects of claims (all of one scope, at most a batch) and takes each on its way. */
  async fetch(route: Route, claims: readonly Claim[]): Promise<TaskResult[]> {
    const { clock, endings, fetcher } = this.#options;
    const [first] = claims;
    if (first === undefined) return [];
    if (claims.some((claim) => endings.isWornOut(claim))) return this.#withoutWornOut(route, claims);
    let requestedAt = clock.now();
    const onRequest = () => void (requestedAt = clock.now());
    const ids = claims.map((claim) => claim.ref.id);
    const results =
      ids.length === 1
        ? [await fetcher.one(route.resource, first.ref, first.lane, onRequest)]
        : await fetcher.many(route.resource, first.ref, ids, first.lane, onRequest);
    const arrived = (claim: Claim, i: number) =>
      this.#arrived(route, claim, results[i] as FetchResult, requestedAt);
    return claims.length === 1 ? [await arrived(first, 0)] : Promise.all(claims.map(arrived));
  }

  async #withoutWornOut(route: Route, claims: readonly Claim[]): Promise<TaskResult[]> {
    const { endings } = this.#options;
    const results = new Map<Claim, TaskResult>();
    const sound = claims.filter((claim) => !endings.isWornOut(claim));
    for (const [i, result] of (await this.fetch(route, sound)).entries())
      results.set(sound[i] as Claim, result);
    for (const claim of claims)
      if (endings.isWornOut(claim)) results.set(claim, await endings.giveUp(route, claim));
    return claims.map((claim) => results.get(claim) as TaskResult);
  }

  /** Takes a claim on its way whose object was read from a list. */
  row(route: Route, claim: Claim, evidence: Evidence): Promise<TaskResult> {
    return this.#take(route, claim, evidence, undefined);
  }

  #arrived(route: Route, claim: Claim, result: FetchResult, requestedAt: number): Promise<TaskResult> {
    const { endings, guard, pauses } = this.#options;
    if (result.kind === "error") return endings.fail(route, claim, result.error, false);
    pauses.answered(claim.ref.provider, claim.ref.connection);
    if (result.kind === "object") guard.present(claim.ref);
    return this.#take(route, claim, result, requestedAt);
  }

  /**
   * Judges, hands over where that is called for, and settles: one async function, since each more takes some 900 bytes.
   * @param requestedAt when it was fetched; `undefined` for a row of a list
   */
  async #take(
    route: Route,
    claim: Claim,
    evidence: Evidence,
    requestedAt: number | undefined,
  ): Promise<TaskResult> {
    const { clock, endings } = this.#options;
    const { coalesceMs } = route.resource;
    const notBefore = coalesceMs > 0 && requestedAt !== undefined ? requestedAt + coalesceMs : undefined;
    try {
      const verdict = judge(route.resource, claim, evidence, clock.now());
      if (verdict.kind === "wait") return await endings.wait(route, claim, verdict);
      const startedAt = clock.monotonic();
      const done: Done = { claim, kind: "done", index: verdict.index, notBefore };
      let committed = false;
      if (verdict.kind === "handle") {
        if (verdict.change === "delete") await this.#refuseMassDelete(route, claim);
        const handling = this.#handlingOf(route).run({ claim, evidence, verdict, done });
        const handled = isPromise(handling) ? await handling : handling;
        if (!handled.ok) return await endings.fail(route, claim, handled.error, true);
        committed = handled.settled;
      }
      const outcome = committed ? endings.settled(route, done, "settled") : await endings.done(route, done);
      if (outcome === "lost") return { kind: "lost" };
      return this.#told(claim, verdict, startedAt);
    } catch (thrown) {
      return endings.fail(route, claim, asError(thrown), requestedAt === undefined);
    }
  }

  #told(claim: Claim, verdict: Exclude<Verdict, { kind: "wait" }>, startedAt: number): TaskResult {
    const { clock, hooks } = this.#options;
    const { attempt, eventCount, origin, ref } = claim;
    if (verdict.kind === "unchanged") {
      hooks.emit("change.unchanged", { ref, origin, eventCount });
      return { kind: "unchanged", index: verdict.index };
    }
    const { change, regressed } = verdict;
    const durationMs = clock.monotonic() - startedAt;
    hooks.emit("change.handled", { ref, kind: change, origin, attempt, eventCount, regressed, durationMs });
    return { kind: "handled", change, regressed };
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

  #handlingOf(route: Route): Handling {
    const known = this.#handlings.get(route.name);
    if (known !== undefined) return known;
    const made = this.#makeHandling(route);
    this.#handlings.set(route.name, made);
    return made;
  }

  #makeHandling(route: Route): Handling {
    const { deadlines, hooks, limits, redactor, session } = this.#options;
    const context: HandlingContext = {
      session,
      deadlines,
      commitTimeoutMs: limits.commitTimeoutMs,
      afterCommit: async ({ claim }, error) =>
        hooks.emit("error", {
          error: redactor.error(error, claim.ref),
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
