import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type ErrorCode, TrueupError } from "../../../src/core/errors.ts";
import { createReceiver } from "../../../src/sources/webhook/receiver.ts";
import { adapters, bench, body, listenNode, post, refusedPost, servers, signed } from "./harness.ts";

describe.each(Object.entries(servers))("a receiver under %s", (_, mount) => {
  test("should hand a genuine delivery to the sink, and answer once that resolved", async () => {
    const { response, text, deliveries, refused } = await post(mount);
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
    const { response, text, deliveries, refused } = await post(mount, {}, { headers: signed("other") });
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
      (await post(mount, { webhook: { events } }, { body: invalid, headers: signed(invalid) })).response
        .status,
    ).toBe(200);
    const { response } = await post(
      mount,
      { webhook: { events } },
      { body: Uint8Array.of(0xfe), headers: signed(Uint8Array.of(0xff)) },
    );
    expect(response.status).toBe(401);
  });

  test("should not let strangers fill the log with a look-up that fails", async () => {
    const { events, receiver } = bench({
      findConnection: () => Promise.reject(new Error("no uuid")),
    });
    const { url } = await mount(receiver);
    for (let i = 0; i < 5; i += 1) expect((await fetch(url, { method: "POST", body })).status).toBe(500);
    expect(events.filter(({ name }) => name === "error")).toHaveLength(1);
  });

  test("should refuse more events than a body can really have (I10)", async () => {
    const webhook = (count: number) => ({
      events: () => Array.from({ length: count }, () => ({ resource: "contact", objectId: "c_1" })),
      maxBodyBytes: 1_000,
    });
    const { response, deliveries } = await post(mount, { webhook: webhook(11) });
    expect(response.status).toBe(400);
    expect(deliveries).toEqual([]);
    expect((await post(mount, { webhook: webhook(10) })).response.status).toBe(200);
  });

  test.each(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])(
    "should answer %s with 405",
    async (method) => {
      const { response, text, refused } = await post(mount, {}, { method, body: null });
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
    const { response, deliveries } = await post(mount, {}, { body: big, headers: signed(big) });
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
    const { response } = await post(mount, {}, { body: unannounced, duplex: "half" });
    expect(response.status).toBe(413);
  });

  test("should accept a body of exactly the cap, and none of a byte more", async () => {
    const exact = Buffer.alloc(200_000, " ");
    const webhook = { maxBodyBytes: exact.length, events: () => [] };
    expect((await post(mount, { webhook }, { body: exact, headers: signed(exact) })).response.status).toBe(
      200,
    );
    const more = Buffer.alloc(exact.length + 1, " ");
    expect((await post(mount, { webhook }, { body: more, headers: signed(more) })).response.status).toBe(413);
  });

  test("should refuse a compressed body with 415", async () => {
    const packed = gzipSync(body);
    const { response, deliveries } = await post(
      mount,
      {},
      { body: packed, headers: { ...signed(packed), "content-encoding": "gzip" } },
    );
    expect(response.status).toBe(415);
    expect(response.headers.get("accept-encoding")).toBe("identity");
    expect(deliveries).toEqual([]);
    const plain = await post(mount, {}, { headers: { ...signed(body), "content-encoding": "identity" } });
    expect(plain.response.status).toBe(200);
  });

  test("should answer 503 with Retry-After while the engine stops", async () => {
    const { response, text, refused } = await post(mount, { accepting: () => false });
    expect(response.status).toBe(503);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(JSON.parse(text)).toMatchObject({ error: { code: "STOPPED" } });
    expect(refused()).toEqual([{ status: 503, code: "STOPPED" }]);
  });
});

describe.each(adapters)("a receiver through the adapter of $name", ({ mount }) => {
  test.each<[ErrorCode, number]>([
    ["STORE_FULL", 503],
    ["STORE_FAILED", 503],
    ["STORE_LOST", 503],
    ["STOPPED", 503],
    ["ACK_TIMEOUT", 503],
    ["EVENT_INVALID", 400],
  ])("should answer a sink that rejects with %s by %i", async (code, status) => {
    const { response, ...failed } = await refusedPost(mount, {
      outcome: new TrueupError(code, "password=hunter2"),
    });
    expect(failed).toMatchObject({ status, code });
    expect(failed.text).not.toContain("hunter2");
    expect(response.headers.has("retry-after")).toBe(status === 503);
  });

  test("should answer any other failure by a neutral 500, and report it", async () => {
    const failed = await refusedPost(mount, { outcome: new TypeError("password=hunter2") });
    expect(failed).toMatchObject({ status: 500, code: "INTERNAL_ERROR" });
    expect(failed.text).not.toContain("hunter2");
    expect(failed.reported).toEqual([expect.objectContaining({ message: "password=hunter2" })]);
  });

  test("should answer an outcome `retry` by 503, with its own time in whole seconds", async () => {
    const outcome = { status: "retry", accepted: 0, duplicates: 0, ignored: 0, retryAfterMs: 1_001 } as const;
    const { response, code } = await refusedPost(mount, { outcome });
    expect(code).toBe("RETRY_LATER");
    expect(response.headers.get("retry-after")).toBe("2");
    const full = await refusedPost(mount, {
      outcome: { ...outcome, error: new TrueupError("STORE_FULL", "full") },
    });
    expect(full).toMatchObject({ status: 503, code: "STORE_FULL" });
  });

  test("should answer an outcome `rejected` by 400", async () => {
    const outcome = { status: "rejected", accepted: 0, duplicates: 0, ignored: 0 } as const;
    expect(await refusedPost(mount, { outcome })).toMatchObject({ status: 400, code: "DELIVERY_REJECTED" });
    const invalid = { ...outcome, error: new TrueupError("EVENT_INVALID", "no resource") };
    expect(await refusedPost(mount, { outcome: invalid })).toMatchObject({
      status: 400,
      code: "EVENT_INVALID",
    });
  });

  test("should refuse a body that `events` cannot parse with 400", async () => {
    for (const broken of ["", "{", "\u0000", '{"__proto__":{}}']) {
      const failed = await refusedPost(mount, {}, { body: broken, headers: signed(broken) });
      expect(failed).toMatchObject({ status: 400, code: "BODY_INVALID", deliveries: [] });
    }
  });

  test("should not mind a body that cannot be parsed where nobody parses it", async () => {
    const { response } = await post(
      mount,
      { webhook: { events: () => [] } },
      { body: "", headers: signed("") },
    );
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
    const failed = await refusedPost(mount, { webhook: { events: events as () => [] } });
    expect(failed).toMatchObject({ status: 400, code: "EVENTS_FAILED", deliveries: [] });
    expect(failed.text).not.toContain("hunter2");
    expect(failed.reported).toHaveLength(1);
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
