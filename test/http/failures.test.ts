import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { HttpError, RateLimitError } from "../../src/core/errors.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { clientOf, type Handler, json, rejection, setup, until } from "./harness.ts";

describe("a network failure", () => {
  const breakages: [string, Handler][] = [
    ["a reset before the answer", (_request, response) => void response.socket?.resetAndDestroy()],
    [
      "a reset in the middle of the body",
      (_request, response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("x".repeat(100), () => response.socket?.resetAndDestroy());
      },
    ],
    [
      "a body shorter than announced",
      (_request, response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("x".repeat(100), () => response.socket?.end());
      },
    ],
    [
      "a chunked body without its end",
      (_request, response) => void response.write("x".repeat(100), () => response.socket?.end()),
    ],
    ["an answer that is no HTTP", (_request, response) => void response.socket?.end("hello\r\n\r\n")],
    [
      "a compressed body that is cut off",
      (_request, response) => {
        response.writeHead(200, { "content-encoding": "gzip" });
        response.write(gzipSync("x".repeat(1_000)).subarray(0, 10), () => response.socket?.end());
      },
    ],
  ];

  test.each(breakages)("should be retried: %s", async (_, breakage) => {
    const { api, server, events } = await setup((request, response, count) =>
      count < 3 ? breakage(request, response, count) : json(response, { ok: true }),
    );
    expect(await api.get("x")).toEqual({ ok: true });
    expect(server.seen).toHaveLength(3);
    expect(events.map(({ status }) => status)).toEqual([0, 0, 200]);
  });

  test.each(breakages)("should end as NETWORK when it stays: %s", async (_, breakage) => {
    const { api, server } = await setup(breakage);
    expect(await rejection(api.get("x"))).toMatchObject({
      code: "NETWORK",
      message: expect.stringMatching(/^crm: GET \/x failed: ./) as string,
    });
    expect(server.seen).toHaveLength(4);
  });

  test("should not be retried for a POST that the server may have seen", async () => {
    const { api, server } = await setup((_request, response) => void response.socket?.resetAndDestroy());
    expect(await rejection(api.request({ method: "POST", path: "x" }))).toMatchObject({ code: "NETWORK" });
    expect(server.seen).toHaveLength(1);
  });

  test("should be retried for a POST that nobody can have seen", async () => {
    // A port that was free a moment ago.
    const { server } = await setup(() => {});
    const closed = clientOf(server.origin.replace(/\d+$/, "1"));
    const { api } = await closed.context();
    expect(await rejection(api.request({ method: "POST", path: "x" }))).toMatchObject({
      code: "NETWORK",
      message: expect.stringMatching(/ECONNREFUSED/) as string,
    });
    expect(closed.events).toHaveLength(4);
  });
});

describe("a 5xx", () => {
  test.each([500, 502, 503, 504, 599])("should be retried: %i", async (status) => {
    const { api, server } = await setup((_request, response, count) =>
      count === 1 ? void response.writeHead(status).end() : json(response, {}),
    );
    await api.get("x");
    expect(server.seen).toHaveLength(2);
  });

  test("should end as HttpError with the decoded body after three retries", async () => {
    const { api, server } = await setup((_request, response) => json(response, { why: "down" }, {}, 500));
    const error = await rejection(api.get("x/1", { query: { a: 1 } }));
    expect(error).toBeInstanceOf(HttpError);
    expect(error).toMatchObject({
      status: 500,
      data: { why: "down" },
      message: "crm: GET /x/1 answered 500",
    });
    expect(server.seen).toHaveLength(4);
  });

  test.each([
    ["a 501", "GET", 501],
    ["a 500 to a POST", "POST", 500],
    ["a 500 to a PATCH", "PATCH", 500],
    ["a 404", "GET", 404],
    ["a 400", "PUT", 400],
  ])("should not be retried: %s", async (_, method, status) => {
    const { api, server } = await setup((_request, response) => void response.writeHead(status).end());
    expect(await rejection(api.request({ method, path: "x" }))).toMatchObject({
      code: "HTTP_STATUS",
      status,
    });
    expect(server.seen).toHaveLength(1);
  });

  test("should be waited for with full jitter, by the clock", async () => {
    const clock = new TestClock();
    const draws = [0.9, 0.5, 0.25];
    const { api, server } = await setup((_request, response) => void response.writeHead(500).end(), {
      clock,
      random: () => draws.shift() ?? 1,
    });
    const outcome = rejection(api.get("x"));
    for (const [attempts, delayMs] of [
      [1, 450],
      [2, 500],
      [3, 500],
    ] as const) {
      await until(() => clock.nextTimerInMs === delayMs);
      expect(server.seen).toHaveLength(attempts);
      await clock.advance(delayMs);
    }
    expect(await outcome).toMatchObject({ status: 500 });
    expect(server.seen).toHaveLength(4);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should honour a Retry-After that fits", async () => {
    const clock = new TestClock();
    const { api } = await setup(
      (_request, response, count) =>
        count === 1 ? void response.writeHead(503, { "retry-after": "3" }).end() : json(response, "late"),
      { clock },
    );
    const result = api.get("x");
    await until(() => clock.nextTimerInMs === 3_000);
    await clock.advance(3_000);
    expect(await result).toBe("late");
  });

  test.each([
    ["longer than the retries may take", "GET", "30", 30_000],
    ["by a POST, which is not sent again", "POST", "2", 2_000],
  ])("should pause the connection for a Retry-After %s", async (_, method, retryAfter, retryAfterMs) => {
    const { api, server } = await setup(
      (_request, response) => void response.writeHead(503, { "retry-after": retryAfter }).end(),
    );
    const error = await rejection(api.request({ method, path: "x" }));
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({ retryAfterMs, cause: { status: 503 } });
    expect(server.seen).toHaveLength(1);
  });

  test("should not be retried beyond some seconds", async () => {
    const clock = new TestClock();
    const { api, server } = await setup(
      (_request, response) => void response.writeHead(503, { "retry-after": "5" }).end(),
      { clock },
    );
    const outcome = rejection(api.get("x"));
    await until(() => clock.nextTimerInMs === 5_000);
    await clock.advance(5_000);
    expect(await outcome).toMatchObject({ code: "RATE_LIMITED", retryAfterMs: 5_000 });
    expect(server.seen).toHaveLength(2);
  });
});

