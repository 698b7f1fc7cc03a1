import { describe, expect, test } from "vitest";
import { READ_TIMEOUT_MS, ReadDeadlines } from "../../../src/sources/webhook/read-deadlines.ts";
import { TestClock } from "../../../src/testing/test-clock.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("ReadDeadlines", () => {
  const begun = () => {
    const clock = new TestClock();
    const deadlines = new ReadDeadlines(clock);
    const expired: string[] = [];
    const begin = (name: string) => deadlines.begin(() => expired.push(name));
    return { clock, deadlines, expired, begin };
  };

  test("should set no timer for what ends within its turn", async () => {
    const { clock, deadlines, begin } = begun();
    deadlines.end(begin("a"));
    await turn();
    expect(clock.pendingTimers).toBe(0);
  });

  test("should expire each at its own time, with one timer for all", async () => {
    const { clock, expired, begin } = begun();
    begin("a");
    await turn();
    await clock.advance(4_000);
    begin("b");
    await turn();
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(READ_TIMEOUT_MS - 4_000);
    expect(expired).toEqual(["a"]);
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(3_999);
    expect(expired).toEqual(["a"]);
    await clock.advance(1);
    expect(expired).toEqual(["a", "b"]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should not expire what ended, and take its timer back when nothing is left", async () => {
    const { clock, deadlines, expired, begin } = begun();
    const [a, b] = [begin("a"), begin("b")];
    await turn();
    deadlines.end(a);
    expect(clock.pendingTimers).toBe(1);
    deadlines.end(b);
    deadlines.end(b);
    expect(clock.pendingTimers).toBe(0);
    begin("c");
    await turn();
    await clock.advance(READ_TIMEOUT_MS);
    expect(expired).toEqual(["c"]);
  });

  test("should time what begins while another expires", async () => {
    const { clock, deadlines, expired, begin } = begun();
    deadlines.begin(() => begin("b"));
    await turn();
    await clock.advance(READ_TIMEOUT_MS);
    await turn();
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(READ_TIMEOUT_MS);
    expect(expired).toEqual(["b"]);
    expect(clock.pendingTimers).toBe(0);
  });
});
