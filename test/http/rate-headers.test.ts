import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  isExhausted,
  MAX_PAUSE_MS,
  MIN_PAUSE_MS,
  parseRateLimit,
  pauseOf,
} from "../../src/http/rate-headers.ts";

const now = Date.UTC(2030, 0, 1);
const inSeconds = (seconds: number) => String(now / 1_000 + seconds);
/** The provider's clock is an hour behind ours. */
const theirNow = now - 3_600_000;
const httpDate = (at: number) => new Date(at).toUTCString();

describe("the pause", () => {
  test.each<[string, Record<string, string>, number]>([
    ["seconds", { "retry-after": "30" }, 30_000],
    ["fractions of a second", { "retry-after": "1.5" }, 1_500],
    ["a date against our clock", { "retry-after": httpDate(now + 90_000) }, 90_000],
    [
      "a date against the answer's own",
      { "retry-after": httpDate(theirNow + 90_000), date: httpDate(theirNow) },
      90_000,
    ],
    ["a date in the form of RFC 850", { "retry-after": "Tuesday, 01-Jan-30 00:02:00 GMT" }, 120_000],
    ["a date in the form of asctime", { "retry-after": "Tue Jan  1 00:02:00 2030" }, 120_000],
    ["an ISO date", { "retry-after": "2030-01-01T00:00:45Z" }, 45_000],
    ["seconds since the epoch", { "retry-after": inSeconds(45) }, 45_000],
    ["zero", { "retry-after": "0" }, MIN_PAUSE_MS],
    ["a past date", { "retry-after": httpDate(now - 90_000) }, MIN_PAUSE_MS],
    ["a negative number", { "retry-after": "-5" }, MIN_PAUSE_MS],
    ["ten years", { "retry-after": "315360000" }, MAX_PAUSE_MS],
    ["digits without end", { "retry-after": "9".repeat(50) }, MAX_PAUSE_MS],
    ["words", { "retry-after": "soon" }, 60_000],
    ["nothing", {}, 60_000],
    [
      "x-ratelimit-reset since the epoch",
      { "x-ratelimit-remaining": "0", "x-ratelimit-reset": inSeconds(600) },
      600_000,
    ],
    [
      "x-ratelimit-reset since the epoch, by their clock",
      {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": String(theirNow / 1_000 + 600),
        date: httpDate(theirNow),
      },
      600_000,
    ],
    ["x-ratelimit-reset in milliseconds", { "x-ratelimit-reset": String(now + 5_000) }, 5_000],
    ["x-ratelimit-reset as a delay", { "x-ratelimit-reset": "20" }, 20_000],
    ["ratelimit-reset as a delay", { "ratelimit-remaining": "0", "ratelimit-reset": "12" }, 12_000],
    [
      "a secondary limit, whose budget's reset means nothing",
      { "x-ratelimit-remaining": "4000", "x-ratelimit-reset": inSeconds(3_000) },
      60_000,
    ],
    ["the draft's RateLimit", { ratelimit: '"default";r=0;t=30' }, 30_000],
    ["the policy that is used up", { ratelimit: '"day";r=9;t=9000, "a;r=1,b";r=0;t=7' }, 7_000],
    ["the draft's older form", { ratelimit: "limit=100, remaining=0, reset=8" }, 8_000],
    ["Retry-After before all others", { "retry-after": "3", ratelimit: '"a";r=0;t=30' }, 3_000],
  ])("should be read from %s", (_, headers, expected) => {
    expect(pauseOf(headers, now)).toBe(expected);
  });
});

describe("a 403", () => {
  test.each([
    { "retry-after": "30" },
    { "x-ratelimit-remaining": "0" },
    { "ratelimit-remaining": "0" },
    { "x-rate-limit-remaining": "0" },
    { ratelimit: '"a";r=0;t=30' },
  ])("with %j should be about the rate", (headers) => {
    expect(isExhausted(headers as Record<string, string>)).toBe(true);
  });

  test.each([
    {},
    { "x-ratelimit-remaining": "17" },
    { ratelimit: '"a";r=1;t=30' },
    { "x-ratelimit-remaining": "none" },
    { "x-ratelimit-reset": "30" },
  ])("with %j should be about access", (headers) => {
    expect(isExhausted(headers as Record<string, string>)).toBe(false);
  });
});

describe("any headers at all", () => {
  const value = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.double().map(String),
    fc.bigInt().map(String),
    fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
    fc
      .array(fc.constantFrom('"', ";", ",", "=", "r", "t", "0", "9", "\\", " ", "remaining", "limit"))
      .map((parts) => parts.join("")),
  );
  const names = [
    "retry-after",
    "date",
    "ratelimit",
    "ratelimit-reset",
    "ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
  ];

  test("should give a bounded pause", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), value), (headers) => {
        const pauseMs = pauseOf(headers, now);
        expect(Number.isInteger(pauseMs)).toBe(true);
        expect(pauseMs).toBeGreaterThanOrEqual(MIN_PAUSE_MS);
        expect(pauseMs).toBeLessThanOrEqual(MAX_PAUSE_MS);
        expect(typeof isExhausted(headers)).toBe("boolean");
      }),
      { numRuns: 3_000 },
    );
  });

  test("should be read whole or not at all, however long", () => {
    for (const unit of ['"', ";", ",", "r=0;", "\\", "9", " "]) {
      expect(parseRateLimit(unit.repeat(1_000_000))).toEqual([]);
      expect(pauseOf({ "retry-after": unit.repeat(1_000_000) }, now)).toBe(60_000);
    }
  });
});
