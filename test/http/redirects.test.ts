import { describe, expect, test } from "vitest";
import { json, rejection, serve, setup, TOKEN } from "./harness.ts";

describe("a redirect", () => {
  test.each([301, 302, 303, 307, 308])(
    "should be followed below the base, credentials and all: %i",
    async (status) => {
      const { api, server } = await setup((request, response) =>
        request.url === "/v1/old"
          ? void response.writeHead(status, { location: "/v1/new?x=1" }).end("moved")
          : json(response, "here"),
      );
      expect(await api.get("old")).toBe("here");
      expect(server.seen.map(({ url, headers }) => [url, headers["authorization"]])).toEqual([
        ["/v1/old", `Bearer ${TOKEN}`],
        ["/v1/new?x=1", `Bearer ${TOKEN}`],
      ]);
    },
  );

  test("should not take credentials, or anything, to another origin", async () => {
    const evil = await serve((_request, response) => json(response, "thanks"));
    const { api, server } = await setup(
      (_request, response) =>
        void response.writeHead(302, { location: `${evil.origin}/v1/x?t=canary` }).end(),
    );
    const error = await rejection(api.get("x"));
    expect(error).toMatchObject({ code: "REDIRECT_REFUSED" });
    expect(error.message).not.toContain("canary");
    expect(evil.seen).toEqual([]);
    // A refusal is no failure that a retry could mend.
    expect(server.seen).toHaveLength(1);
  });

  test.each([
    ["outside the base", "/admin"],
    ["out of the base by an escape", "/v1/..%2fadmin"],
    ["with other credentials", "//a:b@127.0.0.1/v1/"],
    ["to nowhere", "http://["],
    ["without a location", undefined],
  ])("should be refused %s", async (_, location) => {
    const { api, server } = await setup(
      (_request, response) => void response.writeHead(302, location === undefined ? {} : { location }).end(),
    );
    expect(await rejection(api.get("x"))).toMatchObject({ code: "REDIRECT_REFUSED" });
    expect(server.seen).toHaveLength(1);
  });

  test("should be refused when there are too many", async () => {
    const { api, server } = await setup(
      (request, response) => void response.writeHead(302, { location: `${request.url}x` }).end(),
    );
    expect(await rejection(api.get("x"))).toMatchObject({ code: "REDIRECT_REFUSED" });
    expect(server.seen).toHaveLength(6);
  });

  test.each(["POST", "PUT", "DELETE"])("should be refused for a %s", async (method) => {
    const { api, server } = await setup(
      (_request, response) => void response.writeHead(307, { location: "/v1/y" }).end(),
    );
    expect(await rejection(api.request({ method, path: "x", body: {} }))).toMatchObject({
      code: "REDIRECT_REFUSED",
    });
    expect(server.seen).toHaveLength(1);
  });
});
