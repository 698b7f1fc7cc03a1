import { spawn } from "node:child_process";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { HttpRequestInterceptor } from "@mswjs/interceptors/http";
import { http, HttpResponse } from "msw";
import { defineNetwork, InterceptorSource } from "msw/experimental";
import { Agent } from "undici";
import { describe, expect, onTestFinished, test } from "vitest";
import { Hooks } from "../../src/core/hooks.ts";
import { defineProvider } from "../../src/core/provider.ts";
import { createApiClients } from "../../src/http/index.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { clientOf, json, rejection, serve, setup, until } from "./harness.ts";

describe("the clients", () => {
  test.each([
    ["rateLimit.requests", { rateLimit: { requests: 0 } }],
    ["rateLimit.requests", { rateLimit: { requests: 1.5 } }],
    ["rateLimit.concurrent", { rateLimit: { concurrent: -1 } }],
    ["rateLimit.perMs", { rateLimit: { requests: 1, perMs: Number.NaN } }],
    ["rateLimit.repairShare", { rateLimit: { repairShare: 2 } }],
    ["timeoutMs", { timeoutMs: 0 }],
    ["maxBodyBytes", { maxBodyBytes: -1 }],
  ])("should refuse a wrong number by its name: %s", (field, api) => {
    expect(() => clientOf("http://crm.example/", { api })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(field) as string }),
    );
  });

  test("should say what is missing where a provider has no `api`, and limit its SDK all the same", async () => {
    const logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const clients = createApiClients({
      providers: new Map([["bare", defineProvider({ name: "bare", resources: {} })]]),
      connections: { get: (_provider, id) => Promise.resolve({ id, credentials: {} }) },
      clock: new TestClock(),
      random: () => 0,
      hooks: new Hooks(logger),
      logger,
      maxConcurrent: 1,
    });
    onTestFinished(() => clients.close());
    const context = await clients
      .of("bare", "default")
      .context({ signal: new AbortController().signal, lane: "live" });
    const error = await rejection(context.api.get("x"));
    expect(error).toMatchObject({ code: "OPTION_INVALID" });
    expect(error.message).toContain('"bare"');
    expect(await context.limited(() => Promise.resolve("sdk"))).toBe("sdk");
    expect(() => clients.of("other", "default")).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
  });

  test("should use the dispatcher that is given, and leave it open", async () => {
    const server = await serve((_request, response) => json(response, {}));
    const dispatcher = new Agent();
    onTestFinished(() => dispatcher.close());
    const { context, clients } = clientOf(server.origin, { dispatcher });
    await (await context()).api.get("x");
    expect(Object.keys(dispatcher.stats)).toEqual([server.origin]);
    await clients.close();
    expect(dispatcher.closed).toBe(false);
  });

  test("should end what is under way, refuse the rest and hang up when they are closed", async () => {
    let answer = (): void => {};
    const { api, clients, context, contextOf, server } = await setup(
      (request, response) => (answer = () => json(response, "done")),
      { api: { rateLimit: { concurrent: 1 } } },
    );
    const running = api.get("x");
    const waiting = rejection(api.get("y"));
    await until(() => server.seen.length === 1);
    const closed = clients.close();
    expect(await waiting).toMatchObject({ code: "STOPPED" });
    answer();
    expect(await running).toBe("done");
    await closed;
    await clients.close();
    expect(await rejection(api.get("x"))).toMatchObject({ code: "STOPPED" });
    expect(await rejection(context.limited(() => Promise.resolve()))).toMatchObject({ code: "STOPPED" });
    expect(await rejection(contextOf())).toMatchObject({ code: "STOPPED" });
  });

  test("should say that they are saturated, by connection", async () => {
    let answer = (): void => {};
    const { api, clients, server } = await setup(
      (_request, response, count) => {
        if (count > 1) json(response, {});
        else answer = () => json(response, {});
      },
      { api: { rateLimit: { concurrent: 1 } } },
    );
    const saturated = (connection: string) => clients.of("crm", connection).saturated();
    const requests = Promise.all([api.get("x"), api.get("y")]);
    await until(() => server.seen.length === 1);
    expect([saturated("default"), saturated("other")]).toEqual([true, false]);
    answer();
    await requests;
    expect(saturated("default")).toBe(false);
  });
});

