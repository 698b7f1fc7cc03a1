import { describe, expect, test } from "vitest";
import type { Shift } from "../../src/core/shift.ts";
import { ShiftShare } from "../../src/core/shift-share.ts";

/** As much of a shift as its holders share. */
class FakeShift implements Pick<Shift, "end" | "ended" | "holders" | "over"> {
  readonly ended = new AbortController();
  holders = 0;
  over = false;

  async end(): Promise<void> {
    this.over = true;
  }
}

function share() {
  const begun: FakeShift[] = [];
  const shifts = new ShiftShare(async () => {
    const shift = new FakeShift();
    begun.push(shift);
    return shift as unknown as Shift;
  });
  return { begun, shifts };
}

describe("a shift that several share", () => {
  test("should begin with the first, end with the last, and begin anew for the next", async () => {
    const { begun, shifts } = share();
    const [first, second] = await Promise.all([shifts.join(), shifts.join()]);
    expect(first).toBe(second);
    await shifts.leave(first);
    expect(begun[0]).toMatchObject({ holders: 1, over: false });
    await shifts.leave(second);
    expect(begun[0]).toMatchObject({ holders: 0, over: true });
    expect(await shifts.join()).not.toBe(first);
    expect(begun).toHaveLength(2);
  });

  test("should not be joined by who comes in the moment in which the last leaves", async () => {
    const { begun, shifts } = share();
    const first = await shifts.join();
    const joining = shifts.join();
    await shifts.leave(first);
    expect(await joining).toMatchObject({ holders: 1, over: false });
    expect(begun).toHaveLength(2);
  });

  test("should not be joined once it was taken over, though others hold it still", async () => {
    const { begun, shifts } = share();
    const first = await shifts.join();
    first.ended.abort();
    expect(await shifts.join()).not.toBe(first);
    await shifts.leave(first);
    expect(await shifts.join()).toBe(begun[1]);
  });

  test("should be left by all before anybody hears so, also where it could not begin", async () => {
    let fails = true;
    const shifts = new ShiftShare(async () => {
      if (fails) throw new Error("in use");
      return new FakeShift() as unknown as Shift;
    });
    await expect(shifts.join()).rejects.toThrow("in use");
    await shifts.allLeft();
    fails = false;
    const shift = await shifts.join();
    let told = false;
    const left = shifts.allLeft().then(() => (told = true));
    await new Promise(setImmediate);
    expect(told).toBe(false);
    await shifts.leave(shift);
    await left;
  });
});
