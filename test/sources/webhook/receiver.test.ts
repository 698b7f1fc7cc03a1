import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type ErrorCode, SignatureError, TrueupError } from "../../../src/core/errors.ts";
import type { Verifier } from "../../../src/core/source.ts";
import { createReceiver } from "../../../src/sources/webhook/receiver.ts";
import { adapters, bench, type BenchOptions, listenNode, servers, signed } from "./harness.ts";

const body = '{"id":"c_1"}';
const yes: Verifier = { verify: () => {} };

describe.each(Object.entries(servers))("a receiver under %s", (_, mount) => {
  const post = async (options: BenchOptions = {}, init: RequestInit = {}) => {
    const at = bench(options);
    const { url } = await mount(at.receiver);
    const response = await fetch(url, { method: "POST", body, headers: signed(body), ...init });
    return { ...at, response, text: await response.text() };
  };

  test("should hand a genuine delivery to the sink, and answer once that resolved", async () => {
    const { response, text, deliveries, refused } = await post();
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(JSON.parse(text)).toEqual({ status: "accepted", accepted: 1, duplicates: 0, ignored: 0 });
    expect(deliveries).toEqual([
      {
        provider: "crm",
        connection: "default",
        origin: "webhook",
        deliveryId: undefined,
        receivedAt: expect.any(Number),
        events: [{ resource: "contact", objectId: "c_1" }],
      },
    ]);
    expect(refused()).toEqual([]);
  });

  test("should refuse a forged delivery with 401 and change nothing (I11)", async () => {
    const { response, text, deliveries, refused } = await post({}, { headers: signed("other") });
    expect(response.status).toBe(401);
    expect(JSON.parse(text)).toEqual({
      error: { code: "SIGNATURE_INVALID", message: "The delivery does not prove where it comes from." },
    });
    expect(deliveries).toEqual([]);
    expect(refused()).toEqual([{ status: 401, code: "SIGNATURE_INVALID" }]);
  });

  test("should verify bytes, not text", async () => {
    const invalid = Uint8Array.of(0xff, 0xef, 0xbb, 0xbf, 0x0d, 0x0a);
    const events = () => [];
    expect(
      (await post({ webhook: { events } }, { body: invalid, headers: signed(invalid) })).response.status,
    ).toBe(200);
    const { response } = await post(
      { webhook: { events } },
      { body: Uint8Array.of(0xfe), headers: signed(Uint8Array.of(0xff)) },
    );
    expect(response.status).toBe(401);
  });

  test.each(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])(
    "should answer %s with 405",
    async (method) => {
      const { response, text, refused } = await post({}, { method, body: null });
      expect(response.status).toBe(405);
      expect(response.headers.get("allow")).toBe("POST");
      expect(text).toBe(
        method === "HEAD"
          ? ""
          : '{"error":{"code":"METHOD_NOT_ALLOWED","message":"Webhooks are sent by POST."}}',
      );
      expect(refused()).toEqual([{ status: 405, code: "METHOD_NOT_ALLOWED" }]);
    },
  );

  test("should refuse a body over the cap with 413, which the sender sees", async () => {
    const big = Buffer.alloc(3_000_000, " ");
    const { response, deliveries } = await post({}, { body: big, headers: signed(big) });
    expect(response.status).toBe(413);
    expect(deliveries).toEqual([]);
  });

  test("should count bytes where no length is announced", async () => {
    let left = 40;
    const unannounced = new ReadableStream({
      pull(controller) {
        left -= 1;
        if (left < 0) controller.close();
        else controller.enqueue(new Uint8Array(65_536));
      },
    });
    const { response } = await post({}, { body: unannounced, duplex: "half" });
    expect(response.status).toBe(413);
  });

  test("should accept a body of exactly the cap, and none of a byte more", async () => {
    const exact = Buffer.alloc(200_000, " ");
    const webhook = { maxBodyBytes: exact.length, events: () => [] };
    expect((await post({ webhook }, { body: exact, headers: signed(exact) })).response.status).toBe(200);
    const more = Buffer.alloc(exact.length + 1, " ");
    expect((await post({ webhook }, { body: more, headers: signed(more) })).response.status).toBe(413);
  });

  test("should refuse a compressed body with 415", async () => {
    const packed = gzipSync(body);
    const { response, deliveries } = await post(
      {},
      { body: packed, headers: { ...signed(packed), "content-encoding": "gzip" } },
    );
    expect(response.status).toBe(415);
    expect(response.headers.get("accept-encoding")).toBe("identity");
    expect(deliveries).toEqual([]);
    const plain = await post({}, { headers: { ...signed(body), "content-encoding": "identity" } });
    expect(plain.response.status).toBe(200);
  });

  test("should answer 503 with Retry-After while the engine stops", async () => {
    const { response, text, refused } = await post({ accepting: () => false });
    expect(response.status).toBe(503);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(JSON.parse(text)).toMatchObject({ error: { code: "STOPPED" } });
    expect(refused()).toEqual([{ status: 503, code: "STOPPED" }]);
  });
});

