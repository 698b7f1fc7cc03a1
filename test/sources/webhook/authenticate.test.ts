import { describe, expect, test } from "vitest";
import { SignatureError, TrueupError } from "../../../src/core/errors.ts";
import type { Verifier } from "../../../src/core/source.ts";
import { adapters, post, refusedPost } from "./harness.ts";

const yes: Verifier = { verify: () => {} };

describe.each(adapters)("a receiver through the adapter of $name", ({ mount }) => {
  describe("connections", () => {
    test("should be found before the signature is verified, and hand their verifiers over", async () => {
      const order: string[] = [];
      const { response, deliveries, asked } = await post(mount, {
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
      const { deliveries } = await post(mount, { connection: "acme", webhook: { connection } });
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
      const { response, text, deliveries, events } = await post(mount, {
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
      const { asked } = await post(mount, { webhook: { connection: () => 42 as unknown as string } });
      expect(asked).toEqual(["42"]);
    });

    test("should answer 400 when the adapter throws, and stay silent, since anybody can cause it", async () => {
      const connection = (delivery: { json: unknown }) =>
        (delivery.json as { account: { id: string } }).account.id;
      expect(await refusedPost(mount, { webhook: { connection } })).toMatchObject({
        status: 400,
        code: "EVENTS_FAILED",
        reported: [],
      });
      const odd = () => ({}) as unknown as string;
      expect(await refusedPost(mount, { webhook: { connection: odd } })).toMatchObject({
        status: 400,
        code: "EVENTS_FAILED",
      });
      expect(await refusedPost(mount, { webhook: { connection } }, { body: "{" })).toMatchObject({
        status: 400,
        code: "BODY_INVALID",
      });
    });

    test("should answer 500 when they cannot be looked up", async () => {
      const findConnection = () => Promise.reject(new Error("database password=hunter2"));
      const failed = await refusedPost(mount, { findConnection });
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
      (await post(mount, { webhook: { verify: (() => verify) as () => Verifier } })).response.status;

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
      const failed = await refusedPost(mount, {
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
      const { deliveries } = await post(mount, { webhook: { verify, events } });
      expect(deliveries[0]?.deliveryId).toBe("d_1");
      expect(ids).toEqual(["d_1"]);
    });

    test.each(["", "x".repeat(1_025), "\uD800", 7 as unknown as string])(
      "should not believe %j as an id",
      async (id) => {
        const { deliveries } = await post(mount, { webhook: { verify: { ...yes, deliveryId: () => id } } });
        expect(deliveries).toMatchObject([{ deliveryId: undefined }]);
      },
    );
  });
});
