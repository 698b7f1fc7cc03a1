import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type DriftReport,
  emptyCounts,
  mergeDrift,
  mergeReports,
  newCycle,
  parsePassRecord,
  passKey,
  type ReconcileReport,
  repeats,
} from "../../src/core/pass.ts";
import { connectionKey } from "../../src/core/store.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { routeOf, scope } from "./fakes.ts";

describe("finding that a list runs in a circle", () => {
  /** Follows cursors from the first; how many steps until a repeat was seen, or undefined at the end of the list. */
  function stepsToRepeat(next: (cursor: number) => number | undefined, most: number): number | undefined {
    let cycle = newCycle();
    let cursor: number | undefined = 0;
    for (let steps = 1; cursor !== undefined; steps += 1) {
      if (repeats(cycle, String(cursor))) return steps;
      if (steps > most) throw new Error(`no repeat within ${most} steps`);
      cursor = next(cursor);
      cycle = JSON.parse(JSON.stringify(cycle)) as typeof cycle; // the pass is resumed after every page
    }
    return undefined;
  }

  const tailAndLoop = (tail: number, loop: number) => (cursor: number) =>
    cursor < tail + loop - 1 ? cursor + 1 : tail;

  test("should see every circle, within a bounded number of pages", () => {
    fc.assert(
      fc.property(fc.nat(400), fc.integer({ min: 1, max: 400 }), (tail, loop) => {
        const steps = stepsToRepeat(tailAndLoop(tail, loop), 4 * (tail + loop) + 4);
        expect(steps).toBeGreaterThan(tail + loop);
      }),
    );
  });

  test("should see the circle that any function of cursors must end in", () => {
    const functions = fc
      .integer({ min: 1, max: 60 })
      .chain((size) => fc.array(fc.nat(size - 1), { minLength: size, maxLength: size }));
    fc.assert(
      fc.property(functions, (graph) => {
        expect(stepsToRepeat((cursor) => graph[cursor], 4 * graph.length + 4)).toBeDefined();
      }),
    );
  });

  test("should see a list that gives the same cursor again at once", () => {
    expect(stepsToRepeat(() => 0, 10)).toBe(2);
  });

  test("should never see one in a list that ends", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2_000 }), (length) => {
        const ended = stepsToRepeat((cursor) => (cursor + 1 < length ? cursor + 1 : undefined), length + 1);
        expect(ended).toBeUndefined();
      }),
    );
  });
});

describe("the key of a pass", () => {
  test("should tell modes, resources and connections apart, and begin with its connection's", () => {
    const other = { ...scope, connection: "acme" };
    const keys = [
      passKey(scope, "full"),
      passKey(scope, "incremental"),
      passKey(scope, "verify"),
      passKey({ ...scope, resource: "deal" }, "full"),
      passKey(other, "full"),
    ];
    expect(new Set(keys).size).toBe(5);
    expect(passKey(other, "full").startsWith(connectionKey("crm", "acme"))).toBe(true);
    expect(passKey(other, "full").startsWith(connectionKey("crm", "acm"))).toBe(false);
  });
});

describe("the record of a pass", () => {
  test("should be empty where there is none", () => {
    expect(parsePassRecord(undefined)).toEqual({ current: null, last: null });
  });

  test("should come back as it was written", () => {
    const record = {
      current: null,
      last: { startedAt: 1, finishedAt: 2, watermark: null, counts: emptyCounts() },
    };
    expect(parsePassRecord(JSON.stringify(record))).toEqual(record);
  });
});

describe("the reports of several connections", () => {
  const route = routeOf();
  const report = (parts: Partial<ReconcileReport>): ReconcileReport => ({
    ...emptyCounts(),
    route: "crm.contact",
    connection: "a",
    mode: "full",
    complete: true,
    resumed: false,
    startedAt: new Date(100),
    finishedAt: new Date(200),
    checkpoint: { cursor: "c", since: new Date(1) },
    ...parts,
  });
  const names = Object.keys(emptyCounts()) as (keyof ReturnType<typeof emptyCounts>)[];

  test("should add up, count by count", () => {
    const counts = (factor: number) => Object.fromEntries(names.map((name, i) => [name, factor * (i + 1)]));
    const merged = mergeReports(route, "full", [report(counts(1)), report(counts(10))], new TestClock());
    expect(merged).toMatchObject({ ...counts(11), route: "crm.contact", connection: "*", mode: "full" });
    expect(merged.checkpoint).toEqual({ cursor: undefined, since: undefined });
  });

  test("should span all of their time, and be complete only if all are", () => {
    const early = report({ startedAt: new Date(50), finishedAt: new Date(60) });
    const late = report({ finishedAt: new Date(900), complete: false, resumed: true });
    const merged = mergeReports(route, "full", [early, late, report({})], new TestClock());
    expect(merged).toMatchObject({
      startedAt: new Date(50),
      finishedAt: new Date(900),
      complete: false,
      resumed: true,
    });
    const both = mergeReports(route, "full", [early, report({})], new TestClock());
    expect(both).toMatchObject({ complete: true, resumed: false });
  });

  test("should be a report even of no connection at all", () => {
    const now = new Date(7_000);
    expect(mergeReports(route, "incremental", [], new TestClock(7_000))).toMatchObject({
      ...emptyCounts(),
      mode: "incremental",
      complete: true,
      startedAt: now,
      finishedAt: now,
    });
  });

  test("should add up for verify too, with a bounded number of samples", () => {
    const samples = Array.from({ length: 15 }, (_, i) => ({ id: `c_${i}`, kind: "stale" as const }));
    const drift: DriftReport = {
      route: "crm.contact",
      connection: "a",
      listed: 100,
      missing: 1,
      stale: 15,
      extra: 2,
      pending: 3,
      samples,
      startedAt: new Date(100),
      finishedAt: new Date(200),
    };
    const merged = mergeDrift(route, [drift, { ...drift, finishedAt: new Date(300) }], new TestClock());
    expect(merged).toMatchObject({
      listed: 200,
      missing: 2,
      stale: 30,
      extra: 4,
      pending: 6,
      connection: "*",
    });
    expect(merged.samples).toHaveLength(20);
    expect(merged).toMatchObject({ startedAt: new Date(100), finishedAt: new Date(300) });
  });
});
