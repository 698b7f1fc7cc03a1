import { createHmac } from "node:crypto";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { systemClock } from "../../../src/core/clock.ts";
import { type EventMap, Hooks } from "../../../src/core/hooks.ts";
import { defineProvider, type WebhookDefinition } from "../../../src/core/provider.ts";
import { defineResource } from "../../../src/core/resource.ts";
import type { EventDelivery, Outcome } from "../../../src/core/source.ts";
import { githubSignature } from "../../../src/signatures/github.ts";
import {
  createReceiver,
  type Receiver,
  type ReceiverOptions,
} from "../../../src/sources/webhook/receiver.ts";

export const SECRET = "It's a Secret";

// oxlint-disable-next-line typescript/no-explicit-any -- credentials are of no interest here
export type TestWebhook = Partial<WebhookDefinition<any>>;

export interface Bench {
  readonly receiver: Receiver;
  /** What reached the sink. */
  readonly deliveries: EventDelivery[];
  readonly events: { readonly name: keyof EventMap; readonly event: unknown }[];
  readonly refused: () => { status: number; code: string }[];
  readonly asked: string[];
}

export interface BenchOptions extends Partial<Omit<ReceiverOptions, "provider">> {
  readonly webhook?: TestWebhook;
  readonly outcome?: Outcome | Error;
}

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

/** A receiver whose sink, connections and hooks are recorded. */
export function bench({ webhook, outcome = accepted, ...options }: BenchOptions = {}): Bench {
  const silent = () => {};
  const hooks = new Hooks({ debug: silent, info: silent, warn: silent, error: silent });
  const events: Bench["events"] = [];
  for (const name of ["delivery", "delivery.refused", "warning", "error"] as const) {
    hooks.on(name, (event) => events.push({ name, event }));
  }
  const deliveries: EventDelivery[] = [];
  const asked: string[] = [];
  const contact = defineResource({
    schema: z.object({ id: z.string() }),
    idOf: (row) => row.id,
    fetch: async () => ({ id: "1" }),
  });
  const provider = defineProvider({
    name: "crm",
    webhook: {
      verify: githubSignature({ secret: SECRET }),
      events: (delivery) => [{ resource: "contact", objectId: (delivery.json as { id: string }).id }],
      ...webhook,
    },
    resources: { contact },
  });
  const receiver = createReceiver({
    provider,
    clock: systemClock,
    hooks,
    accepting: () => true,
    findConnection: async (id) => {
      asked.push(id);
      return id === "unknown" ? undefined : { id, credentials: undefined };
    },
    sink: async (delivery) => {
      deliveries.push(delivery);
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    ...options,
  });
  const refused = () =>
    events
      .filter(({ name }) => name === "delivery.refused")
      .map(({ event }) => {
        const { status, code } = event as { status: number; code: string };
        return { status, code };
      });
  return { receiver, deliveries, events, refused, asked };
}

export function signed(body: string | Uint8Array): Record<string, string> {
  return {
    "content-type": "application/json",
    "x-hub-signature-256": `sha256=${createHmac("sha256", SECRET).update(body).digest("hex")}`,
  };
}

/** A server that listens until the test ends. */
export interface Listening {
  readonly url: string;
  readonly port: number;
}

async function listening(server: Server): Promise<Listening> {
  await new Promise<void>((resolve) =>
    server.listening ? resolve() : server.listen(0, "127.0.0.1", resolve),
  );
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/hook`, port };
}

export const listenNode = (listener: RequestListener): Promise<Listening> =>
  listening(createServer(listener));

/** The ways to mount a receiver, each as the documentation of `Receiver` shows it. */
export const servers: Readonly<Record<string, Mount>> = {
  "node:http": ({ node }) => listenNode(node),
  Express: ({ node }) => {
    const app = express();
    app.all("/hook", node);
    app.use(express.json());
    return listenNode(app as RequestListener);
  },
  "Express after express.raw()": ({ node }) => {
    const app = express();
    app.use(express.raw({ type: () => true, limit: "10mb", inflate: false }));
    app.all("/hook", node);
    // What express.raw() itself refuses (compression, a body that breaks off) never reaches the route.
    app.use((_error: unknown, request: express.Request, response: express.Response, _next: unknown) => {
      node(request, response);
    });
    return listenNode(app as RequestListener);
  },
  Fastify: async ({ node }) => {
    const app = fastify();
    await app.register(async (hooks) => {
      hooks.removeAllContentTypeParsers();
      hooks.addContentTypeParser("*", (_request, _payload, done) => done(null));
      hooks.all("/hook", (request, reply) => {
        reply.hijack();
        node(request.raw, reply.raw);
      });
    });
    await app.listen({ port: 0, host: "127.0.0.1" });
    return listening(app.server);
  },
  Hono: ({ fetch }) => {
    const app = new Hono();
    app.all("/hook", (context) => fetch(context.req.raw));
    return listening(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },
};

/** The two adapters, bare. */
export const adapters = ["node:http", "Hono"].map((name) => ({ name, mount: servers[name]! }));

export const body = '{"id":"c_1"}';

export type Mount = (receiver: Receiver) => Promise<Listening>;

/** Posts a signed delivery to a receiver of its own. */
export async function post(mount: Mount, options: BenchOptions = {}, init: RequestInit = {}) {
  const at = bench(options);
  const { url } = await mount(at.receiver);
  const response = await fetch(url, { method: "POST", body, headers: signed(body), ...init });
  return { ...at, response, text: await response.text() };
}

/** The same for a delivery that is refused: what the answer says, and which errors were reported. */
export async function refusedPost(mount: Mount, options: BenchOptions, init?: RequestInit) {
  const { response, text, events, deliveries } = await post(mount, options, init);
  const { error } = JSON.parse(text) as { error: { code: string; message: string } };
  const reported = events.flatMap(({ name, event }) =>
    name === "error" ? [(event as { error: Error }).error] : [],
  );
  return { status: response.status, code: error.code, text, response, reported, deliveries };
}
