import type { IncomingMessage, ServerResponse } from "node:http";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Receiver } from "../../../src/sources/webhook/receiver.ts";
import { bench, listenNode, signed } from "./harness.ts";

const body = '{"id": "c_1"}';
const post = (url: string, headers = signed(body), sent = body) =>
  fetch(url, { method: "POST", body: sent, headers });

async function expectConsumed(at: ReturnType<typeof bench>, response: Response): Promise<void> {
  expect(response.status).toBe(500);
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(error.code).toBe("BODY_CONSUMED");
  expect(error.message).toContain("before any body parser");
  expect(at.deliveries).toEqual([]);
  expect(at.events).toMatchObject([
    { name: "warning", event: { code: "BODY_CONSUMED", scope: { provider: "crm" } } },
    { name: "delivery.refused", event: { status: 500, code: "BODY_CONSUMED" } },
  ]);
}

type Use = (app: express.Express) => void;
const underExpress = (receiver: Receiver, use: Use) => {
  const app = express();
  use(app);
  app.post("/hook", receiver.node);
  return listenNode((request, response) => app(request as never, response as never));
};

describe("a body that a parser has read", () => {
  test.each<[string, Use]>([
    ["express.json()", (app) => app.use(express.json())],
    ["express.text(), which loses bytes", (app) => app.use(express.text({ type: () => true }))],
    [
      "anything that drops it",
      (app) => app.use((request, _response, next) => void request.resume().on("end", () => next())),
    ],
  ])("should be refused after %s, with the remedy and one warning", async (_, use) => {
    const at = bench();
    const { url } = await underExpress(at.receiver, use);
    await expectConsumed(at, await post(url));
    await post(url);
    expect(at.events.filter(({ name }) => name === "warning")).toHaveLength(1);
  });

  test.each<[string, Use]>([
    ["as a Buffer in `body`", (app) => app.use(express.raw({ type: () => true }))],
    [
      "in `rawBody`",
      (app) =>
        app.use(
          express.json({
            verify: (request, _response, bytes) => void Object.assign(request, { rawBody: bytes }),
          }),
        ),
    ],
  ])("should serve where its bytes were kept %s", async (_, use) => {
    const at = bench();
    const { url } = await underExpress(at.receiver, use);
    expect((await post(url)).status).toBe(200);
    expect((await post(url, signed("other"))).status).toBe(401);
    expect(at.deliveries).toHaveLength(1);
  });

  test("should be bounded where it was kept", async () => {
    const at = bench({ webhook: { maxBodyBytes: 10 } });
    const { url } = await underExpress(at.receiver, (app) =>
      app.use((request, _response, next) => {
        request.resume().on("end", () => {
          Object.assign(request, { body: Buffer.from(body) });
          next();
        });
      }),
    );
    expect((await post(url)).status).toBe(413);
  });

  test("should be read where a parser passed, whatever it left in `body`", async () => {
    const at = bench();
    // The older body-parser sets `body` to {} for types that are not its own.
    const { url } = await underExpress(at.receiver, (app) =>
      app.use((request, _response, next) => {
        Object.assign(request, { body: {} });
        next();
      }),
    );
    expect((await post(url)).status).toBe(200);
  });

  test("should be read in full when middleware took its time", async () => {
    const at = bench();
    const { url } = await underExpress(at.receiver, (app) =>
      app.use((_request, _response, next) => void setImmediate(next)),
    );
    expect((await post(url)).status).toBe(200);
  });

  test("should be found through a router with a path of its own", async () => {
    const urls: string[] = [];
    const at = bench({ webhook: { events: (delivery) => (urls.push(delivery.url), []) } });
    const app = express();
    const router = express.Router();
    router.post("/hook", at.receiver.node);
    app.use("/deep", router);
    const { port } = await listenNode((request, response) => app(request as never, response as never));
    expect((await post(`http://127.0.0.1:${port}/deep/hook?a=1`)).status).toBe(200);
    expect(urls).toEqual([`http://127.0.0.1:${port}/deep/hook?a=1`]);
  });

  test("should be refused under Fastify's own parser", async () => {
    const at = bench();
    const app = fastify();
    app.post("/hook", (request, reply) => at.receiver.node(request.raw, reply.raw));
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    onTestFinished(() => app.close());
    await expectConsumed(at, await post(`${url}/hook`));
  });

  test("should be refused when a decoding stream has lost bytes", async () => {
    const at = bench();
    const { url } = await listenNode((request, response) => {
      request.setEncoding("utf8");
      at.receiver.node(request, response);
    });
    await expectConsumed(at, await post(url));
  });

  test("should be refused as a Fetch body that was used", async () => {
    const at = bench();
    const app = new Hono();
    app.post("/hook", async (context) => {
      await context.req.json();
      return at.receiver.fetch(context.req.raw);
    });
    const request = new Request("http://receiver.test/hook", { method: "POST", body, headers: signed(body) });
    await expectConsumed(at, await app.fetch(request));
  });

  test("should be refused as a Fetch body that somebody else is reading", async () => {
    const at = bench();
    const request = new Request("http://receiver.test/hook", { method: "POST", body, headers: signed(body) });
    request.body?.getReader();
    await expectConsumed(at, await at.receiver.fetch(request));
  });

  test("should be taken from requests that platforms make without raw headers", async () => {
    const at = bench();
    const { url } = await listenNode((request, response) => {
      const { headers } = request;
      const repeated = request.url === "/hook?twice" ? { "x-hub-signature-256": ["a", "b"] } : {};
      Object.defineProperty(request, "rawHeaders", { value: [] });
      Object.defineProperty(request, "headers", { value: { ...headers, ...repeated } });
      at.receiver.node(request, response);
    });
    expect((await post(url)).status).toBe(200);
    expect((await post(`${url}?twice`)).status).toBe(400);
  });

  test("should be known as gone when the sender left before the route was reached", async () => {
    const at = bench();
    const answered = Promise.withResolvers<void>();
    const { url } = await listenNode((request: IncomingMessage, response: ServerResponse) => {
      request.destroy();
      request.on(
        "close",
        () => void Promise.resolve(at.receiver.node(request, response)).then(answered.resolve),
      );
    });
    await expect(post(url)).rejects.toThrow("fetch failed");
    await answered.promise;
    expect(at.refused()).toEqual([{ status: 400, code: "BODY_INCOMPLETE" }]);
  });
});
