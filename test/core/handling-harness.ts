/** Tasks, and a store session whose commits are remembered, to test what runs handlers. */

import type { BatchHandler, Handler, HandlerTask } from "../../src/core/change.ts";
import { Deadlines } from "../../src/core/deadline.ts";
import { TrueupError } from "../../src/core/errors.ts";
import { batchHandling, type HandlingContext, singleHandling } from "../../src/core/handling.ts";
import type { SettleOutcome, WorkSession } from "../../src/core/store.ts";
import { judge, objectEvidence } from "../../src/core/verdict.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { claimOf, refOf, resourceOf } from "./fakes.ts";

export const TIMEOUT_MS = 1_000;

export function taskOf(id: string): HandlerTask {
  const resource = resourceOf();
  const claim = claimOf({ ref: refOf(id), attempt: 2, eventCount: 3 });
  const evidence = objectEvidence(resource, { id, name: `contact ${id}`, rev: 5 }, "fetch");
  const verdict = judge(resource, claim, evidence, 0);
  if (verdict.kind !== "handle") throw new Error("a fresh object is handled");
  return { claim, evidence, verdict, done: { claim, kind: "done", index: verdict.index } };
}

export function handlingSetup() {
  const clock = new TestClock();
  const deadlines = new Deadlines(clock);
  /** Ids whose lease somebody else has by now. */
  const lost = new Set<string>();
  /** What each commit settled, by id. */
  const commits: string[][] = [];
  /** What came after a commit. */
  const late: string[] = [];
  const session = {
    commit: async (settlements, write): Promise<SettleOutcome[]> => {
      const ids = settlements.map(({ claim }) => claim.ref.id);
      const live = ids.map((id) => !lost.has(id));
      if (!live.includes(true)) throw new TrueupError("LEASE_LOST", "all are leased by others");
      await write({ tx: true }, live);
      commits.push(ids.filter((_, i) => live[i]));
      return live.map((is) => (is ? "settled" : "lost"));
    },
  } as Partial<WorkSession<unknown>> as WorkSession<unknown>;
  const context: HandlingContext = {
    session,
    deadlines,
    commitTimeoutMs: 5_000,
    afterCommit: async (task, error) => void late.push(`${task.claim.ref.id}: ${error.message}`),
  };
  return {
    clock,
    commits,
    context,
    deadlines,
    late,
    lost,
    single: (handler: Handler<unknown, unknown>, concurrency = 8) =>
      singleHandling(handler, { concurrency, timeoutMs: TIMEOUT_MS }, context),
    batch: (handler: BatchHandler<unknown, unknown>, options: { size?: number; concurrency?: number } = {}) =>
      batchHandling(handler, { size: 100, concurrency: 1, timeoutMs: TIMEOUT_MS, ...options }, context),
  };
}
