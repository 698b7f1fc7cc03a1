import { createHmac } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import {
  defineProvider,
  defineResource,
  hmacSignature,
  linkPages,
  type Logger,
  type Outcome,
  type Source,
  SyncEngine,
  urlPath,
} from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { keepSecrets } from "../../src/core/secrets.ts";
import type { EventMap } from "../../src/core/hooks.ts";
import { failureOf, next, temporaryDirectory } from "./notes.ts";

/** In every secret of this file, and nowhere else. */
const CANARY = "c4n4ry";
const secrets = {
  webhook: `whsec-${CANARY}-webhook`,
  /** One of a connection's own scheme, which no credentials hold. */
  vault: `${CANARY}-of-the-vault`,
  header: `${CANARY}-api-header`,
  query: `${CANARY}-api-key`,
  path: `bot7712:${CANARY}-in-the-base-url`,
  source: `${CANARY}-broker-token`,
  named: `${CANARY}-named-by-the-user`,
};
const tokenOf = (connection: string) => `${CANARY}/token+of=${connection}`;
const PRIVATE_KEY = `-----BEGIN KEY-----\n${CANARY}MIIEvQIBADANBg\n-----END KEY-----`;

const EVENTS = {
  delivery: true,
  "delivery.refused": true,
  "delivery.unsettled": true,
  poll: true,
  "poll.failed": true,
  "webhooks.quiet": true,
  fetch: true,
  "api.response": true,
  "change.handled": true,
  "change.unchanged": true,
  "change.lagging": true,
  "change.failed": true,
  "change.dead": true,
  "change.lost": true,
  "pass.started": true,
  "pass.page": true,
  "pass.finished": true,
  "pass.failed": true,
  "deletes.suppressed": true,
  "connection.paused": true,
  "connection.resumed": true,
  "source.failed": true,
  warning: true,
  error: true,
} satisfies Record<keyof EventMap, true>;

/** All that anybody was told, as the most talkative logger would write it. */
class Transcript {
  readonly #texts: string[] = [];

  hear(what: string, value: unknown): void {
    this.#texts.push(`${what} ${inspect(value, { depth: null, showHidden: true, maxStringLength: null })}`);
    this.#texts.push(`${what} ${JSON.stringify(value, inFull)}`);
  }

  /** What holds a secret, in any of the spellings that somebody could read. */
  leaks(): string[] {
    return this.#texts.filter((text) => LEAK.test(text));
  }

  get text(): string {
    return this.#texts.join("\n");
  }
}

const LEAK = new RegExp(`${CANARY}|${Buffer.from(CANARY).toString("hex")}|MIIEvQIBADANBg`, "i");

function inFull(_key: string, value: unknown): unknown {
  if (value instanceof Error) {
    const { name, message, stack, cause } = value;
    return { ...Object.fromEntries(Object.entries(value)), name, message, stack, cause };
  }
  return typeof value === "bigint" ? String(value) : value;
}