describe("a request for a pause", () => {
  test.each<[number, Record<string, string>, number]>([
    [429, { "retry-after": "7" }, 7_000],
    [429, {}, 60_000],
    [403, { "retry-after": "7" }, 7_000],
    [403, { "x-ratelimit-remaining": "0" }, 60_000],
    [429, { ratelimit: '"a";r=0;t=9' }, 9_000],
  ])("should end the request: %i %j", async (status, headers, retryAfterMs) => {
    const { api, server } = await setup((_request, response) =>
      json(response, { slow: "down" }, headers, status),
    );
    const error = await rejection(api.get("x"));
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({
      code: "RATE_LIMITED",
      retryAfterMs,
      cause: { status, data: { slow: "down" } },
    });
    expect(server.seen).toHaveLength(1);
  });

  test("should be told from a 403 about access", async () => {
    const { api } = await setup((_request, response) =>
      json(response, {}, { "x-ratelimit-remaining": "9" }, 403),
    );
    expect(await rejection(api.get("x"))).toMatchObject({ code: "HTTP_STATUS", status: 403 });
  });
});

describe("classify", () => {
  const classify = (status: number, meaning: "retry" | "rate-limit" | "auth" | "fail") => ({
    api: { classify: (response: { status: number }) => (response.status === status ? meaning : undefined) },
  });
  const once =
    (status: number): Handler =>
    (_request, response, count) =>
      count === 1 ? json(response, { error: "x" }, {}, status) : json(response, "ok");

  test("should see status, headers and decoded body", async () => {
    const seen: unknown[] = [];
    const { api } = await setup(
      (_request, response) => json(response, { ok: false, error: "ratelimited" }, { "x-a": "b" }),
      {
        api: {
          classify: ({ status, headers, data }) => {
            seen.push([status, headers["x-a"], data]);
            return data.ok ? undefined : "rate-limit";
          },
        },
      },
    );
    expect(await rejection(api.get("x"))).toMatchObject({ code: "RATE_LIMITED", retryAfterMs: 60_000 });
    expect(seen).toEqual([[200, "b", { ok: false, error: "ratelimited" }]]);
  });

  test("should see no body where it cannot be decoded, and its word counts", async () => {
    const { api } = await setup(
      (_request, response) =>
        void response.writeHead(200, { "content-type": "application/json" }).end("<html>"),
      { api: { classify: ({ data }) => (data === undefined ? "fail" : undefined) } },
    );
    expect(await rejection(api.get("x"))).toMatchObject({ code: "HTTP_STATUS", status: 200 });
  });

  test("should make a failure a retry, of a POST too", async () => {
    const { api, server } = await setup(once(409), classify(409, "retry"));
    expect(await api.request({ method: "POST", path: "x" })).toMatchObject({ data: "ok" });
    expect(server.seen).toHaveLength(2);
  });

  test("should make a retry a failure", async () => {
    const { api, server } = await setup(once(500), classify(500, "fail"));
    expect(await rejection(api.get("x"))).toMatchObject({ code: "HTTP_STATUS", status: 500 });
    expect(server.seen).toHaveLength(1);
  });

  test("should make a 429 a failure", async () => {
    const { api } = await setup(once(429), classify(429, "fail"));
    expect(await rejection(api.get("x"))).toMatchObject({ code: "HTTP_STATUS", status: 429 });
  });

  test("should make a 400 a refusal of the credentials", async () => {
    const { api, server } = await setup(once(400), classify(400, "auth"));
    expect(await api.get("x")).toBe("ok");
    expect(server.seen).toHaveLength(2);
  });
});

