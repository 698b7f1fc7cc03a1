/**
 * What a handler receives: the authoritative object, or its deletion, with the events that led to it.
 *
 * @module
 */

import { insideCommit, refuseInsideCommit } from "./commit-scope.ts";
import { TrueupError } from "./errors.ts";
import type { ObjectRef, Origin, ReceivedEvent } from "./event.ts";
import type { Claim, Settlement, WorkSession } from "./store.ts";
import { withReceivedEvents } from "./stored-events.ts";
import type { Evidence, Verdict } from "./verdict.ts";
import { decodeVersion, type Version } from "./version.ts";

interface ChangeBase {
  readonly ref: ObjectRef;
  /** The object's version as `versionOf` gave it; for a deletion the last that is known. */
  readonly version: Version | undefined;
  /** What first made this work necessary. */
  readonly origin: Origin;
  /** True when this goes back behind what was handed over before, and the provider insists (I4). */
  readonly regressed: boolean;
  /**
   * The newest events since the last handling, oldest first, at most `maxEventsPerChange`. They are made when they are
   * first read, which throws `STORE_FAILED` where what the store has of them cannot be read.
   */
  readonly events: readonly ReceivedEvent[];
  /** How many events there were in truth. */
  readonly eventCount: number;
  /** Which attempt this is, from 1. */
  readonly attempt: number;
  /** Grows with each lease of the object: a number to guard writes elsewhere against a late, stale worker. */
  readonly fence: number;
  /** Aborts when the handler's time is up or the engine stops. */
  readonly signal: AbortSignal;
}

/** On a store without transactions, `commit` is not there. */
type Committing<Tx> = [Tx] extends [never]
  ? unknown
  : {
      /**
       * The user's writes, in the transaction that settles this work: both happen, or neither. At most once, and
       * before any other effect. Resolves with what `write` returned once it is durable.
       * @throws TrueupError `LEASE_LOST`, `COMMIT_TIMEOUT`, `COMMIT_TWICE`, `NESTED_COMMIT`; or what `write` threw. In
       *   each case nothing was written.
       */
      readonly commit: <Result>(write: (tx: Tx) => Result | Promise<Result>) => Promise<Result>;
    };

/** `kind` discriminates: an `"upsert"` has the `object`, a `"delete"` has none. */
export type Change<T = unknown, Tx = never> = ChangeBase &
  Committing<Tx> &
  (
    | { readonly kind: "upsert"; readonly object: T }
    | { readonly kind: "delete"; readonly object?: undefined }
  );

/**
 * Applies one change. Returning means applied; throwing means try again (see RetryLaterError and RejectError). It must
 * be idempotent: after a crash between its end and its settling it runs again, unless it wrote through `commit`.
 */
export type Handler<T = unknown, Tx = never> = (change: Change<T, Tx>) => unknown;

type BatchCommitting<T, Tx> = [Tx] extends [never]
  ? unknown
  : {
      /** As `change.commit`, for the whole batch. `live` are the changes whose lease still holds and that did not fail. */
      readonly commit: <Result>(
        write: (tx: Tx, live: readonly Change<T, Tx>[]) => Result | Promise<Result>,
      ) => Promise<Result>;
    };

export type Batch<T = unknown, Tx = never> = BatchCommitting<T, Tx> & {
  /** Marks one change as failed; the others go on. Before `commit`. */
  readonly fail: (change: Change<T, Tx>, error: unknown) => void;
  readonly signal: AbortSignal;
};

/** Applies many changes of one route at once, each of another object. If it throws, each is tried singly. */
export type BatchHandler<T = unknown, Tx = never> = (
  changes: readonly Change<T, Tx>[],
  batch: Batch<T, Tx>,
) => unknown;

/** A judged claim on its way to a handler. */
export interface HandlerTask {
  readonly claim: Claim;
  readonly evidence: Evidence;
  readonly verdict: Extract<Verdict, { kind: "handle" }>;
  /** What settles it when its handler succeeded. */
  readonly done: Settlement;
}

const NONE: ReadonlySet<HandlerTask> = new Set();

/** Runs one commit of the store for one or more tasks. At most once, and only while their handler runs. */
export class CommitOnce {
  readonly #session: WorkSession<unknown>;
  readonly #timeoutMs: number;
  #used = false;
  #closed = false;
  #underWay: Promise<unknown> | undefined;
  #committed: ReadonlySet<HandlerTask> = NONE;
  #lost: ReadonlySet<HandlerTask> = NONE;

  constructor(session: WorkSession<unknown>, timeoutMs: number) {
    this.#session = session;
    this.#timeoutMs = timeoutMs;
  }

  /** The tasks whose work was settled by the commit. */
  get committed(): ReadonlySet<HandlerTask> {
    return this.#committed;
  }

  /** The tasks that the commit was to settle, and whose lease was another's by then. */
  get lost(): ReadonlySet<HandlerTask> {
    return this.#lost;
  }

  /** @param signal the handler's: once it has aborted, the work is another's */
  async run<Result>(
    tasks: readonly HandlerTask[],
    write: (tx: unknown, live: readonly HandlerTask[]) => Result | Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result> {
    refuseInsideCommit("commit");
    if (this.#session.commit === undefined) {
      throw new TrueupError(
        "NOT_TRANSACTIONAL",
        "this store has no transactions: write before returning, and let the handler be idempotent",
      );
    }
    if (this.#used)
      throw new TrueupError("COMMIT_TWICE", "commit was called a second time for the same work");
    if (this.#closed || signal.aborted)
      throw new TrueupError("LEASE_LOST", "the handler of this work has ended: nothing was written");
    this.#used = true;
    let result: Result | undefined;
    let live: HandlerTask[] = [];
    this.#underWay = this.#session.commit(
      tasks.map((task) => task.done),
      async (tx, alive) => {
        live = tasks.filter((_, i) => alive[i]);
        result = await insideCommit(() => write(tx, live));
      },
      { timeoutMs: this.#timeoutMs },
    );
    try {
      await this.#underWay;
    } finally {
      this.#underWay = undefined;
    }
    this.#committed = new Set(live);
    this.#lost = new Set(tasks.filter((task) => !this.#committed.has(task)));
    return result as Result;
  }

  /**
   * The handler has ended: no commit begins any more. One that is under way, because nobody awaited it, comes to its end
   * first: the promise is its, and rejects with what it failed with. `undefined`: there is none.
   */
  close(): Promise<unknown> | undefined {
    this.#closed = true;
    return this.#underWay;
  }
}

/** The change of a task, as its handler sees it. */
export function makeChange(
  task: HandlerTask,
  signal: AbortSignal,
  commits: CommitOnce,
): Change<unknown, unknown> {
  const { claim, evidence, verdict } = task;
  const base = {
    ref: claim.ref,
    version: decodeVersion(verdict.index.version),
    origin: claim.origin,
    regressed: verdict.regressed,
    eventCount: claim.eventCount,
    attempt: claim.attempt,
    fence: claim.fence,
    signal,
    commit: <Result>(write: (tx: unknown) => Result | Promise<Result>) =>
      commits.run([task], (tx) => write(tx), signal),
  };
  return evidence.kind === "object"
    ? withReceivedEvents({ ...base, kind: "upsert", object: evidence.object }, claim)
    : withReceivedEvents({ ...base, kind: "delete" }, claim);
}
