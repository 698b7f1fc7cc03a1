import { createHmac, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  queueSource,
  relay,
  type QueuePublisher,
  type RelayOptions,
  standardWebhooks,
  SyncEngine,
} from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { systemClock } from "../../src/core/clock.ts";
import type { Envelope } from "../../src/sources/queue/envelope.ts";
import { gate } from "../core/fakes.ts";
import { notesProvider, World } from "../engine/world.ts";
import { MemoryQueue } from "./queue/memory-queue.ts";

const SECRET = "whsec_dHJ1ZXVwIHJlbGF5IHRlc3Qgc2VjcmV0ISE=";
const HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature", "x-event"];
const silent = { debug() {}, info() {}, warn() {}, error() {} };

const provider = (world = new World()) =>
  notesProvider(world, {}, { webhook: { verify: standardWebhooks({ secret: SECRET }) } });

function signed(
  body: string | Uint8Array,
  given: Record<string, string> = {},
  now = systemClock.now(),
): Request {
  const id = given["webhook-id"] ?? randomUUID();
  const time = String(Math.floor(now / 1_000));
  const key = Buffer.from(SECRET.slice("whsec_".length), "base64");
  const mac = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest("base64");
  return new Request("https://hooks.example/notes?a=1", {
    method: "POST",
    body: body as string,
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": time,
      "webhook-signature": `v1,${mac}`,
      ...given,
    },
  });
}

function setup(
  options: Partial<RelayOptions> = {},
  publish: (envelope: Envelope) => Promise<void> = async () => {},
) {
  const published: Envelope[] = [];
  let closed = 0;
  const to: QueuePublisher = {
    name: "memory",
    publish: async (envelope) => {
      published.push(envelope);
      await publish(envelope);
    },
    close: async () => void (closed += 1),
  };
  const made = relay({ provider: provider(), to, headers: HEADERS, logger: silent, ...options });
  const told: { name: string; event: object }[] = [];
  for (const name of ["delivery", "delivery.refused", "error"] as const) {
    made.on(name, (event) => told.push({ name, event }));
  }
  return { relay: made, published, told, closed: () => closed };
}

const BODY = JSON.stringify([{ resource: "note", objectId: "n1" }]);

describe("a relay", () => {
  test("should publish what is genuine: the bytes, the allowed headers, and nothing else of the request", async () => {
    const at = setup();
    const request = signed(BODY, {
      "x-event": "changed",
      authorization: "Bearer secret",
      "x-other": "private",
    });
    expect((await at.relay.fetch(request)).status).toBe(200);
    const [{ body, headers }] = at.published as [Envelope];
    expect(Buffer.from(body).toString()).toBe(BODY);
    expect([...headers.keys()].toSorted()).toEqual(
      [
        "content-type",
        "trueup-connection",
        "trueup-delivery-id",
        "trueup-received-at",
        "trueup-url",
        ...HEADERS,
      ].toSorted(),
    );
    expect(headers.get("x-event")).toBe("changed");
    expect(at.told).toMatchObject([{ name: "delivery", event: { status: "accepted", origin: "webhook" } }]);
  });

  test("should answer only after the broker has confirmed (I1)", async () => {
    const confirmed = gate();
    const at = setup({}, () => confirmed.promise);
    let status: number | undefined;
    const answered = at.relay.fetch(signed(BODY)).then((response) => (status = response.status));
    await new TestClock().settle();
    expect([at.published.length, status]).toEqual([1, undefined]);
    confirmed.open();
    expect(await answered).toBe(200);
  });

  test("should publish nothing that is not genuine, and answer 401", async () => {
    const at = setup();
    const forged = signed(BODY, { "webhook-signature": "v1,AAAA" });
    expect((await at.relay.fetch(forged)).status).toBe(401);
    expect(at.published).toEqual([]);
  });

  test("should answer 503, to be sent again, when the broker does not take it", async () => {
    const at = setup({}, () => Promise.reject(new Error("down")));
    const response = await at.relay.fetch(signed(BODY));
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(await response.text()).not.toContain("down");
    expect(at.told.find(({ name }) => name === "error")).toMatchObject({
      event: { error: { message: "down" } },
    });
  });

  test("should answer 503 when the broker does not confirm in time", async () => {
    const clock = new TestClock();
    const at = setup({ clock, timeoutMs: 3_000 }, () => new Promise(() => {}));
    const answered = at.relay.fetch(signed(BODY, {}, clock.now()));
    await clock.advance(3_000);
    expect((await answered).status).toBe(503);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should not pile up webhooks before a broker that never confirms, nor wait for it for ever when it closes (I10)", async () => {
    const clock = new TestClock();
    const at = setup({ clock, timeoutMs: 3_000, maxWaiting: 2 }, () => new Promise(() => {}));
    const send = () => at.relay.fetch(signed(BODY, {}, clock.now()));
    const held = [send(), send()];
    await clock.advance(3_000);
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([503, 503]);
    expect((await send()).status).toBe(503);
    expect(at.published).toHaveLength(2);
  });

  test("should wait for its publisher when it closes, and not for ever", async () => {
    const clock = new TestClock();
    const to: QueuePublisher = { name: "stuck", publish: async () => {}, close: () => new Promise(() => {}) };
    const made = relay({ provider: provider(), to, clock, timeoutMs: 3_000, logger: silent });
    let closed = false;
    const closing = made.close().then(() => (closed = true));
    await clock.advance(2_999);
    expect(closed).toBe(false);
    await clock.advance(1);
    await closing;
  });

  test("should hold no more webhooks than it is allowed to", async () => {
    const confirmed = gate();
    const at = setup({ maxWaiting: 2 }, () => confirmed.promise);
    const held = [at.relay.fetch(signed(BODY)), at.relay.fetch(signed(BODY))];
    await new TestClock().settle();
    expect((await at.relay.fetch(signed(BODY))).status).toBe(503);
    confirmed.open();
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200]);
    expect((await at.relay.fetch(signed(BODY))).status).toBe(200);
  });

  test("should hold no more of those either that all come in one breath (I10)", async () => {
    const confirmed = gate();
    const at = setup({ maxWaiting: 2 }, () => confirmed.promise);
    const sent = Array.from({ length: 5 }, () => at.relay.fetch(signed(BODY)));
    await new TestClock().settle();
    expect(at.published).toHaveLength(2);
    confirmed.open();
    const answers = await Promise.all(sent);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 200, 503, 503, 503]);
    expect(answers.every(({ status, headers }) => status === 200 || headers.has("retry-after"))).toBe(true);
  });

  test("should refuse what comes after it was closed, and close its publisher", async () => {
    const at = setup();
    await at.relay.close();
    expect([(await at.relay.fetch(signed(BODY))).status, at.closed(), at.published]).toEqual([503, 1, []]);
  });

  test.each<[string, Partial<RelayOptions>]>([
    ["headers", { headers: ["Authorization"] }],
    ["headers", { headers: ["trueup-connection"] }],
    ["headers", { headers: ["x y"] }],
    ["to", { to: {} as never }],
    ["timeoutMs", { timeoutMs: 0 }],
    ["maxWaiting", { maxWaiting: 0 }],
  ])("should refuse a wrong `%s`", (name, options) => {
    expect(() => setup(options)).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});

