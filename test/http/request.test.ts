import { describe, expect, test } from "vitest";
import { clientOf, json, rejection, serve, setup, TOKEN, until } from "./harness.ts";

const answer = (_request: unknown, response: Parameters<typeof json>[0]) => json(response, {});

describe("a request", () => {
  test("should go below the base with the provider's and its own headers", async () => {
    const { api, server } = await setup(answer, { api: { headers: { "X-Version": "1", Accept: "a/b" } } });
    await api.get("/contacts", { query: { ids: [1, 2] }, headers: { "x-version": "2" } });
    expect(server.seen[0]).toMatchObject({
      method: "GET",
      url: "/v1/contacts?ids=1,2",
      headers: { "x-version": "2", accept: "a/b", "user-agent": "trueup" },
    });
    // Some servers answer a conditional request with 200 for ever when they see one (Node's fetch adds it).
    expect(server.seen[0]?.headers).not.toHaveProperty("cache-control");
  });

  test("should find base and headers by the connection, anew for each", async () => {
    const server = await serve(answer);
    let count = 0;
    const { context } = clientOf("unused:", {
      api: {
        baseUrl: (connection) => `${server.origin}/${connection.id}`,
        headers: async ({ credentials }) => ({
          authorization: credentials.token,
          count: String((count += 1)),
        }),
      },
    });
    const [a, b] = [await context("a"), await context("b")];
    await a.api.get("x");
    await b.api.get("x");
    await b.api.get("");
    expect(server.seen.map(({ url, headers }) => [url, headers["authorization"], headers["count"]])).toEqual([
      ["/a/x", TOKEN, "1"],
      ["/b/x", TOKEN, "2"],
      ["/b", TOKEN, "3"],
    ]);
  });

  test.each<[string, unknown, string | undefined, string]>([
    ["an object", { a: "ü" }, "application/json", '{"a":"ü"}'],
    ["an array", [1], "application/json", "[1]"],
    ["a string", "a=b", undefined, "a=b"],
    ["bytes", new Uint8Array([97, 98]), undefined, "ab"],
    ["a buffer", new Uint8Array([97]).buffer, undefined, "a"],
    ["a form", new URLSearchParams({ a: "b c" }), "application/x-www-form-urlencoded", "a=b+c"],
    ["nothing", undefined, undefined, ""],
    ["null", null, undefined, ""],
  ])("should send %s", async (_, body, type, expected) => {
    const { api, server } = await setup((request, response) => {
      request.on("end", () => json(response, {}));
    });
    await api.request({ method: "POST", path: "x", body });
    expect(server.seen[0]).toMatchObject({ method: "POST", body: expected });
    expect(server.seen[0]?.headers["content-type"]).toBe(type);
  });

  test("should keep the content type that it is given", async () => {
    const { api, server } = await setup(answer);
    await api.request({
      method: "PATCH",
      path: "x",
      body: [],
      headers: { "Content-Type": "application/json-patch+json" },
    });
    expect(server.seen[0]?.headers["content-type"]).toBe("application/json-patch+json");
  });

  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  test.each<[string, Parameters<Awaited<ReturnType<typeof setup>>["api"]["request"]>[0], RegExp]>([
    ["a circular body", { path: "x", method: "POST", body: circle }, /JSON/],
    ["a bigint in a body", { path: "x", method: "POST", body: { id: 1n } }, /JSON/],
    ["a function as body", { path: "x", method: "POST", body: () => {} }, /function/],
    ["a stream as body", { path: "x", method: "POST", body: new ReadableStream() }, /stream/],
    ["a method with a blank", { path: "x", method: "GET /" }, /method/],
    ["CONNECT", { path: "x", method: "CONNECT" }, /method/],
    ["a line end in a header", { path: "x", headers: { "x-key": `canary\r\nx: y` } }, /"x-key"/],
    [
      "a header of another type",
      { path: "x", headers: { "x-key": undefined as unknown as string } },
      /"x-key"/,
    ],
    ["a header without a name", { path: "x", headers: { "": "canary" } }, /header name/],
    [
      "a header that belongs to the connection",
      { path: "x", headers: { "transfer-encoding": "canary" } },
      /transfer-encoding/,
    ],
  ])("should be refused with %s, before anything is sent", async (_, request, message) => {
    const { api, server } = await setup(answer);
    const error = await rejection(api.request(request));
    expect(error).toMatchObject({
      code: "OPTION_INVALID",
      message: expect.stringMatching(message) as string,
    });
    expect(error.message).not.toContain("canary");
    expect(server.seen).toEqual([]);
  });

  test("should be refused when its path leaves the base, before anything is sent", async () => {
    const { api, server } = await setup(answer);
    for (const path of ["../admin", "contacts/a?admin=1", "//evil.example/", "https://evil.example/v1/"]) {
      expect(await rejection(api.get(path))).toMatchObject({ code: "PATH_REFUSED" });
    }
    expect(server.seen).toEqual([]);
  });
});

