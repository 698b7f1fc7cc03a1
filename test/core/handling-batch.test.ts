import { describe, expect, test } from "vitest";
import type { BatchHandler } from "../../src/core/change.ts";
import { TrueupError } from "../../src/core/errors.ts";
import type { Handling } from "../../src/core/handling.ts";
import { gate, rejection, thrownCode, turn } from "./fakes.ts";
import { handlingSetup, taskOf, TIMEOUT_MS } from "./handling-harness.ts";

type Changes = Parameters<BatchHandler<unknown, unknown>>[0];

const idsOf = (changes: Changes) => changes.map((change) => change.ref.id);
const runAll = (handling: Handling, ids: string[]) =>
  Promise.all(ids.map(async (id) => handling.run(taskOf(id))));

const settled = { ok: true, settled: true };
const unsettled = { ok: true, settled: false };

describe("gathering", () => {
  test("should give a quiet handler what is there, at once", async () => {
    const { batch } = handlingSetup();
    const batches: string[][] = [];
    const handling = batch((changes) => void batches.push(idsOf(changes)));
    expect(await runAll(handling, ["1"])).toEqual([unsettled]);
    expect(await runAll(handling, ["2", "3"])).toEqual([unsettled, unsettled]);
    expect(batches).toEqual([["1"], ["2", "3"]]);
  });

  test("should give a busy handler what has gathered meanwhile, in batches of its size", async () => {
    const { batch } = handlingSetup();
    const batches: string[][] = [];
    const first = gate();
    const handling = batch(
      async (changes) => {
        batches.push(idsOf(changes));
        if (batches.length === 1) await first.promise;
      },
      { size: 3 },
    );
    const one = handling.run(taskOf("1"));
    await turn();
    const others = runAll(handling, ["2", "3", "4", "5"]);
    await turn();
    expect(batches).toEqual([["1"]]);
    first.open();
    await Promise.all([one, others]);
    expect(batches).toEqual([["1"], ["2", "3", "4"], ["5"]]);
  });

  test("should run as many batches at once as it may", async () => {
    const { batch } = handlingSetup();
    let running = 0;
    let most = 0;
    const handling = batch(
      async () => {
        running += 1;
        most = Math.max(most, running);
        await turn();
        running -= 1;
      },
      { size: 1, concurrency: 2 },
    );
    await runAll(handling, ["1", "2", "3", "4", "5"]);
    expect([most, running]).toEqual([2, 0]);
  });
});

describe("a batch in which some fail", () => {
  test("should fail those that it names, and no other", async () => {
    const { batch } = handlingSetup();
    const handling = batch((changes, given) => given.fail(changes[1]!, "no such customer"));
    const [a, b, c] = await runAll(handling, ["1", "2", "3"]);
    expect([a, c]).toEqual([unsettled, unsettled]);
    expect(b).toMatchObject({ ok: false, error: { code: "HANDLER_FAILED", cause: "no such customer" } });
  });

  test("should be tried singly when it throws, so that each shows its own error", async () => {
    const { batch } = handlingSetup();
    const batches: string[][] = [];
    const handling = batch((changes) => {
      batches.push(idsOf(changes));
      if (idsOf(changes).includes("2")) throw new Error("2 is bad");
    });
    const [a, b, c] = await runAll(handling, ["1", "2", "3"]);
    expect([a, c]).toEqual([unsettled, unsettled]);
    expect(b).toMatchObject({ ok: false, error: { message: "2 is bad" } });
    expect(batches).toEqual([["1", "2", "3"], ["1"], ["2"], ["3"]]);
  });

  test("should not try again what it named before it threw", async () => {
    const { batch } = handlingSetup();
    const batches: string[][] = [];
    const handling = batch((changes, given) => {
      batches.push(idsOf(changes));
      if (changes.length === 1) return;
      given.fail(changes[0]!, new Error("named"));
      throw new Error("thrown");
    });
    const [a, b] = await runAll(handling, ["1", "2"]);
    expect(a).toMatchObject({ ok: false, error: { message: "named" } });
    expect(b).toEqual(unsettled);
    expect(batches).toEqual([["1", "2"], ["2"]]);
  });

  test("should not be tried twice where it was only one", async () => {
    const { batch } = handlingSetup();
    let calls = 0;
    const handling = batch(() => {
      calls += 1;
      throw new Error("bad");
    });
    expect(await runAll(handling, ["1"])).toMatchObject([{ ok: false, error: { message: "bad" } }]);
    expect(calls).toBe(1);
  });

  test("should refuse a change of another batch", async () => {
    const { batch } = handlingSetup();
    const earlier: Changes[number][] = [];
    const codes: (string | undefined)[] = [];
    const handling = batch((changes, given) => {
      if (earlier.length > 0) codes.push(thrownCode(() => given.fail(earlier[0]!, "not mine")));
      earlier.push(...changes);
    });
    await runAll(handling, ["1"]);
    expect(await runAll(handling, ["1"])).toEqual([unsettled]);
    expect(codes).toEqual(["OPTION_INVALID"]);
  });
});