describe.each(adapters)("a receiver through the adapter of $name", ({ mount }) => {
  const post = async (options: BenchOptions = {}, init: RequestInit = {}) => {
    const at = bench(options);
    const { url } = await mount(at.receiver);
    const response = await fetch(url, { method: "POST", body, headers: signed(body), ...init });
    return { ...at, response, text: await response.text() };
  };
  const fails = async (options: BenchOptions, init?: RequestInit) => {
    const { response, text, events, deliveries } = await post(options, init);
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    const reported = events.flatMap(({ name, event }) =>
      name === "error" ? [(event as { error: Error }).error] : [],
    );
    return { status: response.status, code: error.code, text, response, reported, deliveries };
  };

  test.each<[ErrorCode, number]>([
    ["STORE_FULL", 503],
    ["STORE_FAILED", 503],
    ["STORE_LOST", 503],
    ["STOPPED", 503],
    ["ACK_TIMEOUT", 503],
    ["EVENT_INVALID", 400],
  ])("should answer a sink that rejects with %s by %i", async (code, status) => {
    const { response, ...failed } = await fails({ outcome: new TrueupError(code, "password=hunter2") });
    expect(failed).toMatchObject({ status, code });
    expect(failed.text).not.toContain("hunter2");
    expect(response.headers.has("retry-after")).toBe(status === 503);
  });

  test("should answer any other failure by a neutral 500, and report it", async () => {
    const failed = await fails({ outcome: new TypeError("password=hunter2") });
    expect(failed).toMatchObject({ status: 500, code: "INTERNAL_ERROR" });
    expect(failed.text).not.toContain("hunter2");
    expect(failed.reported).toEqual([expect.objectContaining({ message: "password=hunter2" })]);
  });

  test("should answer an outcome `retry` by 503, with its own time in whole seconds", async () => {
    const outcome = { status: "retry", accepted: 0, duplicates: 0, ignored: 0, retryAfterMs: 1_001 } as const;
    const { response, code } = await fails({ outcome });
    expect(code).toBe("RETRY_LATER");
    expect(response.headers.get("retry-after")).toBe("2");
    const full = await fails({ outcome: { ...outcome, error: new TrueupError("STORE_FULL", "full") } });
    expect(full).toMatchObject({ status: 503, code: "STORE_FULL" });
  });

  test("should answer an outcome `rejected` by 400", async () => {
    const outcome = { status: "rejected", accepted: 0, duplicates: 0, ignored: 0 } as const;
    expect(await fails({ outcome })).toMatchObject({ status: 400, code: "DELIVERY_REJECTED" });
    const invalid = { ...outcome, error: new TrueupError("EVENT_INVALID", "no resource") };
    expect(await fails({ outcome: invalid })).toMatchObject({ status: 400, code: "EVENT_INVALID" });
  });

  test("should refuse a body that `events` cannot parse with 400", async () => {
    for (const broken of ["", "{", "\u0000", '{"__proto__":{}}']) {
      const failed = await fails({}, { body: broken, headers: signed(broken) });
      expect(failed).toMatchObject({ status: 400, code: "BODY_INVALID", deliveries: [] });
    }
  });

  test("should not mind a body that cannot be parsed where nobody parses it", async () => {
    const { response } = await post({ webhook: { events: () => [] } }, { body: "", headers: signed("") });
    expect(response.status).toBe(200);
  });

  test.each<[string, () => unknown]>([
    [
      "throws",
      () => {
        throw new TypeError("token=hunter2");
      },
    ],
    [
      "rejects",
      async () => {
        throw new TypeError("token=hunter2");
      },
    ],
    ["returns no array", () => ({ resource: "contact" })],
    ["returns nothing", () => undefined],
  ])("should answer 400 when `events` %s, and report why", async (_, events) => {
    const failed = await fails({ webhook: { events: events as () => [] } });
    expect(failed).toMatchObject({ status: 400, code: "EVENTS_FAILED", deliveries: [] });
    expect(failed.text).not.toContain("hunter2");
    expect(failed.reported).toHaveLength(1);
  });

  describe("connections", () => {
    test("should be found before the signature is verified, and hand their verifiers over", async () => {
      const order: string[] = [];
      const { response, deliveries, asked } = await post({
        webhook: {
          connection: async (delivery) => {
            order.push(`connection ${(delivery.json as { id: string }).id}`);
            return "acme";
          },
          verify: async ({ id }) => {
            order.push(`verifiers of ${id}`);
            return [{ verify: () => void order.push("verify") }];
          },
        },
      });
      expect(response.status).toBe(200);
      expect(order).toEqual(["connection c_1", "verifiers of acme", "verify"]);
      expect(asked).toEqual(["acme"]);
      expect(deliveries[0]?.connection).toBe("acme");
    });

    test("should be fixed for a route per tenant, without asking the adapter", async () => {
      const connection = () => {
        throw new Error("asked");
      };
      const { deliveries } = await post({ connection: "acme", webhook: { connection } });
      expect(deliveries[0]?.connection).toBe("acme");
    });

    test.each([
      ["unknown", "unknown"],
      ["undefined", undefined],
      ["empty", ""],
      ["far too long", "x".repeat(1_025)],
    ])("should be ignored when %s, and neither verified nor reported by name", async (_, id) => {
      const verify = () => {
        throw new Error("verified");
      };
      const { response, text, deliveries, events } = await post({
        webhook: { connection: () => id, verify: { verify } },
      });
      expect(response.status).toBe(200);
      expect(JSON.parse(text)).toEqual({ status: "ignored", accepted: 0, duplicates: 0, ignored: 1 });
      expect(deliveries).toEqual([]);
      expect(events).toEqual([
        { name: "delivery.refused", event: { provider: "crm", status: 200, code: "CONNECTION_UNKNOWN" } },
      ]);
    });

    test("should take the numbers that untyped bodies have", async () => {
      const { asked } = await post({ webhook: { connection: () => 42 as unknown as string } });
      expect(asked).toEqual(["42"]);
    });

    test("should answer 400 when the adapter throws, and stay silent, since anybody can cause it", async () => {
      const connection = (delivery: { json: unknown }) =>
        (delivery.json as { account: { id: string } }).account.id;
      expect(await fails({ webhook: { connection } })).toMatchObject({
        status: 400,
        code: "EVENTS_FAILED",
        reported: [],
      });
      const odd = () => ({}) as unknown as string;
      expect(await fails({ webhook: { connection: odd } })).toMatchObject({
        status: 400,
        code: "EVENTS_FAILED",
      });
      expect(await fails({ webhook: { connection } }, { body: "{" })).toMatchObject({
        status: 400,
        code: "BODY_INVALID",
      });
    });

    test("should answer 500 when they cannot be looked up", async () => {
      const findConnection = () => Promise.reject(new Error("database password=hunter2"));
      const failed = await fails({ findConnection });
      expect(failed).toMatchObject({ status: 500, code: "INTERNAL_ERROR" });
      expect(failed.text).not.toContain("hunter2");
      expect(failed.reported).toHaveLength(1);
    });
  });

  describe("verifiers", () => {
    const no = (error: unknown): Verifier => ({
      verify() {
        throw error;
      },
    });
    const statusOf = async (verify: unknown) =>
      (await post({ webhook: { verify: (() => verify) as () => Verifier } })).response.status;

    test("should pass when any of them does", async () => {
      expect(await statusOf([no(new SignatureError("no")), yes])).toBe(200);
      expect(await statusOf([no(new TrueupError("HEADER_REPEATED", "twice")), yes])).toBe(200);
      expect(await statusOf([no(new SignatureError("no")), no(new SignatureError("no"))])).toBe(401);
    });

    test("should fail closed, whatever they throw or return", async () => {
      expect(await statusOf(no(new TypeError("a vendor's own")))).toBe(401);
      expect(await statusOf(no(undefined))).toBe(401);
      expect(await statusOf({ verify: async () => Promise.reject(new Error("no")) })).toBe(401);
      expect(await statusOf({ verify: () => false })).toBe(401);
      expect(await statusOf({ verify: async () => false })).toBe(401);
      expect(await statusOf(no(new TrueupError("HEADER_REPEATED", "twice")))).toBe(400);
      expect(await statusOf(no(new TrueupError("BODY_INVALID", "no JSON")))).toBe(401);
    });

    test("should answer 500 when a connection has none, and report it", async () => {
      for (const verify of [[], undefined, null, {}, [yes, undefined]])
        expect(await statusOf(verify)).toBe(500);
      const failed = await fails({
        webhook: { verify: () => Promise.reject(new Error("no secrets today")) },
      });
      expect(failed).toMatchObject({ status: 500, code: "INTERNAL_ERROR", deliveries: [] });
      expect(failed.reported).toHaveLength(1);
    });

    test("should say the delivery's id, of the one that passed", async () => {
      const ids: unknown[] = [];
      const events = (delivery: { id?: string | undefined }) => {
        ids.push(delivery.id);
        return [];
      };
      const verify = [
        { ...no(new Error("no")), deliveryId: () => "wrong" },
        { ...yes, deliveryId: () => "d_1" },
      ];
      const { deliveries } = await post({ webhook: { verify, events } });
      expect(deliveries[0]?.deliveryId).toBe("d_1");
      expect(ids).toEqual(["d_1"]);
    });

    test.each(["", "x".repeat(1_025), "\uD800", 7 as unknown as string])(
      "should not believe %j as an id",
      async (id) => {
        const { deliveries } = await post({ webhook: { verify: { ...yes, deliveryId: () => id } } });
        expect(deliveries).toMatchObject([{ deliveryId: undefined }]);
      },
    );
  });

  describe("`respond`", () => {
    const respond = async (answer: unknown, options: BenchOptions = {}) =>
      post({ ...options, webhook: { respond: (() => answer) as () => undefined } });

    test("should shape the answer", async () => {
      const shaped = await respond({
        status: 202,
        headers: { "X-Own": "1", "Content-Length": "99" },
        body: { ok: true },
      });
      expect(shaped.response.status).toBe(202);
      expect(shaped.response.headers.get("x-own")).toBe("1");
      expect(shaped.response.headers.get("content-type")).toBe("application/json");
      expect(shaped.text).toBe('{"ok":true}');
      expect((await respond({ body: "<Response/>", headers: { "content-type": "text/xml" } })).text).toBe(
        "<Response/>",
      );
      expect((await respond({ body: Buffer.from("raw") })).text).toBe("raw");
      expect((await respond({ status: 204, body: { ok: true } })).text).toBe("");
      expect((await respond({ status: 202 })).text).toBe("");
      expect((await respond(undefined)).text).toContain("accepted");
    });

    test.each([
      ["a status out of range", { status: 1_000 }],
      ["a status that is no number", { status: "200" }],
      ["a header with a line break", { headers: { "x-own": "a\r\nb: c" } }],
      ["a header's name with a space", { headers: { "x own": "a" } }],
      ["a body that is no JSON", { body: { size: 1n } }],
      ["null", null],
    ])("should send the default instead of %s, and report it", async (_, answer) => {
      const { response, text, events } = await respond(answer);
      expect(response.status).toBe(200);
      expect(JSON.parse(text)).toMatchObject({ status: "accepted" });
      expect(events).toMatchObject([
        { name: "error", event: { during: expect.stringContaining("respond") as string } },
      ]);
    });

    test("should not wait for a promise, nor let its failure end the process", async () => {
      const late = async () => Promise.reject(new Error("late"));
      const { text, events } = await post({ webhook: { respond: late as unknown as () => undefined } });
      expect(JSON.parse(text)).toMatchObject({ status: "accepted" });
      expect(events).toMatchObject([{ name: "error" }]);
    });

    test("should send the default when it throws, since the events are in the store", async () => {
      const webhook = {
        respond: () => {
          throw new Error("oops");
        },
      };
      const { response, text } = await post({ webhook });
      expect(response.status).toBe(200);
      expect(JSON.parse(text)).toMatchObject({ status: "accepted" });
    });
  });

  describe("`waitUntil`", () => {
    const work = Promise.resolve("worked");

    test("should be given the work that follows accepted events", async () => {
      const given: unknown[] = [];
      const options = {
        waitUntil: (promise: Promise<unknown>) => void given.push(promise),
        onAccepted: () => work,
      };
      await post(options);
      expect(given).toEqual([work]);
      await post({ ...options, outcome: { status: "duplicate", accepted: 0, duplicates: 1, ignored: 0 } });
      await post({ ...options, outcome: new TrueupError("STORE_FULL", "full") });
      await post({ ...options, onAccepted: () => undefined });
      expect(given).toHaveLength(1);
    });

    test("should not spoil the answer by failing", async () => {
      const waitUntil = () => {
        throw new Error("outside a request");
      };
      const { response, events } = await post({ waitUntil, onAccepted: () => work });
      expect(response.status).toBe(200);
      expect(events).toMatchObject([{ name: "error" }]);
    });
  });
});

