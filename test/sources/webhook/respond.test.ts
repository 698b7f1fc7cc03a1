import { describe, expect, test } from "vitest";
import { TrueupError } from "../../../src/core/errors.ts";
import { adapters, type BenchOptions, post } from "./harness.ts";

describe.each(adapters)("a receiver through the adapter of $name", ({ mount }) => {
  describe("`respond`", () => {
    const respond = async (answer: unknown, options: BenchOptions = {}) =>
      post(mount, { ...options, webhook: { respond: (() => answer) as () => undefined } });

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
      const { text, events } = await post(mount, {
        webhook: { respond: late as unknown as () => undefined },
      });
      expect(JSON.parse(text)).toMatchObject({ status: "accepted" });
      expect(events).toMatchObject([{ name: "error" }]);
    });

    test("should send the default when it throws, since the events are in the store", async () => {
      const webhook = {
        respond: () => {
          throw new Error("oops");
        },
      };
      const { response, text } = await post(mount, { webhook });
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
      await post(mount, options);
      expect(given).toEqual([work]);
      await post(mount, {
        ...options,
        outcome: { status: "duplicate", accepted: 0, duplicates: 1, ignored: 0 },
      });
      await post(mount, { ...options, outcome: new TrueupError("STORE_FULL", "full") });
      await post(mount, { ...options, onAccepted: () => undefined });
      expect(given).toHaveLength(1);
    });

    test("should not spoil the answer by failing", async () => {
      const waitUntil = () => {
        throw new Error("outside a request");
      };
      const { response, events } = await post(mount, { waitUntil, onAccepted: () => work });
      expect(response.status).toBe(200);
      expect(events).toMatchObject([{ name: "error" }]);
    });
  });
});
