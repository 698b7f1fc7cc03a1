/**
 * Hands judged changes to the user's handler: singly, or gathered into batches, so many at once and no more.
 *
 * @module
 */

import {
  CommitOnce,
  makeChange,
  type Batch,
  type BatchHandler,
  type Change,
  type Handler,
  type HandlerTask,
} from "./change.ts";
import type { Deadlines } from "./deadline.ts";
import { TrueupError } from "./errors.ts";
import { describeRef } from "./event.ts";
import { isPromise, type MaybePromise } from "./maybe-promise.ts";
import { asError } from "./retry.ts";
import { Semaphore } from "./semaphore.ts";
import type { WorkSession } from "./store.ts";

export interface HandlerOptions {
  /** How many runs at once. @default the engine's `concurrency`; for batches 1 */
  readonly concurrency: number;
  /** How long a run may take before it counts as failed and its signal aborts, in milliseconds. @default 30_000 */
  readonly timeoutMs: number;
}

export interface BatchHandlerOptions extends HandlerOptions {
  /** Most changes of one batch. @default 100 */
  readonly size: number;
}

/** How a task came out. */
export type HandlingResult =
  /** `settled`: its handler committed, so that there is nothing left to settle. */
  { readonly ok: true; readonly settled: boolean } | { readonly ok: false; readonly error: Error };

/** What runs a handler needs. */
export interface HandlingContext {
  readonly session: WorkSession<unknown>;
  readonly deadlines: Deadlines;
  readonly commitTimeoutMs: number;
  /** Hears of an error that came after a commit, when the work was already done. */
  readonly afterCommit: (task: HandlerTask, error: Error) => Promise<void>;
}

/** Runs tasks of one route. */
export interface Handling {
  run(task: HandlerTask): MaybePromise<HandlingResult>;
}

const HANDLED: HandlingResult = { ok: true, settled: false };

export function singleHandling(
  handler: Handler<unknown, unknown>,
  options: HandlerOptions,
  context: HandlingContext,
): Handling {
  const permits = new Semaphore(options.concurrency);

  const begin = (task: HandlerTask): MaybePromise<HandlingResult> => {
    const commits = new CommitOnce(context.session, context.commitTimeoutMs);
    const running = context.deadlines.run(
      options.timeoutMs,
      "HANDLER_TIMEOUT",
      () => `the handler of ${describeRef(task.claim.ref)}`,
      (signal) => handler(makeChange(task, signal, commits)),
    );
    if (isPromise(running) || commits.close() !== undefined) return end(task, running, commits);
    permits.release();
    return HANDLED;
  };

  const end = async (
    task: HandlerTask,
    running: MaybePromise<unknown>,
    commits: CommitOnce,
  ): Promise<HandlingResult> => {
    try {
      await running;
      await commits.close();
      return { ok: true, settled: commits.committed.has(task) };
    } catch (thrown) {
      const error = asError(thrown);
      await commits.close()?.catch(() => {}); // nothing was written, and the handler's own failure says more
      if (!commits.committed.has(task)) return { ok: false, error };
      await context.afterCommit(task, error);
      return { ok: true, settled: true };
    } finally {
      permits.release();
    }
  };

  return {
    run: (task) => (permits.tryAcquire() ? begin(task) : permits.acquire().then(() => begin(task))),
  };
}

/**
 * Gathers tasks while all runs of the handler are busy, and gives the next run as many as it takes: a quiet queue is
 * handled at once, a busy one in full batches.
 */
export function batchHandling(
  handler: BatchHandler<unknown, unknown>,
  options: BatchHandlerOptions,
  context: HandlingContext,
): Handling {
  let waiting: { task: HandlerTask; resolve: (result: HandlingResult) => void }[] = [];
  let running = 0;
  let flushing = false;

  const flush = () => {
    flushing = false;
    while (waiting.length > 0 && running < options.concurrency) {
      const batch = waiting.slice(0, options.size);
      waiting = waiting.slice(options.size);
      running += 1;
      void runBatch(
        batch.map((entry) => entry.task),
        handler,
        options.timeoutMs,
        context,
      ).then((results) => {
        running -= 1;
        batch.forEach((entry) => entry.resolve(results.get(entry.task) as HandlingResult));
        flushSoon();
      });
    }
  };
  // Tasks of one claim arrive over several turns of the microtask queue: the turn of the event loop gathers them.
  const flushSoon = () => {
    if (flushing) return;
    flushing = true;
    setImmediate(flush);
  };

  return {
    run: (task) =>
      new Promise((resolve) => {
        waiting.push({ task, resolve });
        flushSoon();
      }),
  };
}

