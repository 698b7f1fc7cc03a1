import { describe, expect, test } from "vitest";
import type { Change } from "../../src/core/change.ts";
import { insideCommit } from "../../src/core/commit-scope.ts";
import { TrueupError } from "../../src/core/errors.ts";
import { singleHandling } from "../../src/core/handling.ts";
import type { WorkSession } from "../../src/core/store.ts";
import { gate, rejection, turn } from "./fakes.ts";
import { handlingSetup, taskOf, TIMEOUT_MS } from "./handling-harness.ts";

type AnyChange = Change<unknown, unknown>;

describe("a handler of single changes", () => {
  test("should get the change that was judged", async () => {
    const { clock, single } = handlingSetup();
    const seen: AnyChange[] = [];
    const result = await single((change) => void seen.push(change)).run(taskOf("1"));
    expect(result).toEqual({ ok: true, settled: false });
    expect(seen[0]).toMatchObject({
      kind: "upsert",
      object: { id: "1", name: "contact 1" },
      ref: { provider: "crm", id: "1" },
      version: 5,
      attempt: 2,
      fence: 10,
      eventCount: 3,
      regressed: false,
    });
    expect(clock.pendingTimers).toBe(0);
  });

  test("should get a deletion without an object", async () => {
    const { single } = handlingSetup();
    const seen: AnyChange[] = [];
    const task = taskOf("1");
    await single((change) => void seen.push(change)).run({ ...task, evidence: { kind: "gone" } });
    expect(seen[0]).toMatchObject({ kind: "delete" });
    expect(seen[0]).not.toHaveProperty("object");
  });

  test("should fail with what it throws, now or later", async () => {
    const { single } = handlingSetup();
    const error = new Error("no");
    const now = single(() => {
      throw error;
    });
    const later = single(() => Promise.reject(error));
    expect(await now.run(taskOf("1"))).toEqual({ ok: false, error });
    expect(await later.run(taskOf("1"))).toEqual({ ok: false, error });
  });

  test("should fail when its time is up, with its signal aborted", async () => {
    const { clock, single } = handlingSetup();
    let signal: AbortSignal | undefined;
    const running = single((change) => {
      signal = change.signal;
      return gate().promise;
    }).run(taskOf("1"));
    await clock.advance(TIMEOUT_MS);
    const message = "the handler of crm.contact/1 did not end within 1000 ms";
    expect(await running).toMatchObject({ ok: false, error: { code: "HANDLER_TIMEOUT", message } });
    expect(signal?.aborted).toBe(true);
  });

  test("should run for as many changes at once as it may, and no more", async () => {
    const { single } = handlingSetup();
    let running = 0;
    let most = 0;
    const handling = single(async () => {
      running += 1;
      most = Math.max(most, running);
      await turn();
      running -= 1;
      if (most === 2) throw new Error("a failure frees its place too");
    }, 2);
    await Promise.all(["1", "2", "3", "4", "5"].map(async (id) => handling.run(taskOf(id))));
    expect([most, running]).toEqual([2, 0]);
  });
});

