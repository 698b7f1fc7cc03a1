import { describe, expect, test } from "vitest";
import { clientOf, type Handler, json, rejection, serve, setup, until } from "./harness.ts";

/** Credentials that only a refresh makes good. */
function rotating() {
  let token = "old";
  const calls: boolean[] = [];
  const get = (_provider: string, id: string, { refresh }: { readonly refresh: boolean }) => {
    calls.push(refresh);
    if (refresh) token = "new";
    return Promise.resolve({ id, credentials: { token } });
  };
  return { get, calls };
}

const onlyNew: Handler = (request, response) =>
  request.headers.authorization === "Bearer new"
    ? json(response, "welcome")
    : json(response, { error: "expired" }, {}, 401);

describe("refused credentials", () => {
  test("should be refreshed once, and the request sent again with the new ones", async () => {
    const { get, calls } = rotating();
    const { api, context, server } = await setup(onlyNew, { get });
    expect(await api.request({ method: "POST", path: "x", body: { a: 1 } })).toMatchObject({
      data: "welcome",
    });
    expect(server.seen.map(({ headers }) => headers["authorization"])).toEqual(["Bearer old", "Bearer new"]);
    expect(calls).toEqual([false, true]);
    // Nothing is asked with the old ones any more, also by who has been there before.
    expect(await api.get("y")).toBe("welcome");
    expect(context.connection.credentials).toEqual({ token: "new" });
    expect(server.seen).toHaveLength(3);
  });

  test("should be refreshed once for all requests at once", async () => {
    const { get, calls } = rotating();
    const waiting: (() => void)[] = [];
    const { api, server } = await setup(
      (request, response, count) => {
        if (count > 32) return onlyNew(request, response, count);
        // All have to be under way before the first is refused.
        waiting.push(() => onlyNew(request, response, count));
        if (waiting.length === 32) for (const answer of waiting) answer();
      },
      { get },
    );
    const results = await Promise.all(Array.from({ length: 32 }, () => api.get("x")));
    expect(results).toEqual(Array.from({ length: 32 }, () => "welcome"));
    expect(calls).toEqual([false, true]);
    expect(server.seen).toHaveLength(64);
  });

  test("should not be refreshed again for an answer that comes after a refresh", async () => {
    const { get, calls } = rotating();
    let late = (): void => {};
    const { api, server } = await setup(
      (request, response, count) => {
        if (count === 1) late = () => onlyNew(request, response, count);
        else onlyNew(request, response, count);
      },
      { get },
    );
    const first = api.get("first");
    await until(() => server.seen.length === 1);
    expect(await api.get("second")).toBe("welcome");
    late();
    expect(await first).toBe("welcome");
    expect(calls).toEqual([false, true]);
  });

  test("should end as UNAUTHORIZED when the new ones are refused too", async () => {
    const calls: boolean[] = [];
    const { api, server } = await setup((_request, response) => json(response, { why: "revoked" }, {}, 401), {
      get: (_provider, id, { refresh }) => {
        calls.push(refresh);
        return Promise.resolve({ id, credentials: { token: "bad" } });
      },
    });
    const error = await rejection(api.get("x"));
    expect(error).toMatchObject({ code: "UNAUTHORIZED", cause: { status: 401, data: { why: "revoked" } } });
    expect(error.message).toBe("crm: GET /x answered 401, also with refreshed credentials");
    expect(server.seen).toHaveLength(2);
    expect(calls).toEqual([false, true]);
  });

  test("should end as whatever the refresh fails with, and be refreshed again the next time", async () => {
    const outage = new Error("no tokens today");
    let down = true;
    const { api } = await setup(onlyNew, {
      get: (_provider, id, { refresh }) => {
        if (refresh && down) return Promise.reject(outage);
        return Promise.resolve({ id, credentials: { token: refresh ? "new" : "old" } });
      },
    });
    const outcomes = await Promise.all([rejection(api.get("x")), rejection(api.get("y"))]);
    expect(outcomes).toEqual([outage, outage]);
    down = false;
    expect(await api.get("x")).toBe("welcome");
  });

  test("should not stay refused because of a look-up that was overtaken by the refresh", async () => {
    const server = await serve(onlyNew);
    let slow: ((token: string) => void) | undefined;
    let calls = 0;
    const { context } = clientOf(server.origin, {
      get: (_provider, id, { refresh }) => {
        calls += 1;
        const found = (token: string) => ({ id, credentials: { token } });
        if (refresh) return Promise.resolve(found("new"));
        if (calls === 1) return Promise.resolve(found("old"));
        return new Promise((resolve) => (slow = (token) => resolve(found(token))));
      },
    });
    const { api } = await context();
    const second = context();
    await until(() => slow !== undefined);
    expect(await api.get("x")).toBe("welcome");
    slow?.("old");
    expect((await second).connection.credentials).toEqual({ token: "new" });
  });

  test("should be no matter between connections", async () => {
    const { get, calls } = rotating();
    const server = await serve(onlyNew);
    const { context } = clientOf(server.origin, { get });
    const [a, b] = [await context("a"), await context("b")];
    await Promise.all([a.api.get("x"), b.api.get("x")]);
    expect(calls.filter((refresh) => refresh)).toHaveLength(2);
  });

  test("should leave the caller free to go while they are refreshed", async () => {
    const { contextOf, server } = await setup(onlyNew, {
      get: (_provider, id, { refresh }) =>
        refresh ? new Promise(() => {}) : Promise.resolve({ id, credentials: { token: "old" } }),
    });
    const controller = new AbortController();
    const { api } = await contextOf("default", controller.signal);
    const outcome = rejection(api.get("x"));
    await until(() => server.seen.length === 1);
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await outcome).toBe(reason);
  });
});

describe("a connection that cannot be found", () => {
  test("should reject the context with what the look-up says", async () => {
    const unknown = new Error("who?");
    const { context } = clientOf("http://127.0.0.1:1", { get: () => Promise.reject(unknown) });
    expect(await rejection(context())).toBe(unknown);
  });
});