describe("a batch that takes too long", () => {
  test("should be tried singly, and not hear any more of what it was given", async () => {
    const { batch, clock } = handlingSetup();
    const slow = gate();
    const late = gate<unknown>();
    const handling = batch(async (changes, given) => {
      if (changes.length === 1) {
        slow.open(); // the batch wakes up while its changes are tried singly
        await late.promise;
        return;
      }
      await slow.promise;
      expect(given.signal.aborted).toBe(true);
      for (const change of changes) given.fail(change, new Error("too late"));
      late.open(await rejection(given.commit(() => expect.unreachable())));
    });
    const results = runAll(handling, ["1", "2"]);
    await clock.advance(TIMEOUT_MS);
    expect(await results).toEqual([unsettled, unsettled]);
    expect(await late.promise).toMatchObject({ code: "LEASE_LOST" });
  });
});

describe("a batch's commit", () => {
  test("should settle all of it", async () => {
    const { batch, commits } = handlingSetup();
    const handling = batch((_, given) =>
      given.commit((tx, live) => expect([tx, live.length]).toEqual([{ tx: true }, 2])),
    );
    expect(await runAll(handling, ["1", "2"])).toEqual([settled, settled]);
    expect(commits).toEqual([["1", "2"]]);
  });

  test("should hand over only those whose lease still holds (I3)", async () => {
    const { batch, commits, lost } = handlingSetup();
    lost.add("2");
    const live: string[][] = [];
    const handling = batch((_, given) => given.commit((_tx, changes) => void live.push(idsOf(changes))));
    const [a, b, c] = await runAll(handling, ["1", "2", "3"]);
    expect([live, commits]).toEqual([[["1", "3"]], [["1", "3"]]]);
    expect([a, c]).toEqual([settled, settled]);
    expect(b).toMatchObject({ ok: false, error: { code: "LEASE_LOST" } });
  });

  test("should leave out those that were named as failed, which cannot fail any more afterwards", async () => {
    const { batch, commits } = handlingSetup();
    const codes: (string | undefined)[] = [];
    const handling = batch(async (changes, given) => {
      given.fail(changes[0]!, new Error("bad"));
      await given.commit((_, live) => expect(live).toEqual([changes[1]]));
      codes.push(thrownCode(() => given.fail(changes[1]!, new Error("late"))));
    });
    const [a, b] = await runAll(handling, ["1", "2"]);
    expect(a).toMatchObject({ ok: false, error: { message: "bad" } });
    expect([b, commits, codes]).toEqual([settled, [["2"]], ["OPTION_INVALID"]]);
  });

  test("should stand when the batch throws after it", async () => {
    const { batch, late, lost } = handlingSetup();
    lost.add("2");
    let calls = 0;
    const handling = batch(async (_, given) => {
      calls += 1;
      await given.commit(() => {});
      throw new Error("the mail was not sent");
    });
    const [a, b] = await runAll(handling, ["1", "2"]);
    expect([a, late, calls]).toEqual([settled, ["1: the mail was not sent"], 1]);
    expect(b).toMatchObject({ ok: false, error: { code: "LEASE_LOST" } });
  });

  test.each(["ends", "goes on to the next"])(
    "should settle one change alone where that one's own is called and the handler %s: the others are tried singly (I2)",
    async (then) => {
      const { batch, commits, late } = handlingSetup();
      const batches: string[][] = [];
      const handling = batch(async (changes) => {
        batches.push(idsOf(changes));
        for (const change of then === "ends" ? changes.slice(0, 1) : changes) await change.commit(() => {});
      });
      expect(await runAll(handling, ["1", "2", "3"])).toEqual([settled, settled, settled]);
      expect(batches).toEqual([["1", "2", "3"], ["2"], ["3"]]);
      expect(commits).toEqual([["1"], ["2"], ["3"]]);
      expect(late.map((line) => line.replace(/:.*/, ""))).toEqual(then === "ends" ? [] : ["1"]);
    },
  );

  test("should be tried singly when its writes fail, each in a commit of its own", async () => {
    const { batch, commits } = handlingSetup();
    const handling = batch((_, given) =>
      given.commit((_tx, live) => {
        if (idsOf(live).includes("2")) throw new Error("constraint");
      }),
    );
    const [a, b, c] = await runAll(handling, ["1", "2", "3"]);
    expect([a, c]).toEqual([settled, settled]);
    expect(b).toMatchObject({ ok: false, error: { message: "constraint" } });
    expect(commits).toEqual([["1"], ["3"]]);
  });
});

describe("losing the store", () => {
  test("should not try singly what it ended (I3)", async () => {
    const { batch } = handlingSetup();
    let calls = 0;
    const error = new TrueupError("STORE_LOST", "taken over");
    const handling = batch(() => {
      calls += 1;
      throw error;
    });
    expect(await runAll(handling, ["1", "2"])).toEqual([
      { ok: false, error },
      { ok: false, error },
    ]);
    expect(calls).toBe(1);
  });
});

describe("stopping", () => {
  test("should not try singly what it ended", async () => {
    const { batch, deadlines } = handlingSetup();
    let calls = 0;
    const handling = batch(() => {
      calls += 1;
      return gate().promise;
    });
    const results = runAll(handling, ["1", "2"]);
    await turn();
    const error = new TrueupError("STOPPED", "the engine is stopping");
    deadlines.abort(error);
    expect(await results).toEqual([
      { ok: false, error },
      { ok: false, error },
    ]);
    expect(calls).toBe(1);
  });
});
