/** What the tests of the API client share: a real server, a client for it, and ways to wait for facts. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { ApiClients, Context } from "../../src/core/api.ts";
import { systemClock } from "../../src/core/clock.ts";
import { type EventMap, Hooks, type Logger } from "../../src/core/hooks.ts";
import {
  type AnyProvider,
  type ApiDefinition,
  type Connection,
  defineProvider,
} from "../../src/core/provider.ts";
import { type ApiClientOptions, createApiClients } from "../../src/http/index.ts";

export type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly at: number;
  body: string;
}

export interface TestServer {
  readonly origin: string;
  /** Every request, in the order of arrival; bodies fill in as they come. */
  readonly seen: Seen[];
}

/** Serves until the test ends. `count` is 1 for the first request. */
export async function serve(handler: Handler): Promise<TestServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const { headers, method = "", url = "" } = request;
    const entry: Seen = { method, url, headers, at: performance.now(), body: "" };
    seen.push(entry);
    request.setEncoding("utf8").on("data", (chunk: string) => (entry.body += chunk));
    handler(request, response, seen.length);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => void server.close(resolve));
  });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

export function json(
  response: ServerResponse,
  value: unknown,
  headers: Record<string, string> = {},
  status = 200,
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}

export const TOKEN = "canary-token-5f0c";

export interface ClientOptions extends Partial<Omit<ApiClientOptions, "providers" | "connections">> {
  readonly api?: Partial<ApiDefinition<{ token: string }>> | undefined;
  readonly get?: (
    provider: string,
    id: string,
    options: { readonly refresh: boolean },
  ) => Promise<Connection>;
}

export interface TestClients {
  readonly clients: ApiClients;
  readonly events: EventMap["api.response"][];
  readonly logged: object[];
  readonly context: (connection?: string, signal?: AbortSignal) => Promise<Context>;
}

export function provider(baseUrl: string, api: ClientOptions["api"] = {}): AnyProvider {
  return defineProvider({
    name: "crm",
    api: {
      baseUrl,
      headers: ({ credentials }) => ({
        authorization: `Bearer ${(credentials as { token: string }).token}`,
      }),
      ...api,
    },
    resources: {},
  });
}

/** A client of the provider `crm` at `baseUrl`; retries wait for nothing unless a clock is given. */
export function clientOf(
  baseUrl: string,
  { api, get, clock = systemClock, ...rest }: ClientOptions = {},
): TestClients {
  const events: EventMap["api.response"][] = [];
  const logged: object[] = [];
  const log = (fields: object, message: string) => void logged.push({ ...fields, message });
  const logger: Logger = { debug: log, info: log, warn: log, error: log };
  const hooks = new Hooks(logger);
  hooks.on("api.response", (event) => events.push(event));
  const clients = createApiClients({
    providers: new Map([["crm", provider(baseUrl, api)]]),
    connections: { get: get ?? ((_provider, id) => Promise.resolve({ id, credentials: { token: TOKEN } })) },
    clock,
    random: () => 0,
    hooks,
    logger,
    maxConcurrent: 32,
    ...rest,
  });
  onTestFinished(() => clients.close());
  const context = async (connection = "default", signal = new AbortController().signal) =>
    clients.of("crm", connection).context({ signal, lane: "live" });
  return { clients, events, logged, context };
}

/** A client, its default connection's context, and the server behind it. */
export async function setup(handler: Handler, options: ClientOptions = {}) {
  const server = await serve(handler);
  const client = clientOf(`${server.origin}/v1/`, options);
  const context = await client.context();
  return { server, ...client, context, api: context.api, contextOf: client.context };
}

/** Waits for a fact, turn by turn of the event loop. */
export async function until(fact: () => boolean, what = "a fact"): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!fact()) {
    if (performance.now() > deadline) throw new Error(`gave up waiting for ${what}`);
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

/** What a promise rejects with; fails when it does not. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ("error" in outcome) return outcome.error as Error;
  throw new Error(`it resolved with ${JSON.stringify(outcome.value)}`);
}