async function runBatch(
  tasks: readonly HandlerTask[],
  handler: BatchHandler<unknown, unknown>,
  timeoutMs: number,
  context: HandlingContext,
): Promise<Map<HandlerTask, HandlingResult>> {
  const commits = new CommitOnce(context.session, context.commitTimeoutMs);
  const results = new Map<HandlerTask, HandlingResult>();
  let thrown: Error | undefined;
  try {
    await context.deadlines.run(
      timeoutMs,
      "HANDLER_TIMEOUT",
      () => `a batch of ${tasks.length} changes`,
      (signal) => handler(...batchArguments(tasks, signal, commits, results)),
    );
    await commits.close();
  } catch (error) {
    thrown = asError(error);
    await commits.close()?.catch(() => {});
  }
  for (const task of tasks) {
    if (commits.committed.has(task)) {
      if (thrown !== undefined) await context.afterCommit(task, thrown);
      results.set(task, { ok: true, settled: true });
    } else if (!results.has(task)) {
      results.set(task, await resultOf(task, thrown, tasks.length, handler, timeoutMs, context, commits));
    }
  }
  return results;
}

/** A task that its batch neither failed by name nor committed. */
async function resultOf(
  task: HandlerTask,
  thrown: Error | undefined,
  batchSize: number,
  handler: BatchHandler<unknown, unknown>,
  timeoutMs: number,
  context: HandlingContext,
  commits: CommitOnce,
): Promise<HandlingResult> {
  if (commits.lost.has(task))
    return {
      ok: false,
      error: new TrueupError("LEASE_LOST", `${describeRef(task.claim.ref)} is leased by another`),
    };
  // A change's own commit has used up the one that its batch has, so that nothing was written for the others.
  const leftOut = commits.committed.size > 0;
  if (thrown === undefined && !leftOut) return { ok: true, settled: false };
  // One bad change must not fail the batch's others: each is tried alone, and shows its own error.
  if (thrown !== undefined && (batchSize === 1 || isAbort(thrown))) return { ok: false, error: thrown };
  const alone = await runBatch([task], handler, timeoutMs, context);
  return alone.get(task) as HandlingResult;
}

function isAbort(error: Error): boolean {
  return error instanceof TrueupError && (error.code === "STOPPED" || error.code === "STORE_LOST");
}

function batchArguments(
  tasks: readonly HandlerTask[],
  signal: AbortSignal,
  commits: CommitOnce,
  results: Map<HandlerTask, HandlingResult>,
): [Change<unknown, unknown>[], Batch<unknown, unknown>] {
  const taskOf = new Map<Change<unknown, unknown>, HandlerTask>();
  for (const task of tasks) taskOf.set(makeChange(task, signal, commits), task);
  const changeOf = new Map([...taskOf].map(([change, task]) => [task, change]));
  const batch: Batch<unknown, unknown> = {
    signal,
    fail(change, error) {
      const task = taskOf.get(change);
      if (task === undefined)
        throw new TrueupError("OPTION_INVALID", "batch.fail takes a change of this batch");
      if (commits.committed.has(task))
        throw new TrueupError("OPTION_INVALID", "this change was committed and cannot fail any more");
      if (signal.aborted) return; // the batch was given up: its changes are being tried singly
      results.set(task, { ok: false, error: asError(error) });
    },
    commit: (write) =>
      commits.run(
        tasks.filter((task) => !results.has(task)),
        (tx, live) =>
          write(
            tx,
            live.map((task) => changeOf.get(task) as Change<unknown, unknown>),
          ),
        signal,
      ),
  };
  return [[...taskOf.keys()], batch];
}
