import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ErrorCode,
  HttpError,
  RateLimitError,
  RejectError,
  RetryLaterError,
  SchemaError,
  TrueupError,
} from "../../src/core/errors.ts";
import { afterFailure, asError, backoff, codeOf, type RetryPolicy } from "../../src/core/retry.ts";
import { seeded } from "./fakes.ts";

const policy: RetryPolicy = { attempts: 3, minDelayMs: 1_000, maxDelayMs: 900_000 };
const half = () => 0.5;
const after = (error: Error, attempt = 1) => afterFailure(error, attempt, policy, half);
const coded = (code: ErrorCode) => new TrueupError(code, "for the test");

describe("after a failure", () => {
  const asked: [string, Error, ReturnType<typeof after>][] = [
    ["a rate limit", new RateLimitError(7_000, ""), { kind: "pause", why: "rate-limit", delayMs: 7_000 }],
    ["RetryLaterError", new RetryLaterError(42), { kind: "retry", delayMs: 42, counts: false }],
    ["RejectError", new RejectError("no"), { kind: "dead" }],
    ["a schema failure", new SchemaError("a.b", "no"), { kind: "dead" }],
    ["PATH_REFUSED", coded("PATH_REFUSED"), { kind: "dead" }],
    ["ID_MISMATCH", coded("ID_MISMATCH"), { kind: "dead" }],
    ["ATTEMPTS_EXHAUSTED", coded("ATTEMPTS_EXHAUSTED"), { kind: "dead" }],
    ["UNAUTHORIZED", coded("UNAUTHORIZED"), { kind: "pause", why: "credentials" }],
    ["CREDENTIALS_INVALID", coded("CREDENTIALS_INVALID"), { kind: "pause", why: "credentials" }],
    ["CONNECTION_UNKNOWN", coded("CONNECTION_UNKNOWN"), { kind: "pause", why: "credentials" }],
    ["DELETES_SUPPRESSED", coded("DELETES_SUPPRESSED"), { kind: "retry", delayMs: 900_000, counts: false }],
    ["LEASE_LOST", coded("LEASE_LOST"), { kind: "retry", delayMs: 500, counts: false }],
    ["STORE_LOST", coded("STORE_LOST"), { kind: "lost" }],
    ["STOPPED", coded("STOPPED"), { kind: "release" }],
  ];

  test.each(asked)("%s should be dealt with alike, whatever the attempt", (_, error, expected) => {
    for (const attempt of [1, 3, 99]) expect(after(error, attempt)).toEqual(expected);
  });

  const ordinary: [string, Error][] = [
    ["an error of the user's", new Error("boom")],
    ["an HTTP status", new HttpError(500, "")],
    ["a status of the client's", new HttpError(403, "")],
    ["a network failure", coded("NETWORK")],
    ["a handler that took too long", coded("HANDLER_TIMEOUT")],
    ["a commit that took too long", coded("COMMIT_TIMEOUT")],
    ["a store that cannot be written", coded("STORE_FAILED")],
    ["a foreign error that only looks like ours", Object.assign(new Error("x"), { code: "REJECTED" })],
  ];

  test.each(ordinary)("%s should be tried again, until its attempts are spent", (_, error) => {
    expect(after(error, 1)).toEqual({ kind: "retry", delayMs: 500, counts: true });
    expect(after(error, 2)).toEqual({ kind: "retry", delayMs: 1_000, counts: true });
    expect(after(error, 3)).toEqual({ kind: "dead" });
    expect(after(error, 4)).toEqual({ kind: "dead" });
  });
});

describe("the backoff", () => {
  const policies = fc.record({
    attempts: fc.constant(10),
    minDelayMs: fc.integer({ min: 1, max: 100_000 }),
    maxDelayMs: fc.integer({ min: 1, max: 10_000_000 }),
  });
  const drawn = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  test("should be a whole number from 0 to a ceiling that doubles up to maxDelayMs", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), policies, drawn, (attempt, by, random) => {
        const delay = backoff(attempt, by, () => random);
        expect(Number.isSafeInteger(delay)).toBe(true);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(Math.min(by.maxDelayMs, by.minDelayMs * 2 ** (attempt - 1)));
      }),
    );
  });

  test("should use all of that range, so that a herd disperses", () => {
    const random = seeded();
    const delays = Array.from({ length: 2_000 }, () => backoff(4, policy, random));
    const buckets = new Set(delays.map((delay) => Math.floor(delay / 1_000)));
    expect([...buckets].toSorted((a, b) => a - b).slice(0, 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(backoff(4, policy, () => 0)).toBe(0);
    expect(backoff(4, policy, () => 1 - Number.EPSILON)).toBe(8_000);
  });
});

describe("what was thrown", () => {
  test("should be the error itself, or one that says what it was", () => {
    const error = new Error("x");
    expect(asError(error)).toBe(error);
    expect(asError("no such row")).toMatchObject({
      code: "HANDLER_FAILED",
      message: "something that is no Error was thrown: no such row",
      cause: "no such row",
    });
    for (const thrown of [undefined, null, 1, {}, Symbol("s"), { toString: 1 }]) {
      expect(asError(thrown)).toMatchObject({
        code: "HANDLER_FAILED",
        message: expect.stringContaining("[object"),
      });
    }
  });

  test("should be told apart even where it cannot be read", () => {
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    const trap = () => {
      throw new Error("a trap");
    };
    const traps = [
      revoked.proxy,
      Object.defineProperty({}, Symbol.toStringTag, { get: trap }),
      Object.defineProperty(new Error("x"), "message", { get: trap }),
      Object.defineProperty(new Error("x"), "code", { get: trap }),
    ];
    for (const thrown of traps) {
      expect(asError(thrown)).toMatchObject({
        code: "HANDLER_FAILED",
        message: "something that cannot be read was thrown",
      });
    }
    expect(asError("x".repeat(10_000)).message.length).toBeLessThan(1_100);
  });

  test("should be recorded under its status, its code or its class", () => {
    expect(codeOf(new HttpError(503, ""))).toBe("HTTP_503");
    expect(codeOf(coded("NETWORK"))).toBe("NETWORK");
    expect(codeOf(Object.assign(new Error("x"), { code: "ECONNRESET" }))).toBe("ECONNRESET");
    expect(codeOf(Object.assign(new Error("x"), { code: 5 }))).toBe("Error");
    expect(codeOf(new TypeError("x"))).toBe("TypeError");
  });

  test("should not be a delay that nobody can wait", () => {
    for (const delay of [-1, Number.NaN, Infinity]) {
      expect(() => new RetryLaterError(delay)).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
    }
    expect(new RetryLaterError(0).delayMs).toBe(0);
  });
});