describe("a timeout", () => {
  const slow: [string, Handler][] = [
    ["no answer", () => {}],
    ["headers without a body", (_request, response) => response.writeHead(200).flushHeaders()],
    ["a body that stops", (_request, response) => void response.write("x")],
    [
      "a redirect that stops",
      (_request, response) => void response.writeHead(302, { location: "y" }).write("x"),
    ],
  ];
  test.each(slow)("should span the whole exchange: %s", async (_, handler) => {
    const clock = new TestClock();
    const { api, server } = await setup(handler, { clock, api: { timeoutMs: 9_000 } });
    const outcome = rejection(api.get("x"));
    await until(() => server.seen.length === 1);
    await clock.advance(8_999);
    await clock.advance(1);
    // Nine seconds are more than retries may take.
    expect(await outcome).toMatchObject({
      code: "API_TIMEOUT",
      message: expect.stringMatching(/9000 ms/) as string,
    });
    expect(server.seen).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should be retried for a GET while there is time, and not for a POST", async () => {
    const clock = new TestClock();
    const { api, server } = await setup(
      (_request, response, count) => (count === 1 ? undefined : json(response, "ok")),
      {
        clock,
        api: { timeoutMs: 1_000 },
      },
    );
    const result = api.get("x");
    await until(() => server.seen.length === 1);
    await clock.advance(1_000);
    await until(() => server.seen.length === 2);
    expect(await result).toBe("ok");

    const other = await setup(() => {}, { clock, api: { timeoutMs: 1_000 } });
    const outcome = rejection(other.api.request({ method: "POST", path: "x" }));
    await until(() => other.server.seen.length === 1);
    await clock.advance(1_000);
    expect(await outcome).toMatchObject({ code: "API_TIMEOUT" });
    expect(other.server.seen).toHaveLength(1);
  });

  test("should close the connection, so that a slow answer meets no other request", async () => {
    const clock = new TestClock();
    let closed = false;
    const { api, server } = await setup(
      (request, response, count) => {
        if (count > 1) return json(response, count);
        request.socket.on("close", () => (closed = true));
      },
      { clock, api: { timeoutMs: 1_000 } },
    );
    const result = api.get("x");
    await until(() => server.seen.length === 1);
    await clock.advance(1_000);
    await until(() => closed);
    expect(await result).toBe(2);
  });
});

describe("an abort", () => {
  const reason = new Error("not wanted any more");

  test("should end a request under way with its reason, and not be retried", async () => {
    let closed = false;
    const { contextOf, server } = await setup((request) => {
      request.socket.on("close", () => (closed = true));
    });
    const controller = new AbortController();
    const { api } = await contextOf("default", controller.signal);
    const outcome = rejection(api.get("x"));
    await until(() => server.seen.length === 1);
    controller.abort(reason);
    expect(await outcome).toBe(reason);
    await until(() => closed);
    expect(server.seen).toHaveLength(1);
  });

  test("should end the reading of a body", async () => {
    const { contextOf, server } = await setup((_request, response) => void response.write("x"));
    const controller = new AbortController();
    const { api } = await contextOf("default", controller.signal);
    const outcome = rejection(api.get("x"));
    await until(() => server.seen.length === 1);
    controller.abort(reason);
    expect(await outcome).toBe(reason);
  });

  test("should end the wait before a retry", async () => {
    const clock = new TestClock();
    const { contextOf, server } = await setup((_request, response) => void response.writeHead(500).end(), {
      clock,
      random: () => 0.5,
    });
    const controller = new AbortController();
    const { api } = await contextOf("default", controller.signal);
    const outcome = rejection(api.get("x"));
    await until(() => clock.nextTimerInMs === 250);
    controller.abort(reason);
    expect(await outcome).toBe(reason);
    expect(server.seen).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should end the wait for the provider's headers and for a connection", async () => {
    const { contextOf, server } = await setup(() => {}, {
      api: { headers: () => new Promise(() => {}) },
    });
    const controller = new AbortController();
    const { api } = await contextOf("default", controller.signal);
    const outcome = rejection(api.get("x"));
    controller.abort(reason);
    expect(await outcome).toBe(reason);

    const forEver = clientOf(server.origin, { get: () => new Promise(() => {}) });
    const other = new AbortController();
    const context = rejection(forEver.context("default", other.signal));
    other.abort(reason);
    expect(await context).toBe(reason);
    expect(server.seen).toEqual([]);
  });

  test("should refuse what begins after it", async () => {
    const { contextOf, server } = await setup(() => {});
    const controller = new AbortController();
    const context = await contextOf("default", controller.signal);
    controller.abort(reason);
    expect(await rejection(context.api.get("x"))).toBe(reason);
    expect(await rejection(context.limited(() => Promise.resolve()))).toBe(reason);
    expect(await rejection(contextOf("default", controller.signal))).toBe(reason);
    expect(server.seen).toEqual([]);
  });

  test("should leave nothing behind on the signal of many requests", async () => {
    const { contextOf } = await setup((_request, response) => json(response, {}));
    const controller = new AbortController();
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    const { api } = await contextOf("default", controller.signal);
    await Promise.all(Array.from({ length: 50 }, () => api.get("x")));
    await new Promise((resolve) => void setImmediate(resolve));
    process.off("warning", onWarning);
    expect(warnings).toEqual([]);
  });
});
