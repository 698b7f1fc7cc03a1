import { createHmac } from "node:crypto";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { serve } from "@hono/node-server";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { systemClock, type Clock } from "../../../src/core/clock.ts";
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
export const servers: Readonly<Record<string, (receiver: Receiver) => Promise<Listening>>> = {
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

/** A connection on which a test writes bytes as it likes. `closed` has all that came back. */
export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<string>;
  #received = "";
  #waiting: (() => void)[] = [];

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.setEncoding("latin1");
    this.socket.on("data", (chunk: string) => {
      this.#received += chunk;
      for (const check of this.#waiting) check();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", () => resolve(this.#received));
    });
    this.socket.on("error", () => {}); // a reset; `closed` says what came before
  }

  /** Resolves once the bytes are on their way: false where the connection is closed. */
  write(text: string | Uint8Array): Promise<boolean> {
    return new Promise((resolve) => {
      this.socket.write(text, (error) => resolve(error == null));
    });
  }

  /** Resolves with what came back once it holds `text`. */
  received(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (this.#received.includes(text)) resolve(this.#received);
      };
      this.#waiting.push(check);
      check();
      void this.closed.then((all) => reject(new Error(`closed after ${JSON.stringify(all)}`)));
    });
  }
}

export function rawClient(port: number): RawClient {
  const client = new RawClient(port);
  onTestFinished(() => {
    client.socket.destroy();
  });
  return client;
}

/** A clock whose timers a test fires by hand. */
export class HandClock implements Clock {
  readonly timers: { readonly at: number; readonly callback: () => void }[] = [];
  #monotonic = 0;
  #watchers: (() => void)[] = [];

  now(): number {
    return 1_674_087_231_000 + this.#monotonic;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  setTimer(callback: () => void, delayMs: number): () => void {
    const timer = { at: this.#monotonic + delayMs, callback };
    this.timers.push(timer);
    for (const watcher of this.#watchers) watcher();
    return () => {
      const at = this.timers.indexOf(timer);
      if (at >= 0) this.timers.splice(at, 1);
      for (const watcher of this.#watchers) watcher();
    };
  }

  /** Resolves when that many timers are set. */
  async timerCount(count: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const check = () => {
        if (this.timers.length === count) resolve();
      };
      this.#watchers.push(check);
      check();
    });
  }

  advance(ms: number): void {
    this.#monotonic += ms;
    for (const timer of this.timers.filter(({ at }) => at <= this.#monotonic)) {
      this.timers.splice(this.timers.indexOf(timer), 1);
      timer.callback();
    }
  }
}
