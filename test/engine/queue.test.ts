/** Whole engines fed by a queue: when it is told what, and what is kept. */
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type EngineOptions, keyvStore, SyncEngine, type WebhookDelivery } from "trueup";
import { hooqueSource, type HooqueSourceOptions } from "trueup/hooque";
import { sqliteStore } from "trueup/sqlite";
import { FakeHooque, type FakeHooqueOptions } from "trueup/testing";
import { sleep, systemClock } from "../../src/core/clock.ts";
import { gate, type NotesDefinition, notesProvider, SECRET, World } from "./world.ts";

interface Setup {
  readonly store?: EngineOptions["store"];
  readonly source?: Partial<HooqueSourceOptions>;
  readonly fake?: FakeHooqueOptions;
  readonly ackTimeoutMs?: number;
  readonly webhook?: NotesDefinition["webhook"];
}

async function setup({ ackTimeoutMs, fake, source, store, webhook = {} }: Setup = {}) {
  const world = new World();
  for (let i = 0; i < 10; i += 1) world.put(`n${i}`, `text ${i}`);
  const hooque = new FakeHooque(fake);
  const url = await hooque.start();
  const directory = mkdtempSync(join(tmpdir(), "trueup-queue-"));
  const path = join(directory, "queue.db");
  const engines: SyncEngine[] = [];
  const handled: string[] = [];
  const told: { name: string; event: object }[] = [];
  const start = async (onHandle: (id: string) => unknown = () => {}) => {
    const engine = new SyncEngine({
      providers: [
        notesProvider(world, {}, { webhook, ...(ackTimeoutMs === undefined ? {} : { ackTimeoutMs }) }),
      ],
      store: store ?? sqliteStore({ path }),
      sources: [hooqueSource({ provider: "notes", url, token: hooque.token, maxIdleMs: 100, ...source })],
      connections: {
        get: async (_provider, id) => ({ id, credentials: undefined }),
        list: async () => ["default"],
      },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    });
    engines.push(engine as unknown as SyncEngine);
    for (const name of ["delivery", "delivery.refused", "delivery.unsettled"] as const) {
      engine.on(name, (event) => told.push({ name, event }));
    }
    engine.handle("notes.note", async ({ ref }) => {
      await onHandle(ref.id);
      handled.push(ref.id);
    });
    await engine.start();
    return engine;
  };
  onTestFinished(async () => {
    for (const engine of engines) await engine.stop();
    await hooque.close();
    rmSync(directory, { recursive: true });
  });
  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    for (let looks = 0; !(await holds()); looks += 1) {
      if (looks > 1_000) throw new Error(`waited in vain: ${what}`);
      await sleep(systemClock, 10);
    }
  };
  return { handled, hooque, start, told, until };
}

const message = (id: string) => [{ resource: "note", objectId: id }];

