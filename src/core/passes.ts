/**
 * Passes on request: `engine.reconcile` and `engine.verify`, over one connection or all.
 *
 * @module
 */

import { abortable } from "./abortable.ts";
import type { ReconcileOptions, VerifyOptions } from "./calls.ts";
import type { Clock } from "./clock.ts";
import { type ConnectionRegistry, DEFAULT_CONNECTION } from "./connections.ts";
import { invalidOption, TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { positive } from "./options.ts";
import { type DriftReport, mergeDrift, mergeReports, type PassMode, type ReconcileReport } from "./pass.ts";
import { requireList } from "./reconciler.ts";
import type { Redactor } from "./redactor.ts";
import { requireHandler, type Route } from "./registry.ts";
import { asError } from "./retry.ts";
import { Semaphore } from "./semaphore.ts";
import type { Shift } from "./shift.ts";

/** What `connection` says where all are meant. */
export const ALL_CONNECTIONS = "*";

/** Connections under way at once where all are meant. */
const CONNECTIONS_AT_ONCE = 4;

export interface PassesOptions {
  readonly clock: Clock;
  readonly connections: ConnectionRegistry;
  readonly lifecycle: Lifecycle;
  readonly redactor: Redactor;
}

export class Passes {
  readonly #options: PassesOptions;

  constructor(options: PassesOptions) {
    this.#options = options;
  }

  async reconcile(route: Route, options: ReconcileOptions): Promise<ReconcileReport> {
    requireMode(route, options?.mode); // callers without types forget them
    const { handle = "changed", mode, onProgress, pageSize, since } = options;
    if (pageSize !== undefined) positive(pageSize, pageSize, "pageSize");
    if (since !== undefined && Number.isNaN(since.getTime()))
      throw invalidOption("`since` must be a valid Date");
    if (handle !== "none") requireHandler(route);
    const { clock } = this.#options;
    const reports = await this.#overConnections(
      route,
      options,
      (shift, scope, signal) =>
        shift.reconciler.reconcile(route, scope, { mode, handle, pageSize, since, signal, onProgress }),
      () => ({ ...mergeReports(route, mode, [], clock), complete: false }),
    );
    return options.connection === ALL_CONNECTIONS
      ? mergeReports(route, mode, reports, clock)
      : (reports[0] as ReconcileReport);
  }

  async verify(route: Route, options: VerifyOptions): Promise<DriftReport> {
    requireMode(route, "full");
    const reports = await this.#overConnections(
      route,
      options,
      (shift, scope, signal) => shift.verifier.verify(route, scope, signal),
      (reason) => {
        throw reason;
      },
    );
    return options.connection === ALL_CONNECTIONS
      ? mergeDrift(route, reports, this.#options.clock)
      : (reports[0] as DriftReport);
  }

  /**
   * The scope that a call means.
   * @throws TrueupError `CONNECTION_REQUIRED` where there are several connections and none was named
   */
  async scopeOf(route: Route, connection: string | undefined): Promise<Scope> {
    const provider = route.provider.name;
    if (connection === ALL_CONNECTIONS)
      throw invalidOption('`connection: "*"` is for passes: name one connection here');
    if (connection !== undefined) return { provider, connection, resource: route.resourceName };
    const listed = await this.#options.connections.list(provider);
    if (listed.length > 1) {
      throw new TrueupError(
        "CONNECTION_REQUIRED",
        `provider "${provider}" has ${listed.length} connections: name one, or "*" for a pass over all`,
      );
    }
    return { provider, connection: listed[0] ?? DEFAULT_CONNECTION, resource: route.resourceName };
  }

  /**
   * Runs over the connections that are meant, a few at once and all to their end; then throws what went wrong first.
   * @param early what is reported where the signal aborts before it is known which connections these are
   */
  async #overConnections<Report>(
    route: Route,
    options: VerifyOptions,
    run: (shift: Shift, scope: Scope, signal: AbortSignal) => Promise<Report>,
    early: (reason: Error) => Report,
  ): Promise<Report[]> {
    const { lifecycle, redactor } = this.#options;
    await lifecycle.ready();
    const permits = new Semaphore(CONNECTIONS_AT_ONCE);
    const settled = await this.#bounded(options, async (signal) => {
      const scopes = await this.#scopesOf(route, options.connection, signal).catch((thrown: unknown) => {
        if (!signal.aborted || thrown !== signal.reason) throw thrown;
      });
      if (scopes === undefined) return Promise.allSettled([early(signal.reason as Error)]);
      return lifecycle.inShift((shift) => {
        const both = AbortSignal.any([signal, shift.ended.signal]);
        const one = async (scope: Scope) => {
          await permits.acquire();
          try {
            return await run(shift, scope, both);
          } catch (thrown) {
            throw redactor.error(asError(thrown), scope);
          } finally {
            permits.release();
          }
        };
        return Promise.allSettled(scopes.map(one));
      });
    });
    return settled.map((outcome) => {
      if (outcome.status === "rejected") throw outcome.reason;
      return outcome.value;
    });
  }

  /** @param signal ends the waiting for the user's list */
  async #scopesOf(route: Route, connection: string | undefined, signal: AbortSignal): Promise<Scope[]> {
    if (connection === undefined) return [await abortable(this.scopeOf(route, connection), signal)];
    if (connection !== ALL_CONNECTIONS) return [await this.scopeOf(route, connection)];
    const { name } = route.provider;
    const connections = await abortable(this.#options.lifecycle.connectionsOf(name), signal);
    return connections.map((id) => ({ provider: name, connection: id, resource: route.resourceName }));
  }

  /** Runs under the caller's signal, a time limit, and the engine's stopping. */
  async #bounded<T>(
    { signal, timeoutMs }: VerifyOptions,
    run: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, lifecycle } = this.#options;
    const timeUp = new AbortController();
    const expire = () =>
      timeUp.abort(new TrueupError("API_TIMEOUT", `the pass did not end within ${timeoutMs} ms`));
    const cancel =
      timeoutMs === undefined
        ? undefined
        : clock.setTimer(expire, positive(timeoutMs, timeoutMs, "timeoutMs"));
    try {
      const signals = [timeUp.signal, lifecycle.stopSignal, ...(signal === undefined ? [] : [signal])];
      return await run(AbortSignal.any(signals));
    } finally {
      cancel?.();
    }
  }
}

/** @throws TrueupError `OPTION_INVALID`, `NOT_SUPPORTED` */
export function requireMode(route: Route, mode: unknown): asserts mode is PassMode {
  if (mode !== "incremental" && mode !== "full")
    throw invalidOption('`mode` must be "incremental" or "full"');
  requireList(route, mode);
}
