import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SlidingWindow } from "../../src/http/sliding-window.ts";

describe("a sliding window", () => {
  test("should never have more in any window at the provider, whatever the delays on the way", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        // Of each request: how long after the last it is wanted, how long to the provider, and how long back.
        fc.array(fc.tuple(fc.nat(400), fc.nat(40), fc.nat(400)), { minLength: 1, maxLength: 60 }),
        (requests, wanted) => {
          const windowMs = 1_000;
          const window = new SlidingWindow(requests, windowMs);
          const answers: { at: number; tell: () => void }[] = [];
          const arrivals: number[] = [];
          let now = 0;
          let permits = requests;
          const passTo = (at: number) => {
            for (const answer of answers.toSorted((a, b) => a.at - b.at)) {
              if (answer.at <= at) answer.tell();
            }
            now = Math.max(now, at);
            permits += window.returned(now);
          };
          for (const [gap, there, back] of wanted) {
            passTo(now + gap);
            const waitForPermit = () => permits === 0;
            while (waitForPermit()) passTo(window.nextReturn() ?? Number.NaN);
            permits -= 1;
            const start = window.start(now);
            const answeredAt = now + there + back;
            // Delays there are below what is allowed for (5 % of the window); the answer may take as long as it likes.
            arrivals.push(now + there);
            answers.push({ at: answeredAt, tell: () => window.seen(start, answeredAt) });
          }
          for (const from of arrivals) {
            const within = arrivals.filter((at) => at >= from && at < from + windowMs);
            expect(within.length).toBeLessThanOrEqual(requests);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("should lose no more of the rate than it allows for delays", () => {
    const window = new SlidingWindow(10, 1_000);
    let now = 0;
    let permits = 10;
    for (let i = 0; i < 1_000; i += 1) {
      while (permits === 0) {
        now = window.nextReturn() ?? Number.NaN;
        permits += window.returned(now);
      }
      permits -= 1;
      // Nobody ever answers.
      window.start(now);
    }
    // The first ten start at once; the last of each ten, nine tenths of a window after the first.
    expect(now).toBeGreaterThanOrEqual(99_900);
    expect(now).toBeLessThanOrEqual(99_900 * 1.05);
  });

  test("should give back nothing that was not taken", () => {
    const window = new SlidingWindow(5, 1_000);
    expect(window.nextReturn()).toBeUndefined();
    expect(window.returned(1e9)).toBe(0);
    window.seen(window.start(0), 0);
    expect(window.returned(999)).toBe(0);
    expect(window.returned(1_000)).toBe(1);
    expect(window.returned(1e9)).toBe(0);
  });

  test("should let a permit be used once, and only while it is out", () => {
    const window = new SlidingWindow(5, 1_000);
    const early = window.start(0);
    expect(window.leave(early, 1_000)).toBe(true); // it waited for a connection
    expect(window.leave(early, 1_000)).toBe(false);
    expect(window.returned(1_999)).toBe(0);
    expect(window.returned(2_050)).toBe(1);
    const late = window.start(3_000);
    expect(window.returned(4_050)).toBe(1);
    expect(window.leave(late, 4_050)).toBe(false);
  });

  test("should never have more leave in any window, whatever they wait for", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        // Of each request: how long after the last it is wanted, how long until it could leave, and is answered then.
        fc.array(fc.tuple(fc.nat(400), fc.nat(2_500), fc.nat(400)), { minLength: 1, maxLength: 60 }),
        (requests, wanted) => {
          const windowMs = 1_000;
          const window = new SlidingWindow(requests, windowMs);
          const later: { at: number; tell: () => void }[] = [];
          const departures: number[] = [];
          let now = 0;
          let permits = requests;
          const passTo = (at: number) => {
            for (
              let due = later.filter((one) => one.at <= at);
              due.length > 0;
              due = later.filter((one) => one.at <= at)
            ) {
              const [first] = due.toSorted((a, b) => a.at - b.at);
              later.splice(later.indexOf(first!), 1);
              now = Math.max(now, first!.at);
              permits += window.returned(now);
              first!.tell();
            }
            now = Math.max(now, at);
            permits += window.returned(now);
          };
          for (const [gap, waits, answered] of wanted) {
            passTo(now + gap);
            const waitForPermit = () => permits === 0;
            while (waitForPermit()) passTo(window.nextReturn() ?? Number.NaN);
            permits -= 1;
            const start = window.start(now);
            const leavesAt = now + waits;
            later.push({
              at: leavesAt,
              tell: () => {
                if (!window.leave(start, leavesAt)) return;
                departures.push(leavesAt);
                later.push({ at: leavesAt + answered, tell: () => window.seen(start, leavesAt + answered) });
              },
            });
          }
          passTo(now + 10_000);
          for (const from of departures) {
            const within = departures.filter((at) => at >= from && at < from + windowMs);
            expect(within.length).toBeLessThanOrEqual(requests);
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
