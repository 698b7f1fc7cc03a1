/** What a process of a cluster is told when it starts, and what it says then. */
import type { ClusterStoreName } from "./stores.ts";

export interface ClusterConfig {
  readonly store: ClusterStoreName;
  /** Where the store is. */
  readonly url: string;
  /** What the store has to itself there. */
  readonly space: string;
  /** Number of this process; no other has it, not even one that takes its place. */
  readonly member: number;
  /** The provider's base URL. */
  readonly api: string;
  readonly leaseMs: number;
  readonly concurrency: number;
  /** How long a handler takes at most, in milliseconds. */
  readonly handlerMs: number;
  /** How often notes are reconciled. */
  readonly every?: string | undefined;
  /** How often the feed is polled. */
  readonly pollEvery?: string | undefined;
  /** Requests in a second, of all processes together. */
  readonly requestsPerSecond?: number | undefined;
}

export type ClusterAsk = { readonly ask: "drain" | "retire" };

export type ClusterTold = "listening" | "working" | "silent" | "sent" | "pass";

export interface ToldPass {
  readonly end: "complete" | "incomplete" | "failed";
  readonly code: string | undefined;
}

/** A request to the API, and when it left, in milliseconds of a clock that all processes share. */
export interface ToldRequest {
  readonly path: string;
  /** Right before it was decided that it may. */
  readonly decidedAt: number;
  readonly at: number;
}

/** A handler's run, as it tells the provider of it. */
export interface Run {
  readonly member: number;
  readonly id: string;
  readonly fence: number;
  /** -1: the object is gone. */
  readonly rev: number;
}