describe("what is reported", () => {
  test("should be one event an exchange, without base path, query or secrets", async () => {
    const server = await serve((_request, response, count) => {
      if (count === 1) response.writeHead(503).end();
      else if (count === 2) response.writeHead(302, { location: "/bot-canary/there?token=canary" }).end();
      else json(response, {});
    });
    const { context, events, logged } = clientOf(`${server.origin}/bot-canary/`);
    const { api } = await context("acme");
    await api.get("here", { query: { key: "canary" } });
    const common = { provider: "crm", connection: "acme", method: "GET", notModified: false };
    expect(events).toEqual(
      [
        { path: "/here", status: 503 },
        { path: "/here", status: 302 },
        { path: "/there", status: 200 },
      ].map((event) => ({ ...common, ...event, durationMs: expect.any(Number) as number })),
    );
    expect(JSON.stringify([events, logged])).not.toContain("canary");
  });

  test("should tell the server's time for each answer that has one", async () => {
    const server = await serve((_request, response, count) => {
      if (count === 2) response.sendDate = false;
      if (count === 3) response.setHeader("date", "yesterday");
      json(response, {}, count === 1 ? { date: "Tue, 01 Jan 2030 00:00:00 GMT" } : {});
    });
    const heard: number[] = [];
    const { clients } = clientOf(server.origin);
    const { api } = await clients.of("crm", "default").context({
      signal: new AbortController().signal,
      lane: "live",
      onServerDate: (epochMs) => heard.push(epochMs),
    });
    for (let i = 0; i < 3; i += 1) await api.get("x");
    expect(heard).toEqual([Date.UTC(2030, 0, 1)]);
  });

  test("should have no credential in any error", async () => {
    const outcomes = [400, 401, 403, 404, 429, 500, 501, 302];
    const { api, logged, events } = await setup((request, response) => {
      const status = Number(/\d+/.exec(request.url?.split("/").at(-1) ?? "")?.[0]);
      if (status === 1) response.socket?.destroy();
      else if (status === 2) response.socket?.end(`HTTP/1.1 200 OK\r\nbroken ${TOKEN}\r\n\r\n`);
      else
        response
          .writeHead(status, { location: `http://evil.example/?t=${TOKEN}`, "set-cookie": TOKEN })
          .end();
    });
    for (const status of [...outcomes, 1, 2]) {
      const error = await rejection(api.get(`thing/${status}`, { query: { token: TOKEN } }));
      const everything = JSON.stringify([error, error.message, error.stack, inner(error.cause)]);
      expect(everything).not.toContain(TOKEN);
    }
    await until(() => events.length >= outcomes.length);
    expect(JSON.stringify([events, logged])).not.toContain(TOKEN);
  });
});

function inner(cause: unknown): unknown {
  if (!(cause instanceof Error)) return cause;
  return [cause.name, cause.message, cause.stack, Object.entries(cause), inner(cause.cause)];
}