/** An API that repeats whatever it is sent, and fails as the note's id says. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://api");
  const echo = JSON.stringify({ url: request.url, headers: request.headers });
  const id = decodeURIComponent(url.pathname.split("/").at(-1) ?? "");
  const json = { "content-type": "application/json" };
  if (id === "notes") {
    const page = url.searchParams.get("page");
    const connection = String(request.headers["x-connection"]);
    const link = `<${url.pathname}?page=2&api_key=${secrets.query}&access_token=${encodeURIComponent(tokenOf(connection))}>; rel="next"`;
    if (page !== null) response.writeHead(400, json).end(echo);
    else response.writeHead(200, { ...json, link }).end(JSON.stringify([{ id: "n1", text: "hello" }]));
  } else if (/^\d{3}$/.test(id)) {
    response.writeHead(Number(id), { ...json, ...(id === "429" ? { "retry-after": "1" } : {}) }).end(echo);
  } else if (id === "reset") {
    request.socket.destroy();
  } else if (id === "redirect") {
    response.writeHead(302, { location: `https://elsewhere.example/?t=${secrets.query}` }).end();
  } else if (id === "garbage") {
    response.writeHead(200, json).end(`{${echo}`);
  } else if (id === "schema") {
    response.writeHead(200, json).end(JSON.stringify({ id, text: echo, [tokenOf("schema")]: 1 }));
  } else {
    response.writeHead(200, json).end(JSON.stringify({ id, text: "fine" }));
  }
}

let port: number;
const api = createServer(answer);
beforeAll(async () => {
  await new Promise<void>((resolve) => void api.listen(0, "127.0.0.1", resolve));
  ({ port } = api.address() as AddressInfo);
});
afterAll(() => {
  api.closeAllConnections();
  api.close();
});

const failing: Readonly<Record<string, (token: string) => unknown>> = {
  message: (token) => new Error(`refused: Bearer ${token}`),
  cause: (token) => new Error("refused", { cause: new Error("deep", { cause: { token } }) }),
  member: (token) => Object.assign(new Error("refused"), { config: { headers: { authorization: token } } }),
  code: (token) => Object.assign(new Error("refused"), { code: token }),
  text: (token) => token,
  encoded: (token) => new Error(`GET /?t=${encodeURIComponent(token)} ${JSON.stringify({ PRIVATE_KEY })}`),
  several: (token) => new AggregateError([new Error(token)], "refused"),
  key: () => new Error(PRIVATE_KEY.split("\n")[1]),
  configuration: () => new Error(Object.values(secrets).join(" ")),
  unknown: () => new Error(`postgres://sync:${CANARY}!1@db.example/sync and Bearer ${CANARY}0123`),
};

function makeEngine(source?: Source) {
  const transcript = new Transcript();
  const path = join(temporaryDirectory(), "sync.db");
  const note = defineResource({
    schema: z.object({ id: z.string(), text: z.string() }).superRefine((value, context) => {
      if (value.id !== "schema") return;
      context.addIssue({ code: "custom", path: ["text", tokenOf("schema")], message: `bad: ${value.text}` });
    }),
    idOf: (row) => row.id,
    fetch: (id, { api: client }) => client.get(urlPath`notes/${id}`, { query: { api_key: secrets.query } }),
    list: linkPages({ path: "notes", query: () => ({ api_key: secrets.query }) }),
  });
  let refusesToRefresh = false;
  const provider = defineProvider({
    name: "notes",
    credentials: z.object({ token: z.string(), keys: z.array(z.object({ private: z.string() })) }),
    api: {
      baseUrl: () => `http://127.0.0.1:${port}/${secrets.path}/`,
      headers: ({ id, credentials }) => ({
        authorization: `Bearer ${credentials.token}`,
        "x-api-key": secrets.header,
        "x-connection": id,
      }),
    },
    webhook: {
      connection: (delivery) => delivery.json.connection,
      verify: ({ id }) => [
        {
          verify: () => {
            throw new Error(`${tokenOf(id)} expects another signature`);
          },
        },
        hmacSignature({ ...signing, secret: [secrets.webhook, secrets.vault] }),
      ],
      events: ({ json }) => {
        if (json.fail === "events")
          throw new Error(`${secrets.vault} ${tokenOf(json.connection)}`, { cause: json });
        return [{ resource: "note", objectId: json.id }];
      },
      respond: (_, { json }) => {
        if (json.fail === "respond") throw new Error(tokenOf(json.connection));
        return undefined;
      },
    },
    resources: { note },
  });
  const log =
    (level: keyof Logger) =>
    (fields: object, message: string): void =>
      transcript.hear(`log ${level}`, { fields, message });
  const engine = new SyncEngine({
    providers: [provider],
    store: sqliteStore({ path }),
    sources: source === undefined ? [] : [source],
    secrets: [secrets.named, secrets.source],
    connections: {
      get: (_provider, id, { refresh }) => {
        if (refresh && refusesToRefresh) throw new Error(`the vault refuses ${tokenOf(id)}`);
        return { id, credentials: { token: tokenOf(id), keys: [{ private: PRIVATE_KEY }] } };
      },
      list: () => ["acme"],
    },
    retry: { attempts: 1 },
    random: () => 0,
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
  });
  for (const name of Object.keys(EVENTS) as (keyof EventMap)[])
    engine.on(name, (event) => transcript.hear(`event ${name}`, event));
  engine.handle("notes.note", async (change) => {
    const { connection, id } = change.ref;
    const error = failing[id]?.(tokenOf(connection));
    // oxlint-disable-next-line typescript/only-throw-error -- anything can be thrown
    if (error !== undefined) throw error;
    if (id !== "committed") return;
    await change.commit(() => {});
    throw new Error(tokenOf(connection));
  });
  onTestFinished(() => engine.stop({ timeoutMs: 1_000 }));
  const receiver = engine.webhook("notes");
  const deliver = async (body: object, secret = secrets.webhook): Promise<number> => {
    const text = JSON.stringify(body);
    const response = await receiver.fetch(
      new Request("http://receiver.example/hook", {
        method: "POST",
        body: text,
        headers: {
          "x-signature": createHmac("sha256", secret).update(text).digest("hex"),
          authorization: `Bearer ${secrets.header}`,
          cookie: `session=${CANARY}`,
        },
      }),
    );
    transcript.hear("answer", { status: response.status, body: await response.text() });
    return response.status;
  };
  return {
    engine,
    transcript,
    path,
    deliver,
    refuseRefresh: () => (refusesToRefresh = true),
  };
}

const signing = { header: "x-signature", algorithm: "sha256", encoding: "hex" } as const;

/** What stays behind, when everything else was heard. */
async function expectNoLeak({ engine, transcript, path }: ReturnType<typeof makeEngine>): Promise<void> {
  transcript.hear("status", await engine.status());
  transcript.hear("dead letters", await engine.deadLetters.list());
  await engine.stop({ timeoutMs: 1_000 });
  const directory = join(path, "..");
  const files = readdirSync(directory);
  expect(files).toContain("sync.db");
  for (const file of files) transcript.hear(file, readFileSync(join(directory, file)).toString("latin1"));
  expect(transcript.leaks()).toEqual([]);
}

