import { describe, expect, test } from "vitest";
import { batcher } from "../../src/core/batcher.ts";
import { gate, rejection, turn } from "./fakes.ts";

/** A batcher whose runs are remembered. */
function recorded(maxItems?: number) {
  const runs: number[][] = [];
  const call = batcher<number, string>(async (items) => {
    runs.push(items);
    return items.map((item) => `result ${item}`);
  }, maxItems);
  return { call, runs };
}

describe("calls of one turn of the event loop", () => {
  test("should share one run, and each get its own result", async () => {
    const { call, runs } = recorded();
    const [a, b] = [call(1), call(2)];
    await Promise.resolve(); // another microtask is still the same turn
    const c = call(3);
    expect(runs).toEqual([]);
    expect(await Promise.all([a, b, c])).toEqual(["result 1", "result 2", "result 3"]);
    expect(runs).toEqual([[1, 2, 3]]);
  });

  test("should not be joined by calls of the next turn", async () => {
    const { call, runs } = recorded();
    await call(1);
    await call(2);
    expect(runs).toEqual([[1], [2]]);
  });

  test("should be split where they are too many for one run", async () => {
    const { call, runs } = recorded(2);
    const results = await Promise.all([1, 2, 3, 4, 5].map(call));
    expect(runs).toEqual([[1, 2], [3, 4], [5]]);
    expect(results).toEqual([1, 2, 3, 4, 5].map((n) => `result ${n}`));
  });
});

describe("a run", () => {
  test("should not hold up the next one", async () => {
    const first = gate();
    const runs: string[][] = [];
    const call = batcher<string, string>(async (items) => {
      runs.push(items);
      if (items.includes("slow")) await first.promise;
      return items;
    });
    const slow = call("slow");
    await turn();
    expect(await call("fast")).toBe("fast");
    first.open();
    expect(await slow).toBe("slow");
    expect(runs).toEqual([["slow"], ["fast"]]);
  });

  test("should fail all of its calls, and only those", async () => {
    const call = batcher<number, number>(async (items) => {
      if (items.includes(1)) throw new Error("the disk is full");
      return items;
    }, 2);
    const [a, b, c] = [call(1), call(2), call(3)];
    expect((await rejection(a)).message).toBe("the disk is full");
    expect((await rejection(b)).message).toBe("the disk is full");
    expect(await c).toBe(3);
    expect(await call(4)).toBe(4);
  });

  test("should fail its calls when it throws before it waits", async () => {
    const call = batcher<number, number>(() => {
      throw new Error("at once");
    });
    expect((await rejection(call(1))).message).toBe("at once");
  });
});
