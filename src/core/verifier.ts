/**
 * Compares a resource with the index and repairs nothing: how far the user's copy has drifted, and a proof when it has
 * not.
 *
 * @module
 */

import { TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import type { PassRef } from "./hooks.ts";
import { listPages, type ListedPage } from "./lister.ts";
import { MOST_SAMPLES, newCycle, passKey, type DriftReport, type DriftSample } from "./pass.ts";
import { requireList, type ReconcilerOptions } from "./reconciler.ts";
import type { Route } from "./registry.ts";
import { comparePage, type DifferingRow } from "./repair.ts";
import { asError } from "./retry.ts";
import type { Lock } from "./store.ts";
import { sameContent } from "./verdict.ts";

/** Rows that are looked at together, and candidates for `extra` that are fetched together. */
const STEP = 100;

interface Drift {
  listed: number;
  missing: number;
  stale: number;
  extra: number;
  pending: number;
  readonly samples: DriftSample[];
}

export class Verifier {
  readonly #options: ReconcilerOptions;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** Reads the whole list once. It writes only what it has seen, while it runs, and one row of history. */
  async verify(route: Route, scope: Scope, signal: AbortSignal): Promise<DriftReport> {
    requireList(route, "full");
    const { clock, hooks, locks } = this.#options;
    const pass: PassRef = { ...scope, mode: "full", purpose: "verify" };
    const startedAt = new Date(clock.now());
    try {
      const key = passKey(scope, "verify");
      return await locks.run(`${key}:lock`, signal, async (lock, held) => {
        hooks.emit("pass.started", { ...pass, resumed: false, backfill: false });
        const began = clock.monotonic();
        const drift = await this.#compare(route, scope, key, lock, held);
        const durationMs = clock.monotonic() - began;
        hooks.emit("pass.finished", {
          ...pass,
          complete: true,
          listed: drift.listed,
          repaired: 0,
          deleted: 0,
          durationMs,
        });
        return {
          route: route.name,
          connection: scope.connection,
          ...drift,
          startedAt,
          finishedAt: new Date(clock.now()),
        };
      });
    } catch (thrown) {
      hooks.emit("pass.failed", { ...pass, error: asError(thrown) });
      throw thrown;
    }
  }

  async #compare(route: Route, scope: Scope, key: string, lock: Lock, signal: AbortSignal): Promise<Drift> {
    const { apis, clock, deadlines, limits, session, store } = this.#options;
    const drift: Drift = { listed: 0, missing: 0, stale: 0, extra: 0, pending: 0, samples: [] };
    await store.endPass(scope, key, lock, null);
    const startMark = await store.counter(scope);
    const pages = listPages(
      {
        scope,
        resource: route.resource,
        since: null,
        limit: route.resource.pageSize,
        cursor: null,
        cycle: newCycle(),
        mark: () => store.counter(scope),
        onRequest: () => {},
        signal,
      },
      { apis, deadlines, fetchTimeoutMs: limits.fetchTimeoutMs },
    );
    let unreadable: Error | undefined;
    for await (const page of pages) {
      signal.throwIfAborted();
      unreadable ??= page.unreadable[0];
      await this.#page(route, scope, page, drift, signal);
      const seen = page.rows.map((row) => row.id);
      await session.recordPage({
        scope,
        pass: key,
        lock,
        mark: page.mark,
        seen,
        differing: [],
        lease: false,
        checkpoint: "{}",
      });
    }
    if (unreadable !== undefined) {
      throw new TrueupError(
        "LIST_INVALID",
        `rows of ${route.name} have no id that can be read, so nothing is proved`,
        { cause: unreadable },
      );
    }
    await this.#extra(route, scope, key, startMark, drift, signal);
    await store.endPass(scope, key, lock, JSON.stringify({ at: clock.now(), ...drift }));
    return drift;
  }

  async #page(
    route: Route,
    scope: Scope,
    page: ListedPage,
    drift: Drift,
    signal: AbortSignal,
  ): Promise<void> {
    drift.listed += page.rows.length;
    const compared = await comparePage(this.#options.store, route, scope, page);
    for (let from = 0; from < compared.length; from += STEP) {
      signal.throwIfAborted();
      const step = compared.slice(from, from + STEP);
      const kinds = await Promise.all(step.map((entry) => this.#kindOf(route, scope, entry)));
      for (const [i, kind] of kinds.entries()) {
        if (kind === undefined) continue;
        drift[kind] += 1;
        if (kind !== "pending") sample(drift, (step[i] as DifferingRow).row.id, kind);
      }
    }
  }

  async #kindOf(
    route: Route,
    scope: Scope,
    entry: DifferingRow,
  ): Promise<"missing" | "stale" | "pending" | undefined> {
    if (entry.busy) return "pending";
    const { comparison, index, row } = entry;
    if (comparison === "same" || comparison === "adopted") return undefined;
    if (comparison === "missing" || (comparison === "stale" && row.kind === "object")) return comparison;
    // The row alone cannot tell: what a fetch says is compared instead, as the reconciler would.
    const result = await this.#options.fetcher.one(route.resource, { ...scope, id: row.id }, "repair");
    switch (result.kind) {
      case "error":
        throw result.error;
      case "gone":
        return undefined; // it went between list and fetch; the index's side of it is `extra`
      case "object":
        if (index?.state !== "present") return "missing";
        return sameContent(index, result) ? undefined : "stale";
    }
  }

  async #extra(
    route: Route,
    scope: Scope,
    key: string,
    mark: number,
    drift: Drift,
    signal: AbortSignal,
  ): Promise<void> {
    const { fetcher, store } = this.#options;
    let after: string | undefined;
    for (;;) {
      signal.throwIfAborted();
      const found = await store.unseen(scope, key, { mark, after, limit: STEP });
      const last = found.at(-1);
      if (last === undefined) return;
      after = last.position;
      const ids = found.map((candidate) => candidate.id);
      for (const [i, result] of (await fetcher.many(route.resource, scope, ids, "repair")).entries()) {
        if (result.kind === "error") throw result.error;
        if (result.kind !== "gone") continue;
        drift.extra += 1;
        sample(drift, ids[i] as string, "extra");
      }
    }
  }
}

function sample(drift: Drift, id: string, kind: DriftSample["kind"]): void {
  if (drift.samples.length < MOST_SAMPLES) drift.samples.push({ id, kind });
}
