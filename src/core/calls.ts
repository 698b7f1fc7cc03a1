/**
 * What callers ask an engine for: the options of its methods.
 *
 * @module
 */

import type { PassMode, ReconcileReport } from "./pass.ts";

/** The modes that a route's resource has: without `since` there is no incremental pass. */
export type ModeOf<Resource> = [Resource] extends [never]
  ? PassMode // an engine whose providers' types are not known
  : Resource extends { readonly incremental: infer Incremental }
    ? [Incremental] extends [false]
      ? "full"
      : PassMode
    : PassMode;

export interface ReconcileOptions<Mode extends PassMode = PassMode> {
  /** `"incremental"`: what changed since the last pass. `"full"`: everything, and what is missing from it is deleted. */
  readonly mode: Mode;
  /** One connection, or `"*"` for all. Needed where there are several. */
  readonly connection?: string | undefined;
  /** For incremental passes: instead of where the last one ended. */
  readonly since?: Date | undefined;
  /** @default the resource's */
  readonly pageSize?: number | undefined;
  /** Whom to tell: handlers of what differs, handlers of everything listed, or nobody (only the index learns). @default "changed" */
  readonly handle?: "changed" | "all" | "none" | undefined;
  /** Ends the pass after the page in work, with `complete: false`; the next call goes on from there. */
  readonly signal?: AbortSignal | undefined;
  /** The same, after a time in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Called after each page. */
  readonly onProgress?: ((report: ReconcileReport) => void) | undefined;
}

export interface VerifyOptions {
  readonly connection?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface ScheduleOptions<Mode extends PassMode = PassMode> {
  /** Milliseconds, or `"15m"`, `"24h"`; from the start of one pass to the next. */
  readonly every: number | string;
  readonly mode: Mode;
}

export interface WebhookOptions {
  /** The connection of this route, for a route per tenant. */
  readonly connection?: string | undefined;
  /** The platform's hook for work that outlives the answer (serverless): a `tick` runs in it. */
  readonly waitUntil?: ((work: Promise<unknown>) => void) | undefined;
}

export interface ConnectionOption {
  readonly connection?: string | undefined;
}