describe("ten thousand connections", () => {
  test("should be forgotten while they are idle", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const found: WeakRef<object>[] = [];
    const { context } = clientOf("http://crm.example/", {
      get: (_provider, id) => {
        const connection = { id, credentials: {} };
        found.push(new WeakRef(connection));
        return Promise.resolve(connection);
      },
    });
    for (let i = 0; i < 10_000; i += 1) await context(`c${i}`);
    await new Promise((resolve) => void setImmediate(resolve));
    collect();
    const alive = found.filter((reference) => reference.deref() !== undefined).length;
    expect(alive).toBeGreaterThan(0);
    expect(alive).toBeLessThan(1_100);
  });

  test("should not make one of them forget what it has used of its rate", async () => {
    const clock = new TestClock();
    const { context } = clientOf("http://crm.example/", {
      clock,
      api: { rateLimit: { requests: 1, perMs: 3_600_000 } },
    });
    const busy = await context("busy");
    await busy.limited(() => Promise.resolve());
    for (let i = 0; i < 5_000; i += 1) await context(`c${i}`);
    let started = false;
    const second = (await context("busy")).limited(async () => void (started = true));
    await until(() => clock.nextTimerInMs !== undefined);
    expect(started).toBe(false);
    await clock.advance(3_600_000 + 1_000);
    await second;
    expect(started).toBe(true);
  });

  test("should not make it forget that either where it is forgotten itself (I10)", async () => {
    const clock = new TestClock();
    const { clients, context } = clientOf("http://crm.example/", {
      clock,
      api: { rateLimit: { requests: 1, perMs: 3_600_000 } },
    });
    await (await context("acme")).limited(() => Promise.resolve());
    clients.forget("crm", "acme");
    let started = false;
    const second = (await context("acme")).limited(async () => void (started = true));
    await until(() => clock.nextTimerInMs !== undefined);
    expect(started).toBe(false);
    await clock.advance(3_600_000 + 1_000);
    await second;
    expect(started).toBe(true);
  });
});

describe("a process", () => {
  /** Runs a module in a process of its own, and gives what it prints when it has ended by itself. */
  async function run(code: string): Promise<string> {
    const url = new URL("../../src/", import.meta.url).href;
    const prelude = `
      import { createApiClients } from "${url}http/index.ts";
      import { Hooks } from "${url}core/hooks.ts";
      import { systemClock, systemRandom } from "${url}core/clock.ts";
      import { defineProvider } from "${url}core/provider.ts";
      const logger = { debug() {}, info() {}, warn() {}, error() {} };
      const clientsOf = (baseUrl, rateLimit) => createApiClients({
        providers: new Map([["crm", defineProvider({ name: "crm", api: { baseUrl, rateLimit }, resources: {} })]]),
        connections: { get: async (provider, id) => ({ id, credentials: {} }) },
        clock: systemClock, random: systemRandom, hooks: new Hooks(logger), logger, maxConcurrent: 4,
      });
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", prelude + code], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
    });
    onTestFinished(() => void child.kill());
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    await new Promise((resolve) => child.on("close", resolve));
    return output;
  }

  test("should end with idle limiters and connections left open", async () => {
    const server = await serve((_request, response) => json(response, "ok"));
    const output = await run(`
      const clients = clientsOf("${server.origin}", { requests: 2, perMs: 3_600_000 });
      const { api } = await clients.of("crm", "default").context({ signal: new AbortController().signal, lane: "live" });
      console.log(await api.get("x"));
    `);
    expect(output).toBe("ok\n");
  });

  test("should keep the dispatcher that the application has set up for its own fetch", async () => {
    const server = await serve((_request, response) => json(response, "ok"));
    const output = await run(`
      const key = Symbol.for("undici.globalDispatcher.1");
      const own = { dispatch() {} };
      Object.defineProperty(globalThis, key, { value: own, writable: true });
      const clients = clientsOf("${server.origin}");
      const { api } = await clients.of("crm", "default").context({ signal: new AbortController().signal, lane: "live" });
      console.log(await api.get("x"), globalThis[key] === own);
    `);
    expect(output).toBe("ok true\n");
  });
});

describe("a mocked network", () => {
  test("should be able to stand in for the provider", async () => {
    const network = defineNetwork({
      sources: [new InterceptorSource({ interceptors: [new HttpRequestInterceptor()] })],
      handlers: [http.get("https://crm.example/v1/contacts/:id", ({ params }) => HttpResponse.json(params))],
      onUnhandledFrame: "error",
      context: { quiet: true },
    });
    network.enable();
    onTestFinished(() => network.disable());
    const { context } = clientOf("https://crm.example/v1");
    expect(await (await context()).api.get("contacts/7")).toEqual({ id: "7" });
  });
});