describe("createReceiver", () => {
  test("should refuse a provider without a webhook", () => {
    const provider = { name: "crm", resources: {}, ackTimeoutMs: 1 };
    expect(() => createReceiver({ provider } as unknown as Parameters<typeof createReceiver>[0])).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID" }),
    );
  });

  test("should make handlers that work by themselves", async () => {
    const { fetch: handle, node } = bench().receiver;
    const response = await handle(
      new Request("http://receiver.test/", { method: "POST", body, headers: signed(body) }),
    );
    expect(response.status).toBe(200);
    const { url } = await listenNode(node);
    expect((await fetch(url, { method: "POST", body, headers: signed(body) })).status).toBe(200);
  });

  test("should take many deliveries at once", async () => {
    const { receiver, deliveries } = bench();
    const { url } = await listenNode((request, response) => receiver.node(request, response));
    const bodies = Array.from({ length: 200 }, (_, at) =>
      JSON.stringify({ id: String(at), pad: "x".repeat(at * 100) }),
    );
    const statuses = await Promise.all(
      bodies.map(
        async (each) => (await fetch(url, { method: "POST", body: each, headers: signed(each) })).status,
      ),
    );
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(deliveries.map(({ events }) => Number(events[0]?.objectId)).toSorted((a, b) => a - b)).toEqual(
      bodies.map((_, at) => at),
    );
  });
});