describe("no secret is told or kept (I12)", () => {
  test("should be a search that finds secrets", () => {
    for (const [value, found] of [
      [new Error("x", { cause: [new Error(tokenOf("a"))] }), 2],
      [{ PRIVATE_KEY }, 2],
      [Object.values(secrets), 2],
      ["nothing", 0],
    ] as const) {
      const transcript = new Transcript();
      transcript.hear("it", value);
      expect(transcript.leaks()).toHaveLength(found);
    }
  });

  test.each(["400", "403", "404", "429", "500", "reset", "redirect", "garbage", "schema"])(
    "when the API fails a fetch with %s",
    async (id) => {
      const made = makeEngine();
      await made.engine.start();
      const ended = id === "429" ? "connection.paused" : id === "404" ? "change.unchanged" : "change.dead";
      const over = next(made.engine, ended);
      expect(await made.deliver({ connection: id, id })).toBe(200);
      await over;
      expect(made.transcript.text).toContain("event fetch");
      await expectNoLeak(made);
    },
  );

  test.each(["refused after a refresh", "refused, and the refresh fails"])(
    "when the credentials are %s",
    async (what) => {
      const made = makeEngine();
      if (what.includes("fails")) made.refuseRefresh();
      await made.engine.start();
      const over = Promise.race([next(made.engine, "connection.paused"), next(made.engine, "change.dead")]);
      await made.deliver({ connection: "acme", id: "401" });
      await over;
      await expectNoLeak(made);
    },
  );

  test.each(Object.keys(failing))("when a handler throws one as a %s", async (id) => {
    const made = makeEngine();
    await made.engine.start();
    const over = next(made.engine, "change.dead");
    await made.deliver({ connection: "acme", id });
    await over;
    expect(made.transcript.text).toMatch(/gave up: .*(refused|redacted)/);
    await expectNoLeak(made);
  });

  test("when a handler throws one after its commit", async () => {
    const made = makeEngine();
    await made.engine.start();
    const over = next(made.engine, "error");
    await made.deliver({ connection: "acme", id: "committed" });
    expect((await over).error.message).toBe("[redacted]");
    await expectNoLeak(made);
  });

  test.each([
    ["is signed with another secret", {}, "another secret", 401],
    ["is signed with an older secret", {}, secrets.vault, 200],
    ["makes `events` throw", { fail: "events" }, secrets.webhook, 400],
    ["makes `respond` throw", { fail: "respond" }, secrets.webhook, 200],
    ["has no valid id", { id: { [CANARY]: 1 } }, secrets.webhook, 400],
  ])("when a delivery %s", async (_, body, secret, status) => {
    const made = makeEngine();
    expect(await made.deliver({ connection: "acme", id: "n1", ...body }, secret)).toBe(status);
    await expectNoLeak(made);
  });

  test("when a source fails with one, and is told what became of its deliveries", async () => {
    const outcome = Promise.withResolvers<Outcome | undefined>();
    const body = Buffer.from(JSON.stringify({ connection: "acme", fail: "events" }));
    const json = JSON.parse(body.toString()) as unknown;
    const source: Source = {
      name: "broker",
      run: async (sink) => {
        const delivery = { method: "POST", url: "/", header: () => undefined, body, json, receivedAt: 0 };
        const [first] = await sink([{ provider: "notes", connection: "acme", verify: false, delivery }]);
        outcome.resolve(first);
        throw new Error(`amqp://guest:${CANARY}@broker.example said ${secrets.source}`, {
          cause: { token: secrets.named },
        });
      },
    };
    const made = makeEngine(source);
    const failed = next(made.engine, "source.failed");
    await made.engine.start();
    await failed;
    expect(await outcome.promise).toMatchObject({ status: "rejected", error: { code: "EVENTS_FAILED" } });
    made.transcript.hear("outcome", await outcome.promise);
    await expectNoLeak(made);
  });

  test("when a source noted its own", async () => {
    const token = `${CANARY}-noted`;
    const source: Source = { name: "broker", run: () => Promise.reject(new Error(token)) };
    const made = makeEngine(keepSecrets(source, [token]));
    const failed = next(made.engine, "source.failed");
    await made.engine.start();
    expect((await failed).error.message).toBe("[redacted]");
    expect(inspect(source, { depth: null, showHidden: true })).not.toContain(CANARY);
    await expectNoLeak(made);
  });

  test("when a list fails half-way, and its cursor is kept", async () => {
    const made = makeEngine();
    const error = await failureOf(made.engine.reconcile("notes.note", { mode: "full", connection: "acme" }));
    expect(error).toMatchObject({ name: "HttpError", status: 400 });
    made.transcript.hear("rejection", error);
    made.transcript.hear(
      "rejection",
      await failureOf(made.engine.verify("notes.note", { connection: "acme" })),
    );
    // The control: the cursor is there, without its secrets, and leads on.
    const seen = made.transcript.text;
    await made.engine.stop();
    expect(
      readdirSync(join(made.path, ".."))
        .map((file) => readFileSync(join(made.path, "..", file), "latin1"))
        .join(),
    ).toContain('"cursor":"?page=2"');
    expect(seen).not.toMatch(LEAK);
  });

  test("when a listener throws one", async () => {
    const made = makeEngine();
    made.engine.on("delivery", () => {
      throw new Error(`${secrets.named} ${secrets.source}`);
    });
    await made.deliver({ connection: "acme", id: "n1" });
    expect(made.transcript.text).toContain("a listener threw");
    await expectNoLeak(made);
  });

  test("when the store cannot be opened", async () => {
    const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
    store.open = () => Promise.reject(new Error(`redis://:${CANARY}@cache.example refuses`));
    const engine = new SyncEngine({ providers: [], store });
    const error = await failureOf(engine.start());
    expect(error.message).toBe("redis://[redacted]@cache.example refuses");
    expect(inspect(error, { showHidden: true })).not.toMatch(LEAK);
  });
});