describe("a queue's message", () => {
  test("should be acked once it is committed, whatever the handler takes, with a durable store (I1)", async () => {
    const at = await setup();
    const handling = gate();
    at.hooque.send(message("n1"));
    const engine = await at.start(() => handling.opened);
    await at.until("it should be acked", () => at.hooque.acked.length === 1);
    expect(at.handled).toEqual([]);
    handling.open();
    await engine.drain();
    expect(at.handled).toEqual(["n1"]);
  });

  test("should be acked once it is handled, and not before, with a store that survives nothing (I1)", async () => {
    const at = await setup({ store: keyvStore() });
    const handling = gate();
    const began = gate();
    at.hooque.send(message("n1"));
    await at.start(() => {
      began.open();
      return handling.opened;
    });
    await began.opened;
    expect([at.hooque.remaining, at.hooque.acked]).toEqual([1, []]);
    handling.open();
    await at.until("it should be acked", () => at.hooque.acked.length === 1);
    expect(at.handled).toEqual(["n1"]);
  });

  test("should be given back, and come again, when it is not handled in time with such a store", async () => {
    const at = await setup({ store: keyvStore(), ackTimeoutMs: 50, source: { visibilityTimeoutMs: 1_000 } });
    const handling = gate();
    at.hooque.send(message("n1"));
    await at.start(() => handling.opened);
    await at.until("it should be given back", () =>
      at.hooque.requests.some(({ path }) => path.includes("/nack/")),
    );
    expect(at.hooque.acked).toEqual([]);
    handling.open();
    await at.until("it should be acked", () => at.hooque.acked.length === 1);
    expect(at.handled).toEqual(["n1"]);
    expect(at.told.map(({ event }) => (event as { status?: string }).status)).toEqual(["retry", "duplicate"]);
  });

  test("should be a duplicate when it is delivered again while the first copy is in work", async () => {
    const at = await setup({ store: keyvStore(), fake: { visibilityTimeoutMs: 100 } });
    const handling = gate();
    at.hooque.send(message("n1"));
    await at.start(() => handling.opened);
    await at.until(
      "it should have come twice",
      () =>
        at.hooque.pending.length === 0 &&
        at.told.length === 0 &&
        at.hooque.requests.filter(({ path }) => path.endsWith("/next")).length > 3,
    );
    handling.open();
    await at.until("it should be acked", () => at.hooque.remaining === 0);
    expect(at.handled).toEqual(["n1"]);
  });

  test("should be handled once when the process ends between commit and ack (I8)", async () => {
    const at = await setup({ fake: { visibilityTimeoutMs: 500 } });
    at.hooque.fault = ({ path }) => (path.includes("/ack/") ? "hang-up" : undefined);
    at.hooque.send(message("n1"));
    const first = await at.start();
    await at.until("it should be handled", () => at.handled.length === 1);
    await first.stop();
    expect(at.hooque.remaining).toBe(1);
    at.hooque.fault = () => undefined;
    await at.start();
    await at.until("it should be acked", () => at.hooque.remaining === 0);
    expect(at.told.at(-1)).toMatchObject({ name: "delivery", event: { status: "duplicate" } });
    expect(at.handled).toEqual(["n1"]);
  });

  test("that cannot be read should go to the dead letters with the reason, and hold up no other", async () => {
    const at = await setup();
    at.hooque.send("<xml/>");
    at.hooque.send([{ resource: 5 }]);
    at.hooque.send(message("n1"));
    await at.start();
    await at.until("all should be settled", () => at.hooque.remaining === 0);
    expect(at.hooque.deadLetters.map(({ reason = "" }) => reason.replace(/:.*/, "")).toSorted()).toEqual([
      "BODY_INVALID",
      "EVENT_INVALID",
    ]);
    expect(at.hooque.acked).toEqual(["msg_3"]);
  });

  test("that is not genuine should be rejected and counted, and never stored, where the source verifies (I11)", async () => {
    const at = await setup({ source: { verify: true } });
    at.hooque.send(message("n1"), { "x-signature": "00".repeat(32) });
    const engine = await at.start();
    await at.until("it should be rejected", () => at.hooque.deadLetters.length === 1);
    expect(at.told).toMatchObject([
      { name: "delivery.refused", event: { provider: "notes", status: 401, code: "SIGNATURE_INVALID" } },
    ]);
    expect((await engine.status()).backlog).toBe(0);
    expect(at.handled).toEqual([]);
    // Control: a genuine one is taken.
    const body = JSON.stringify(message("n2"));
    at.hooque.send(body, { "x-signature": createHmac("sha256", SECRET).update(body).digest("hex") });
    await at.until("it should be acked", () => at.hooque.acked.length === 1);
  });

  test("should count for its connection: when it came, what it brought, and that it was not genuine", async () => {
    const connection = (delivery: WebhookDelivery) => delivery.header("x-account");
    const at = await setup({ source: { verify: true }, webhook: { connection } });
    const send = (account: string, secret: string) => {
      const body = JSON.stringify(message("n1"));
      const signature = createHmac("sha256", secret).update(body).digest("hex");
      at.hooque.send(body, { "x-account": account, "x-signature": signature });
    };
    send("acme", SECRET);
    send("globex", SECRET);
    send("globex", "another");
    const engine = await at.start();
    await at.until("all should be settled", () => at.hooque.remaining === 0);
    const of = async (name: string) =>
      (await engine.status()).deliveries.find(({ connection: one }) => one === name);
    await at.until("both should be handled", async () => {
      const shares = [(await of("acme"))?.shares, (await of("globex"))?.shares];
      return !shares.includes(undefined);
    });
    for (const [name, signatureFailures] of [
      ["acme", 0],
      ["globex", 1],
    ] as const) {
      expect(await of(name)).toMatchObject({
        signatureFailures,
        lastEvent: { webhook: undefined, queue: expect.any(Number) },
        eventsPerHour: { webhook: 0, queue: 1, poll: 0 },
        changes: { webhook: 0, queue: 1, poll: 0, reconcile: 0 },
        shares: { webhook: 0, queue: 1, poll: 0, reconcile: 0 },
      });
    }
  });

  test("should stay in the queue while the store is full, and be taken once there is room", async () => {
    const store = keyvStore(undefined, { maxPendingObjects: 1 });
    const at = await setup({ store, ackTimeoutMs: 60_000, source: { visibilityTimeoutMs: 1_000 } });
    const handling = gate();
    for (let i = 0; i < 3; i += 1) at.hooque.send(message(`n${i}`));
    await at.start(() => handling.opened);
    await at.until("one should be given back", () =>
      at.hooque.requests.some(({ path }) => path.includes("/nack/")),
    );
    const nack = at.hooque.requests.find(({ path }) => path.includes("/nack/"));
    expect(nack?.body).toContain("STORE_FULL");
    expect(at.hooque.remaining).toBe(3);
    handling.open();
    await at.until("all should be taken", () => at.hooque.remaining === 0);
    expect(at.handled.toSorted()).toEqual(["n0", "n1", "n2"]);
    expect(at.hooque.deadLetters).toEqual([]);
  });
});

describe("a queue's source", () => {
  test.each([
    ["nobody defined", "other", {}],
    ["reads no messages", "notes", { webhook: undefined }],
  ])("should be refused for a provider that %s", (_, name, without) => {
    const source = hooqueSource({ provider: name, url: "http://hooque.example/queues/1/next", token: "t" });
    const provider = { ...notesProvider(new World()), ...without };
    expect(() => new SyncEngine({ providers: [provider], sources: [source] })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`"${name}"`) }),
    );
  });
});

describe("an engine that stops", () => {
  test("should settle what is in work, give back the rest, and lose none", async () => {
    // What is on its way down the stream comes again when its time is up.
    const visibilityTimeoutMs = 1_000;
    const at = await setup({
      source: { mode: "stream", prefetch: 4, visibilityTimeoutMs },
      fake: { visibilityTimeoutMs },
    });
    for (let i = 0; i < 10; i += 1) at.hooque.send(message(`n${i}`));
    const first = await at.start();
    await at.until("some should be acked", () => at.hooque.acked.length > 0);
    await first.stop();
    await at.start();
    await at.until("all should be acked", () => at.hooque.remaining === 0);
    await at.until("all should be handled", () => new Set(at.handled).size === 10);
    expect(at.hooque.deadLetters).toEqual([]);
  });
});
