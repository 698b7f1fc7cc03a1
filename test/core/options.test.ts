import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { durationMs, positive, resolveLimits } from "../../src/core/options.ts";
import { thrownCode } from "./fakes.ts";

const resolve = (options: object) => resolveLimits({ providers: [], ...options });

describe("the engine's limits", () => {
  test("should be the documented ones by default", () => {
    expect(resolve({})).toEqual({
      leaseMs: 30_000,
      concurrency: 32,
      retry: { attempts: 10, minDelayMs: 1_000, maxDelayMs: 900_000 },
      eventTtlMs: 604_800_000,
      maxEventsPerChange: 100,
      maxEventDataBytes: 16_384,
      commitTimeoutMs: 5_000,
      fetchTimeoutMs: 120_000,
      pollMs: 1_000,
    });
  });

  test("should be what the user gives, one by one", () => {
    const limits = resolve({ concurrency: 1, retry: { attempts: 3 }, pollMs: undefined });
    expect(limits).toMatchObject({ concurrency: 1, pollMs: 1_000, leaseMs: 30_000 });
    expect(limits.retry).toEqual({ attempts: 3, minDelayMs: 1_000, maxDelayMs: 900_000 });
  });

  const names = [
    "leaseMs",
    "concurrency",
    "eventTtlMs",
    "maxEventsPerChange",
    "maxEventDataBytes",
    "commitTimeoutMs",
    "fetchTimeoutMs",
    "pollMs",
  ];

  test.each(names)("should refuse %s that is no whole number above 0, naming it", (name) => {
    for (const value of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 53, "5", {}]) {
      expect(() => resolve({ [name]: value })).toThrow(
        expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
      );
    }
    expect(resolve({ [name]: 12_345 })).toHaveProperty(name, 12_345);
  });

  test.each(["attempts", "minDelayMs", "maxDelayMs"])("should refuse retry.%s of 0", (name) => {
    expect(() => resolve({ retry: { [name]: 0 } })).toThrow(`\`retry.${name}\``);
  });

  test("should refuse a lease or a poll that is too short to work", () => {
    expect(thrownCode(() => resolve({ leaseMs: 99 }))).toBe("OPTION_INVALID");
    expect(thrownCode(() => resolve({ pollMs: 9 }))).toBe("OPTION_INVALID");
    expect(resolve({ leaseMs: 100, pollMs: 10 })).toMatchObject({ leaseMs: 100, pollMs: 10 });
  });
});

describe("a positive number", () => {
  test("should be the fallback only where nothing was given", () => {
    expect(positive(undefined, 7, "size")).toBe(7);
    expect(positive(3, 7, "size")).toBe(3);
    expect(thrownCode(() => positive(0, 7, "size"))).toBe("OPTION_INVALID");
  });
});

describe("a duration", () => {
  const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

  test("should be read in all its units", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[])),
        (count, unit) => {
          expect(durationMs(`${count}${unit}`, "every")).toBe(count * units[unit]);
        },
      ),
    );
    expect(durationMs(900_000, "every")).toBe(durationMs("15m", "every"));
  });

  test.each<unknown>([
    "",
    "15",
    "m",
    "15 m",
    "1.5h",
    "-1s",
    "15M",
    "1h30m",
    "0s",
    "999999999999d",
    0,
    -1,
    1.5,
    undefined,
    null,
  ])("should not be %j", (value) => {
    expect(() => durationMs(value as string, "every")).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining("`every`") }),
    );
  });
});
