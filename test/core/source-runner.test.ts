import { describe, expect, test } from "vitest";
import { SourceRunner } from "../../src/core/source-runner.ts";
import type { Sink, Source } from "../../src/core/source.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { recording } from "./fakes.ts";

const sink: Sink = async () => [];
const stopping = new Error("stopping");

/** Runs a source; the random number is always the highest, so that delays are their ceilings. */
function setup(run: Source["run"]) {
  const clock = new TestClock();
  const { hooks, told } = recording();
  let runs = 0;
  const source: Source = {
    name: "queue",
    run: (given, signal) => {
      runs += 1;
      return run(given, signal);
    },
  };
  const runner = new SourceRunner({ sources: [source], sink, clock, random: () => 1, hooks });
  return { clock, runner, runs: () => runs, told };
}

/** Runs until it is aborted, as a source should. */
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));

describe("a source", () => {
  test("should run with the sink until the engine stops", async () => {
    let given: Sink | undefined;
    const { runner, runs, told } = setup(async (to, signal) => {
      given = to;
      await untilAborted(signal);
    });
    runner.start();
    runner.start();
    expect([given, runs()]).toEqual([sink, 1]);
    await runner.stop(stopping);
    expect(told["source.failed"]).toEqual([]);
  });

  test("should be waited for while it stops", async () => {
    const ended: string[] = [];
    const { clock, runner } = setup(async (_, signal) => {
      await untilAborted(signal);
      await clock.settle();
      ended.push("source");
      throw new Error("not worth telling any more");
    });
    runner.start();
    await runner.stop(stopping);
    ended.push("runner");
    expect(ended).toEqual(["source", "runner"]);
  });

  test("should not run when stopped before it started", async () => {
    const { runner, runs } = setup(async () => {});
    await runner.stop(stopping);
    runner.start();
    expect(runs()).toBe(0);
  });
});

describe("a source that fails", () => {
  test("should be told of and started again, later each time, up to a minute", async () => {
    const { clock, runner, runs, told } = setup(async () => {
      throw new Error("the broker is down");
    });
    runner.start();
    await clock.advance(200_000);
    const delays = told["source.failed"].map(({ retryInMs }) => retryInMs);
    expect(delays.slice(0, 8)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect(told["source.failed"][0]).toMatchObject({
      source: "queue",
      error: { message: "the broker is down" },
    });
    expect(runs()).toBe(delays.length);
    await runner.stop(stopping);
    expect(clock.pendingTimers).toBe(0);
  });

  test.each<[string, Source["run"], string]>([
    ["ends by itself", async () => {}, 'source "queue" ended by itself'],
    [
      "throws before it waits",
      () => {
        throw new Error("at once");
      },
      "at once",
    ],
  ])("should be taken for one that %s too", async (_, run, message) => {
    const { clock, runner, told } = setup(run);
    runner.start();
    await clock.settle();
    expect(told["source.failed"]).toMatchObject([{ error: { message } }]);
    await runner.stop(stopping);
  });

  test("should begin its backoff anew after it ran well for a while", async () => {
    let wellForMs = 0;
    const world = setup(async (_, signal) => {
      if (wellForMs > 0) {
        await new Promise<void>((resolve) => {
          world.clock.setTimer(resolve, wellForMs);
          signal.addEventListener("abort", () => resolve());
        });
      }
      throw new Error("the broker is down");
    });
    world.runner.start();
    await world.clock.advance(7_000); // three failures, the fourth now
    wellForMs = 60_001;
    await world.clock.advance(8_000 + 60_001);
    const delays = world.told["source.failed"].map(({ retryInMs }) => retryInMs);
    expect(delays).toEqual([1_000, 2_000, 4_000, 8_000, 1_000]);
    await world.runner.stop(stopping);
  });

  test("should not hold the others up", async () => {
    const clock = new TestClock();
    const { hooks } = recording();
    let ran = false;
    const sources: Source[] = [
      { name: "bad", run: () => Promise.reject(new Error("down")) },
      {
        name: "good",
        run: (_, signal) => {
          ran = true;
          return untilAborted(signal);
        },
      },
    ];
    const runner = new SourceRunner({ sources, sink, clock, random: () => 1, hooks });
    runner.start();
    await clock.settle();
    expect(ran).toBe(true);
    await runner.stop(stopping);
  });
});
