import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { ConnectionRegistry } from "../../src/core/connections.ts";
import {
  HttpError,
  RateLimitError,
  RetryLaterError,
  SchemaError,
  TrueupError,
} from "../../src/core/errors.ts";
import { failureRecord, toldError, toldEvent } from "../../src/core/failure.ts";
import { Redactor } from "../../src/core/redactor.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { refOf, scope } from "./fakes.ts";

const SECRET = "s3cr3t-token";
const KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----";

async function known(credentials: unknown = { token: SECRET, key: KEY }): Promise<Redactor> {
  const registry = new ConnectionRegistry(
    { get: (_provider, id) => ({ id, credentials }) },
    new Map(),
    new TestClock(),
  );
  await registry.find(scope.provider, scope.connection);
  return new Redactor({ providers: new Map(), connections: registry });
}

/** As a logger that goes as deep as it can would write it. */
const written = (error: Error) => JSON.stringify([error.message, error.stack, Object.entries(error)]);

const nested = (depth: number, value: unknown): unknown =>
  depth === 0 ? value : { next: nested(depth - 1, value) };

describe("an error that is told (I12)", () => {
  test.each([
    ["its message", new Error(`no: ${SECRET}`)],
    ["a cause", new Error("no", { cause: new Error(`no: ${SECRET}`) })],
    ["a member far down", Object.assign(new Error("no"), { response: nested(20, `Bearer ${SECRET}`) })],
    ["a name", Object.assign(new Error("no"), { headers: { [SECRET]: 1 } })],
    ["a key of several lines", Object.assign(new Error("no"), { config: { key: KEY } })],
    ["JSON", new Error(JSON.stringify({ key: KEY }))],
    ["a Map", Object.assign(new Error("no"), { headers: new Map([["authorization", SECRET]]) })],
    ["one of several errors", new AggregateError([new Error(SECRET)], "no")],
  ])("should not hold a secret that was in %s", async (_, error) => {
    const told = toldError(error, scope, await known());
    expect(told).not.toBe(error);
    expect(written(told)).not.toMatch(/s3cr3t|MIIEv/);
    expect(told.cause).toBeUndefined();
  });

  test("should be itself where there is no secret in it", async () => {
    const error = Object.assign(new Error("no"), { config: { url: "/x" } });
    Object.assign(error, { self: error });
    expect(toldError(error, scope, await known())).toBe(error);
    expect(toldError(new Error(SECRET), { ...scope, connection: "other" }, await known()).message).toBe(
      SECRET,
    );
  });

  test("should be withheld where there is too much of it to look through", async () => {
    const error = Object.assign(new Error("no"), { socket: Array.from({ length: 20_000 }, () => ({})) });
    expect(toldError(error, scope, await known())).not.toHaveProperty("socket");
  });

  test("should be withheld where it cannot be looked through", async () => {
    const trap = Object.defineProperty({}, "x", {
      enumerable: true,
      get() {
        throw new Error(SECRET);
      },
    });
    const told = toldError(Object.assign(new Error("no"), { trap }), scope, await known());
    expect(told.message).toContain("withheld");
    expect(told).not.toHaveProperty("trap");
  });

  test("should be so in every event that says whose it is", async () => {
    const connections = await known();
    const error = new Error(SECRET);
    for (const event of [
      { ...scope, error },
      { ref: refOf("1"), error },
    ]) {
      expect(toldEvent(event, connections).error.message).toBe("[redacted]");
      expect(event.error).toBe(error);
    }
    const other = { ...scope, error: undefined };
    expect(toldEvent(other, connections)).toBe(other);
  });

  test("should be so in the texts beside it", async () => {
    const texts = { message: SECRET, path: `/bot${SECRET}/`, during: SECRET, reason: SECRET };
    const told = toldEvent({ scope, count: 1, ...texts }, await known());
    expect(told).toEqual({
      scope,
      count: 1,
      message: "[redacted]",
      path: "/bot[redacted]/",
      during: "[redacted]",
      reason: "[redacted]",
    });
  });

  test.each([
    ["HttpError", new HttpError(503, SECRET, { data: SECRET }), { code: "HTTP_STATUS", status: 503 }],
    ["RateLimitError", new RateLimitError(70, SECRET), { code: "RATE_LIMITED", retryAfterMs: 70 }],
    ["RetryLaterError", new RetryLaterError(80, SECRET), { code: "RETRY_LATER", delayMs: 80 }],
    ["SchemaError", new SchemaError(SECRET, SECRET), { code: "SCHEMA_MISMATCH" }],
    ["TrueupError", new TrueupError("NETWORK", SECRET), { code: "NETWORK" }],
    ["Error", Object.assign(new Error(SECRET), { code: "ECONNRESET" }), { code: "ECONNRESET" }],
  ])("should still be told by class, code and number: %s", async (name, error, facts) => {
    const told = toldError(error, scope, await known());
    expect(told).toBeInstanceOf(error.constructor);
    expect(told).toMatchObject({ name, message: "[redacted]", ...facts });
    expect(inspect(told, { showHidden: true, depth: null })).not.toContain(SECRET);
  });
});

describe("a failure that is recorded (I12)", () => {
  test("should be free of secrets in all its parts, and bounded (I10)", async () => {
    const error = Object.assign(new SchemaError(`a.${SECRET}`, SECRET + "x".repeat(5_000)), {
      code: SECRET + "y".repeat(5_000),
    });
    const record = failureRecord(error, refOf("1"), await known(), 7);
    expect(record).toMatchObject({ path: "a.[redacted]", at: 7 });
    expect(record.code).toMatch(/^\[redacted\]y+$/);
    expect(record.code.length).toBe(100);
    expect(record.message).toMatch(/^\[redacted\]x+$/);
    expect(record.message.length).toBe(1_000);
  });
});