describe("a webhook that was relayed", () => {
  async function consumed(verify: boolean, spoil: (envelope: Envelope) => Envelope = (envelope) => envelope) {
    const world = new World();
    world.put("n1", "hello");
    const queue = new MemoryQueue(systemClock);
    const at = setup({}, async (given) => {
      const { body, headers } = spoil(given);
      queue.send(randomUUID(), body, Object.fromEntries(headers));
    });
    const directory = mkdtempSync(join(tmpdir(), "trueup-relay-"));
    const engine = new SyncEngine({
      providers: [provider(world)],
      store: sqliteStore({ path: join(directory, "relay.db") }),
      sources: [queueSource("memory", queue, { provider: "notes", verify })],
      logger: silent,
    });
    onTestFinished(async () => {
      await engine.stop();
      rmSync(directory, { recursive: true });
    });
    const changes: {
      text: string | undefined;
      ids: readonly (string | undefined)[];
      receivedAt: Date | undefined;
    }[] = [];
    engine.handle("notes.note", ({ events, object }) => {
      changes.push({
        text: object?.text,
        ids: events.map(({ id }) => id),
        receivedAt: events[0]?.receivedAt,
      });
    });
    const deliveries: unknown[] = [];
    engine.on("delivery", (event) => deliveries.push(event));
    engine.on("delivery.refused", (event) => deliveries.push(event));
    await engine.start();
    return { at, changes, deliveries, engine, queue };
  }

  const told = async (deliveries: unknown[], count: number) => {
    while (deliveries.length < count) await new Promise((resolve) => setImmediate(resolve));
  };

  test("should be verified again by the consumer, be known by its id, and have the time of its receipt", async () => {
    const { at, changes, deliveries, engine, queue } = await consumed(true, ({ body, headers }) => ({
      // Consumed as if ten days had passed since: the signature's time is compared with the receipt's.
      body,
      headers,
    }));
    const request = () => signed(BODY, { "webhook-id": "msg_1" });
    expect((await at.relay.fetch(request())).status).toBe(200);
    expect((await at.relay.fetch(request())).status).toBe(200);
    await told(deliveries, 2);
    await engine.drain();
    expect(deliveries).toMatchObject([
      { origin: "queue", connection: "default", status: "accepted" },
      { origin: "queue", status: "duplicate" },
    ]);
    const receivedAt = Number(at.published[0]!.headers.get("trueup-received-at"));
    expect(changes).toEqual([{ text: "hello", ids: ["msg_1"], receivedAt: new Date(receivedAt) }]);
    expect(queue.stored.size).toBe(0);
  });

  test("should be rejected by a consumer that verifies it, and counted, when it was changed on its way (I11)", async () => {
    const { at, changes, deliveries, engine, queue } = await consumed(true, ({ headers }) => ({
      headers,
      body: Buffer.from(BODY.replace("n1", "n2")),
    }));
    await at.relay.fetch(signed(BODY));
    await told(deliveries, 1);
    await engine.drain();
    expect(deliveries).toMatchObject([{ provider: "notes", status: 401, code: "SIGNATURE_INVALID" }]);
    expect([changes, queue.dead]).toMatchObject([
      [],
      [{ reason: expect.stringContaining("SIGNATURE_INVALID") }],
    ]);
  });

  test("should be trusted by a consumer that does not verify it", async () => {
    const { at, changes, deliveries, engine } = await consumed(false, ({ body, headers }) => ({
      body,
      headers: new Map([...headers].filter(([name]) => !name.startsWith("webhook-"))),
    }));
    await at.relay.fetch(signed(BODY));
    await told(deliveries, 1);
    await engine.drain();
    expect(changes).toMatchObject([{ text: "hello" }]);
  });
});
