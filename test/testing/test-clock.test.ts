import { describe, expect, it } from "vitest";
import { sleep } from "../../src/core/clock.ts";
import { TestClock } from "../../src/testing/index.ts";

describe("TestClock", () => {
  it("should stand still until it is moved", async () => {
    const clock = new TestClock(1_000);
    await clock.settle();
    expect([clock.now(), clock.monotonic()]).toEqual([1_000, 0]);
    await clock.advance(250);
    expect([clock.now(), clock.monotonic()]).toEqual([1_250, 250]);
  });

  it("should fire timers in order, each at its own moment", async () => {
    const clock = new TestClock(0);
    const fired: string[] = [];
    const set = (name: string, delayMs: number) =>
      clock.setTimer(() => fired.push(`${name} at ${clock.now()}`), delayMs);
    set("late", 300);
    set("early", 100);
    set("also early", 100);
    set("at once", 0);
    set("negative", -5);
    await clock.advance(299);
    expect(fired).toEqual(["at once at 0", "negative at 0", "early at 100", "also early at 100"]);
    expect([clock.pendingTimers, clock.nextTimerInMs]).toEqual([1, 1]);
    await clock.advance(1);
    expect(fired.at(-1)).toBe("late at 300");
    expect([clock.pendingTimers, clock.nextTimerInMs]).toEqual([0, undefined]);
  });

  it("should let promises set the next timer within one span", async () => {
    const clock = new TestClock(0);
    const woken: number[] = [];
    const loop = (async () => {
      for (let round = 0; round < 3; round += 1) {
        await sleep(clock, 100);
        woken.push(clock.now());
      }
    })();
    await clock.advance(350);
    await loop;
    expect(woken).toEqual([100, 200, 300]);
    expect(clock.now()).toBe(350);
  });

  it("should not fire what was cancelled", async () => {
    const clock = new TestClock();
    const fired: string[] = [];
    const cancel = clock.setTimer(() => fired.push("cancelled"), 10);
    clock.setTimer(() => fired.push("kept"), 10);
    cancel();
    cancel();
    await clock.advance(10);
    expect(fired).toEqual(["kept"]);
  });

  it("should set the wall clock without the timers noticing", async () => {
    const clock = new TestClock(1_000_000);
    let fired = false;
    clock.setTimer(() => {
      fired = true;
    }, 100);
    clock.setWallClock(0);
    expect([clock.now(), clock.monotonic()]).toEqual([0, 0]);
    await clock.advance(99);
    expect(fired).toBe(false);
    await clock.advance(1);
    expect([fired, clock.now(), clock.monotonic()]).toEqual([true, 100, 100]);
  });
});
