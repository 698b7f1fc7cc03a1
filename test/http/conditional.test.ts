import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { ValidatorCache, validatorKey } from "../../src/http/validators.ts";
import { clientOf, type Handler, json, rejection, serve, setup } from "./harness.ts";

/** An object with an ETag. */
const tagged =
  (state: { etag: string; value: unknown }): Handler =>
  (request, response) =>
    request.headers["if-none-match"] === state.etag
      ? void response.writeHead(304, { etag: state.etag, "x-count": "2" }).end()
      : json(response, state.value, { etag: state.etag, "x-count": "1" });

describe("a conditional request", () => {
  test("should be answered from what was kept, decoded anew", async () => {
    const state = { etag: 'W/"1"', value: { tags: ["a"] } };
    const { api, server, events } = await setup(tagged(state));
    const first = await api.get<{ tags: string[] }>("x");
    first.tags.push("mine");
    const second = await api.request<{ tags: string[] }>({ path: "x" });
    expect(second).toMatchObject({ status: 200, data: { tags: ["a"] } });
    // The headers are those of the 304, where it has them.
    expect(second.headers).toMatchObject({ "x-count": "2", "content-type": "application/json" });
    expect(server.seen.map(({ headers }) => headers["if-none-match"])).toEqual([undefined, 'W/"1"']);
    expect(server.seen.map(({ headers }) => headers["cache-control"])).toEqual([undefined, undefined]);
    expect(events.map(({ status, notModified }) => [status, notModified])).toEqual([
      [200, false],
      [304, true],
    ]);

    Object.assign(state, { etag: '"2"', value: { tags: ["b"] } });
    expect(await api.get("x")).toEqual({ tags: ["b"] });
    expect(await api.get("x")).toEqual({ tags: ["b"] });
    expect(server.seen.at(-1)?.headers["if-none-match"]).toBe('"2"');
  });

  test("should not be made of an answer whose body did not come", async () => {
    const { api } = await setup((request, response, count) => {
      if (count === 1) response.writeHead(200, { "content-type": "application/json", etag: '"1"' }).end();
      else tagged({ etag: '"1"', value: 7 })(request, response, count);
    });
    expect(await rejection(api.get("x"))).toMatchObject({ code: "RESPONSE_INVALID" });
    expect(await api.get("x")).toBe(7);
  });

  test("should keep a compressed body", async () => {
    const { api } = await setup((request, response) => {
      if (request.headers["if-none-match"]) return void response.writeHead(304).end();
      response.writeHead(200, {
        "content-type": "application/json",
        "content-encoding": "gzip",
        etag: '"1"',
      });
      response.end(gzipSync("[1]"));
    });
    expect([await api.get("x"), await api.get("x")]).toEqual([[1], [1]]);
  });

  test("should never answer one credential with another's body", async () => {
    const server = await serve((request, response) => {
      // Both see the same ETag, as they do at providers that number versions.
      if (request.headers["if-none-match"] === '"1"') response.writeHead(304).end();
      else json(response, request.headers.authorization, { etag: '"1"' });
    });
    let token = "a";
    const { context } = clientOf(server.origin, {
      get: (_provider, id) => Promise.resolve({ id, credentials: { token } }),
    });
    expect(await (await context()).api.get("x")).toBe("Bearer a");
    token = "b";
    expect(await (await context()).api.get("x")).toBe("Bearer b");
    expect(await (await context("other")).api.get("x")).toBe("Bearer b");
    expect(server.seen.every(({ headers }) => headers["if-none-match"] === undefined)).toBe(true);
    token = "a";
    expect(await (await context()).api.get("x")).toBe("Bearer a");
    expect(server.seen.at(-1)?.headers["if-none-match"]).toBe('"1"');
  });

  test("should be told apart by query and headers", async () => {
    const { api, server } = await setup((request, response) => json(response, request.url, { etag: '"1"' }));
    await api.get("x", { query: { page: 1 } });
    await api.get("x", { query: { page: 2 } });
    await api.get("x", { query: { page: 1 }, headers: { "accept-language": "de" } });
    await api.request({ path: "x", query: { page: 1 }, body: { filter: 1 } });
    await api.request({ path: "x", query: { page: 1 }, method: "HEAD" });
    expect(server.seen.every(({ headers }) => headers["if-none-match"] === undefined)).toBe(true);
  });

  test("should go by the URL behind a redirect, not before it", async () => {
    let target = "a";
    const { api } = await setup((request, response) => {
      if (request.url === "/v1/x") response.writeHead(302, { location: `/v1/${target}` }).end();
      else if (request.headers["if-none-match"] === '"1"' && request.url === "/v1/a")
        response.writeHead(304).end();
      else json(response, request.url, { etag: '"1"' });
    });
    expect([await api.get("x"), await api.get("x")]).toEqual(["/v1/a", "/v1/a"]);
    target = "b";
    expect(await api.get("x")).toBe("/v1/b");
  });

  const at = (text: string) => new Date(text).toUTCString();
  test.each<[string, Record<string, string>, Record<string, string> | undefined]>([
    ["an ETag", { etag: '"1"' }, { "if-none-match": '"1"' }],
    ["an ETag before a date", { etag: '"1"', "last-modified": at("2020-01-01") }, { "if-none-match": '"1"' }],
    [
      "a date long before the answer's",
      { "last-modified": at("2030-01-01T00:00:00Z"), date: at("2030-01-01T00:01:00Z") },
      { "if-modified-since": at("2030-01-01T00:00:00Z") },
    ],
    [
      "a date that leaves room for another change",
      { "last-modified": at("2030-01-01T00:00:00Z"), date: at("2030-01-01T00:00:59Z") },
      undefined,
    ],
    ["a date that is none", { "last-modified": "yesterday" }, undefined],
    ["nothing", {}, undefined],
    ["a weak ETag", { etag: 'W/"1"' }, { "if-none-match": 'W/"1"' }],
    ["an ETag that matches anything", { etag: "*" }, undefined],
    ["an ETag without quotes", { etag: "1" }, undefined],
    ["an ETag with half of them", { etag: '"1' }, undefined],
    ["an ETag with a quote too many", { etag: '"1"2"' }, undefined],
    ["two ETags", { etag: '"1", "2"' }, undefined],
    ["an ETag beyond ASCII", { etag: '"\u00e9"' }, undefined],
    ["an ETag too long to be sent back (I10)", { etag: `"${"a".repeat(10_000)}"` }, undefined],
    [
      "a date beside an ETag that is none",
      { etag: "*", "last-modified": at("2030-01-01T00:00:00Z"), date: at("2030-01-01T00:01:00Z") },
      { "if-modified-since": at("2030-01-01T00:00:00Z") },
    ],
    ["no-store", { etag: '"1"', "cache-control": "private, no-store" }, undefined],
    ["private", { etag: '"1"', "cache-control": "private, max-age=60" }, { "if-none-match": '"1"' }],
    ["Vary: *", { etag: '"1"', vary: "*" }, undefined],
  ])("should be made after an answer with %s", async (_, headers, condition) => {
    const { api, server } = await setup((_request, response) => json(response, {}, headers));
    await api.get("x");
    await api.get("x");
    const sent = Object.entries(server.seen[1]?.headers ?? {}).filter(([name]) => name.startsWith("if-"));
    expect(sent).toEqual(Object.entries(condition ?? {}));
  });

  test.each([201, 206, 404])("should not be made after a %i", async (status) => {
    const { api, server } = await setup((_request, response) => json(response, {}, { etag: '"1"' }, status));
    for (let i = 0; i < 2; i += 1) await api.request({ path: "x" }).catch(() => {});
    expect(server.seen[1]?.headers["if-none-match"]).toBeUndefined();
  });

  test("should not be made from an answer that `classify` calls a failure", async () => {
    const { api, server } = await setup((_request, response) => json(response, {}, { etag: '"1"' }), {
      api: { classify: () => "fail" },
    });
    for (let i = 0; i < 2; i += 1) await api.request({ path: "x" }).catch(() => {});
    expect(server.seen[1]?.headers["if-none-match"]).toBeUndefined();
  });

  test("should forget a connection on demand", async () => {
    const { api, clients, server } = await setup(tagged({ etag: '"1"', value: 1 }));
    await api.get("x");
    clients.forget("crm", "default");
    await api.get("x");
    expect(server.seen[1]?.headers["if-none-match"]).toBeUndefined();
  });

  test("should be the caller's own where it asks by itself", async () => {
    const { api, server } = await setup(tagged({ etag: '"1"', value: 1 }));
    await api.get("x");
    const headers = { "If-None-Match": '"1"' };
    expect(await api.request({ path: "x", headers })).toMatchObject({ status: 304, data: undefined });
    // `undefined` from `get` would read as an object that is gone.
    expect(await rejection(api.get("x", { headers }))).toMatchObject({ code: "RESPONSE_INVALID" });
    expect(server.seen).toHaveLength(3);
  });

  test("should be the only one that a 304 answers", async () => {
    const { api } = await setup((_request, response) => void response.writeHead(304).end());
    expect(await rejection(api.get("x"))).toMatchObject({ code: "RESPONSE_INVALID" });
  });
});

