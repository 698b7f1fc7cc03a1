import { inspect } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Redactor } from "../../src/core/redactor.ts";
import { type AnyProvider, defineProvider } from "../../src/core/provider.ts";
import {
  keepSecrets,
  redactorOf,
  secretMembers,
  secretSegments,
  secretsOf,
  urlPasswords,
  urlPasswordsOrTokens,
} from "../../src/core/secrets.ts";
import { githubSignature } from "../../src/signatures/github.ts";
import { headerToken } from "../../src/signatures/header-token.ts";

describe("texts that have the form of a secret (I12)", () => {
  const redact = redactorOf([]);

  test.each([
    ["postgres://sync:pa55@w0rd@db/sync", "postgres://[redacted]@db/sync"],
    ["redis://:pa55word@db", "redis://[redacted]@db"],
    ["authorization: Bearer abc123def", "authorization: Bearer [redacted]"],
    ["GET /?access_token=abcdef12&page=2", "GET /?access_token=[redacted]&page=2"],
    ["{ password: 'pass word' }", "{ password: '[redacted]' }"],
    ['{"client_secret": "abcdef12", "id": "1"}', '{"client_secret": "[redacted]", "id": "1"}'],
  ])("%s should be told as %s", (text, told) => {
    expect(redact(text)).toBe(told);
    expect(redact(told)).toBe(told);
  });

  test.each([
    "password: Invalid input: expected string",
    "bearer authentication failed",
    "https://docs.example/errors?code=password",
    "the page_token is used up",
    "key (id)=(5) exists",
    "mail to a@example.org",
  ])("%s should be told as it is", (text) => {
    expect(redact(text)).toBe(text);
  });

  test("should be looked for in time that grows with the text alone (I10)", () => {
    for (const unit of ["://a", "bearer ", "bearer a", "password=", 'secret"', "://", "@", " ", "basic\t1"]) {
      expect(redact(unit.repeat(200_000)).length).toBeGreaterThan(0);
    }
  });
});

describe("what an object keeps secret (I12)", () => {
  const owner = () => keepSecrets({ name: "queue", run: () => {} }, ["hunter2!"]);

  test("should be known of it, of a proxy and of a copy", () => {
    expect(secretsOf(owner())).toEqual(["hunter2!"]);
    expect(secretsOf(new Proxy(owner(), {}))).toEqual(["hunter2!"]);
    const binding = new Proxy(owner(), {
      get: (target, name, receiver) => {
        const value: unknown = Reflect.get(target, name, receiver);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    expect(secretsOf(binding)).toEqual(["hunter2!"]);
    expect(secretsOf({ ...owner(), name: "renamed" })).toEqual(["hunter2!"]);
    for (const other of [{}, null, undefined, "text"]) expect(secretsOf(other)).toEqual([]);
  });

  test("should not be seen by who prints it", () => {
    const shown = inspect(owner(), { depth: Infinity, showHidden: true, getters: true });
    expect(Object.keys(owner())).toEqual(["name", "run"]);
    expect(`${shown} ${JSON.stringify(owner())}`).not.toContain("hunter2!");
    expect(shown, "control").toContain("queue");
  });
});

describe("known secrets (I12)", () => {
  test.each([
    ["whsec_MfKQ9r8GKYqrTwjU", "the key MfKQ9r8GKYqrTwjU", "the key [redacted]"],
    ["Bearer abcdefgh", "token abcdefgh", "token [redacted]"],
    [`Basic ${Buffer.from("user:pass word").toString("base64")}`, "user/pass word", "user/[redacted]"],
    ["short", "short", "short"],
  ])("%s should be known in other spellings", (secret, text, told) => {
    expect(redactorOf([secret])(text)).toBe(told);
  });

  test("should leave nothing of themselves in any text", () => {
    const secret = fc.string({ minLength: 6, maxLength: 20, unit: "binary" });
    fc.assert(
      fc.property(fc.array(secret, { minLength: 1 }), fc.array(fc.string()), (secrets, between) => {
        const text = between.flatMap((part, i) => [part, secrets[i % secrets.length]]).join("");
        const told = redactorOf(secrets)(text).replaceAll("[redacted]", "\n\0\n");
        expect(secrets.filter((one) => !"\n\0\n".includes(one) && told.includes(one))).toEqual([]);
      }),
    );
  });

  test("should be found in headers by name, and in paths by length", () => {
    const headers = { authorization: "a", "X-API-Key": "b", cookie: "c", accept: "d", "x-number": 1 };
    expect(secretMembers(headers)).toEqual(["a", "b", "c"]);
    expect(secretSegments("/v1/repositories/bot12345:ABCDEFGHIJKLMN/")).toEqual(["bot12345:ABCDEFGHIJKLMN"]);
  });
});

describe("a redactor (I12)", () => {
  const provider = defineProvider({
    name: "crm",
    api: { baseUrl: "https://crm.example/", headers: { authorization: "Bearer of-the-headers" } },
    webhook: {
      verify: [
        githubSignature({ secret: "of-the-scheme" }),
        headerToken({ header: "x-token", secret: "of-the-token" }),
      ],
      events: () => [],
    },
    resources: {},
  });
  const redactor = new Redactor({
    providers: new Map([["crm", provider as AnyProvider]]),
    connections: { secrets: (_, id) => new Set(id === "acme" ? ["of-the-connection"] : []) },
    owners: [keepSecrets({}, ["of-the-source"]), {}],
    secrets: ["of-the-user"],
  });
  const all = "of-the-headers of-the-scheme of-the-token of-the-source of-the-user of-the-connection".split(
    " ",
  );

  test("should know what is configured, and what is one connection's for that one only", () => {
    const told = (scope: object) => redactor.of(scope)(all.join(" "));
    const blank = "[redacted] ".repeat(5);
    expect(told({})).toBe(`${blank}of-the-connection`);
    expect(told({ provider: "crm", connection: "other" })).toBe(`${blank}of-the-connection`);
    expect(told({ provider: "crm", connection: "acme" })).toBe(`${blank}[redacted]`);
  });

  test("should free the log of secrets, and leave alone what has none", () => {
    const lines: unknown[] = [];
    const line = (fields: object, message: string) => void lines.push({ fields, message });
    const logger = redactor.logger({ debug: line, info: line, warn: line, error: line });
    const error = new Error("of-the-scheme");
    logger.warn({ provider: "crm", connection: "acme", error, retryInMs: 5 }, "of-the-connection");
    const fields = { error: new Error("fine") };
    logger.debug(fields, "fine");
    expect(lines).toEqual([
      {
        fields: {
          provider: "crm",
          connection: "acme",
          error: expect.objectContaining({ message: "[redacted]" }) as Error,
          retryInMs: 5,
        },
        message: "[redacted]",
      },
      { fields, message: "fine" },
    ]);
    expect((lines[1] as { fields: object }).fields).toBe(fields);
  });
});

test("a connection string's password is a secret, and its user is one only where names are tokens", () => {
  expect(urlPasswords("amqp://guest:p%40ssword@host")).toEqual(["p%40ssword", "p@ssword"]);
  expect(urlPasswords("postgres://postgres@host/db")).toEqual([]); // else each stack with "postgres" in it is blanked
  expect(urlPasswordsOrTokens("nats://token@host")).toEqual(["token", "token"]);
  expect(urlPasswordsOrTokens("nats://user:password@host")).toEqual(["password", "password"]);
  expect(urlPasswords([])).toEqual([]);
});