describe("a commit", () => {
  test("should settle the work together with the user's writes", async () => {
    const { commits, late, single } = handlingSetup();
    const handling = single(async (change) => {
      expect(await change.commit((tx) => ({ got: tx }))).toEqual({ got: { tx: true } });
    });
    expect(await handling.run(taskOf("1"))).toEqual({ ok: true, settled: true });
    expect([commits, late]).toEqual([[["1"]], []]);
  });

  test("should stand when the handler throws after it: that is told, and not tried again", async () => {
    const { late, single } = handlingSetup();
    const handling = single(async (change) => {
      await change.commit(() => {});
      throw new Error("the mail was not sent");
    });
    expect(await handling.run(taskOf("1"))).toEqual({ ok: true, settled: true });
    expect(late).toEqual(["1: the mail was not sent"]);
  });

  test("should settle nothing when the user's writes fail", async () => {
    const { commits, late, single } = handlingSetup();
    const handling = single((change) => change.commit(() => Promise.reject(new Error("constraint"))));
    expect(await handling.run(taskOf("1"))).toMatchObject({ ok: false, error: { message: "constraint" } });
    expect([commits, late]).toEqual([[], []]);
  });

  test("should happen once", async () => {
    const { commits, late, single } = handlingSetup();
    let second: unknown;
    const handling = single(async (change) => {
      await change.commit(() => {});
      second = await rejection(change.commit(() => expect.unreachable()));
    });
    expect(await handling.run(taskOf("1"))).toEqual({ ok: true, settled: true });
    expect(second).toMatchObject({ code: "COMMIT_TWICE" });
    expect([commits, late]).toEqual([[["1"]], []]);
  });

  test("should write nothing without the lease (I3)", async () => {
    const { lost, single } = handlingSetup();
    lost.add("1");
    const handling = single((change) => change.commit(() => expect.unreachable()));
    expect(await handling.run(taskOf("1"))).toMatchObject({ ok: false, error: { code: "LEASE_LOST" } });
  });

  test("should write nothing once the handler's time is up (I3)", async () => {
    const { clock, commits, single } = handlingSetup();
    const slow = gate();
    const late = gate<unknown>();
    const running = single(async (change) => {
      await slow.promise;
      late.open(await rejection(change.commit(() => expect.unreachable())));
    }).run(taskOf("1"));
    await clock.advance(TIMEOUT_MS);
    expect(await running).toMatchObject({ ok: false, error: { code: "HANDLER_TIMEOUT" } });
    slow.open();
    expect(await late.promise).toMatchObject({ code: "LEASE_LOST" });
    expect(commits).toEqual([]);
  });

  test("should write nothing once the handler has returned (I3)", async () => {
    const { commits, single } = handlingSetup();
    const kept: { commit?: (write: () => void) => Promise<unknown> } = {};
    const handling = single((change) => void Object.assign(kept, { commit: change.commit }));
    expect(await handling.run(taskOf("1"))).toEqual({ ok: true, settled: false });
    expect(await rejection(kept.commit!(() => expect.unreachable()))).toMatchObject({ code: "LEASE_LOST" });
    expect(commits).toEqual([]);
  });

  test("should write nothing from the very moment that its time is up (I3)", async () => {
    const { clock, commits, single } = handlingSetup();
    const late = gate<unknown>();
    const running = single((change) => {
      change.signal.addEventListener("abort", () => {
        late.open(rejection(change.commit(() => expect.unreachable())));
      });
      return new Promise(() => {});
    }).run(taskOf("1"));
    await clock.advance(TIMEOUT_MS);
    expect(await running).toMatchObject({ ok: false, error: { code: "HANDLER_TIMEOUT" } });
    expect(await late.promise).toMatchObject({ code: "LEASE_LOST" });
    expect(commits).toEqual([]);
  });

  test("should be waited for where the handler did not", async () => {
    const { commits, single } = handlingSetup();
    const handling = single((change) => {
      void change.commit(() => turn());
    });
    expect(await handling.run(taskOf("1"))).toEqual({ ok: true, settled: true });
    expect(commits).toEqual([["1"]]);
  });

  test("should be refused inside another one", async () => {
    const { single } = handlingSetup();
    const handling = single((change) => insideCommit(() => change.commit(() => {})));
    expect(await handling.run(taskOf("1"))).toMatchObject({ ok: false, error: { code: "NESTED_COMMIT" } });
  });

  test("should not be there on a store without transactions", async () => {
    const { context } = handlingSetup();
    const session = {} as WorkSession<unknown>;
    const options = { concurrency: 1, timeoutMs: TIMEOUT_MS };
    const handling = singleHandling((change) => change.commit(() => {}), options, { ...context, session });
    expect(await handling.run(taskOf("1"))).toMatchObject({
      ok: false,
      error: { code: "NOT_TRANSACTIONAL" },
    });
  });
});

describe("stopping", () => {
  test("should end the handlers that run, with its reason", async () => {
    const { deadlines, single } = handlingSetup();
    const handling = single(() => gate().promise);
    const running = handling.run(taskOf("1"));
    const error = new TrueupError("STOPPED", "the engine is stopping");
    deadlines.abort(error);
    expect(await running).toEqual({ ok: false, error });
    expect(await handling.run(taskOf("2"))).toEqual({ ok: false, error });
  });
});