describe("what is kept", () => {
  const headers = { etag: '"1"' };
  const headersBytes = 7;
  const kept = (cache: ValidatorCache, keys: string[]) => keys.filter((key) => cache.find(key) !== undefined);

  test("should be bounded by bytes, the least recently used going first", () => {
    const cache = new ValidatorCache(32 * 1_024);
    // Each counts for 2 KiB with what is beside its body.
    const body = Buffer.alloc(1_024 - headersBytes);
    const keys = Array.from({ length: 16 }, (_, i) => `k${i}`);
    for (const key of keys) cache.keep(key, "crm/a", headers, body);
    expect(kept(cache, keys)).toEqual(keys);
    cache.find("k0");
    cache.keep("more", "crm/a", headers, body);
    expect(kept(cache, keys)).toEqual(keys.filter((key) => key !== "k1"));
  });

  test("should be bounded however much of it is in headers", () => {
    const cache = new ValidatorCache(1_048_576);
    const large = { ...headers, "x-a": "a".repeat(15_360) };
    const keys = Array.from({ length: 100 }, (_, i) => `k${i}`);
    for (const key of keys) cache.keep(key, "crm/a", large, Buffer.from("x"));
    expect(kept(cache, keys)).toHaveLength(63);
  });

  test("should have no room for one answer that would drive out many", () => {
    const cache = new ValidatorCache(32 * 1_024);
    cache.keep("big", "crm/a", headers, Buffer.alloc(1_025));
    expect(cache.find("big")).toBeUndefined();
  });

  test("should be replaced, and dropped when a new answer has no validator", () => {
    const cache = new ValidatorCache(32 * 1_024);
    for (let i = 0; i < 100; i += 1) cache.keep("k", "crm/a", headers, Buffer.from(String(i)));
    expect(cache.find("k")?.bytes.toString()).toBe("99");
    cache.keep("k", "crm/a", {}, Buffer.from("x"));
    expect(cache.find("k")).toBeUndefined();
  });

  test("should have keys that say nothing of credentials, and do not mind the order of headers", () => {
    const key = validatorKey("crm/a", "https://crm.example/v1/x", { authorization: "canary", a: "b" });
    expect(key).toMatch(/^[\w+/]{43}=$/);
    expect(validatorKey("crm/a", "https://crm.example/v1/x", { a: "b", authorization: "canary" })).toBe(key);
    expect(validatorKey("crm/b", "https://crm.example/v1/x", { a: "b", authorization: "canary" })).not.toBe(
      key,
    );
  });
});
