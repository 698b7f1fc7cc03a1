/**
 * The reconciler: lists a resource at the provider, compares each page with the index, and repairs what differs.
 *
 * A page, what it showed to differ and how far the pass got are one commit (I6). Differing objects that the page
 * brought whole go to the handler as they are; others are fetched. What is touched by anybody else meanwhile is left to
 * the normal road (I4).
 *
 * @module
 */

import { TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import type { PassRef } from "./hooks.ts";
import { emptyCounts, passKey, type PassMode, type ReconcileReport } from "./pass.ts";
import { PassRun, type PassParts, type PassRequest } from "./pass-run.ts";
import type { Pauses } from "./pauses.ts";
import type { Route } from "./registry.ts";
import { afterFailure, asError, codeOf } from "./retry.ts";
import { BUSY, type ScopeLocks } from "./scope-lock.ts";
import type { Lock } from "./store.ts";

export interface ReconcilerOptions extends PassParts {
  readonly pauses: Pauses;
  readonly locks: ScopeLocks;
}

interface Pass {
  readonly ref: PassRef;
  readonly run: (lock: Lock, signal: AbortSignal) => Promise<ReconcileReport>;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** Runs a pass to its end, or until its signal aborts; one at a time for each scope, over all processes. */
  reconcile(route: Route, scope: Scope, request: PassRequest): Promise<ReconcileReport> {
    const { locks } = this.#options;
    const pass = this.#passOf(route, scope, request);
    return this.#told(pass, route, request, () => locks.run(passLock(scope), request.signal, pass.run));
  }

  /**
   * The same for what an event announced, and without waiting for another holder, which can take hours: `BUSY`. A pass that
   * goes on where an earlier one stopped may have read its first pages before the event, and is then followed by one that
   * begins after it (I2).
   *
   * @param mark the store's counter at the event
   */
  async reconcileAfter(
    route: Route,
    scope: Scope,
    request: PassRequest,
    mark: number,
  ): Promise<ReconcileReport | typeof BUSY> {
    const { locks } = this.#options;
    for (;;) {
      let startMark = -Infinity;
      const heard = { ...request, onBegun: (begunAt: number) => (startMark = begunAt) };
      const pass = this.#passOf(route, scope, heard);
      const report = await this.#told(pass, route, heard, () =>
        locks.tryRun(passLock(scope), request.signal, pass.run),
      );
      if (report === BUSY || !report.complete || !report.resumed || startMark >= mark) return report;
    }
  }

  /**
   * The same for passes that many processes have on their schedules: one that another holder is at is not waited for,
   * only to be run once more; and whether it is still due is asked once the lock is held.
   * @returns whether it ran
   */
  async reconcileIfDue(
    route: Route,
    scope: Scope,
    request: PassRequest,
    isDue: () => Promise<boolean>,
  ): Promise<boolean> {
    const { locks } = this.#options;
    const pass = this.#passOf(route, scope, request);
    const result = await this.#told(pass, route, request, () =>
      locks.tryRun(passLock(scope), request.signal, async (lock, signal) =>
        (await isDue()) ? pass.run(lock, signal) : BUSY,
      ),
    );
    return result !== BUSY;
  }

  #passOf(route: Route, scope: Scope, request: PassRequest): Pass {
    requireList(route, request.mode);
    const ref: PassRef = { ...scope, mode: request.mode, purpose: "reconcile" };
    return {
      ref,
      run: (lock, signal) =>
        new PassRun(this.#options, { route, scope, request, pass: ref, lock, signal }).run(),
    };
  }

  /** Runs, and tells of what failed. */
  async #told<T>(
    { ref }: Pass,
    route: Route,
    { mode, signal }: PassRequest,
    run: () => Promise<T>,
  ): Promise<T | ReconcileReport> {
    try {
      return await run();
    } catch (thrown) {
      const error = asError(thrown);
      if (signal.aborted && error === signal.reason) return this.#notBegun(route, ref, mode);
      this.#options.hooks.emit("pass.failed", { ...ref, error });
      await this.#pauseFor(ref, error);
      throw error;
    }
  }

  /** The signal aborted while another pass had the lock. */
  #notBegun(route: Route, scope: Scope, mode: PassMode): ReconcileReport {
    const now = new Date(this.#options.clock.now());
    const checkpoint = { cursor: undefined, since: undefined };
    return {
      route: route.name,
      connection: scope.connection,
      mode,
      complete: false,
      resumed: false,
      ...emptyCounts(),
      startedAt: now,
      finishedAt: now,
      checkpoint,
    };
  }

  /** A page that was refused for its rate or its credentials pauses the connection, as a fetch would. */
  async #pauseFor(scope: Scope, error: Error): Promise<void> {
    const after = afterFailure(error, 1, this.#options.limits.retry, () => 0);
    if (after.kind !== "pause") return;
    await this.#options.pauses.obey(scope, after, codeOf(error));
  }
}

export function passLock(scope: Scope): string {
  return `${passKey(scope, "full")}:lock`;
}

export function requireList(route: Route, mode: PassMode): void {
  if (route.resource.list === undefined) {
    throw new TrueupError("NOT_SUPPORTED", `${route.name} has no \`list\`, so it cannot be reconciled`);
  }
  if (mode === "incremental" && !route.resource.incremental) {
    throw new TrueupError("NOT_SUPPORTED", `${route.name} has \`incremental: false\`: use mode "full"`);
  }
}
