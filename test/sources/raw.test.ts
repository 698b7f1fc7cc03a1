import { describe, expect, test } from "vitest";
import { z } from "zod";
import { TrueupError } from "../../src/core/errors.ts";
import { defineProvider, type WebhookDefinition } from "../../src/core/provider.ts";
import { defineResource } from "../../src/core/resource.ts";
import type { EventDelivery, Outcome, WebhookDelivery } from "../../src/core/source.ts";
import { githubSignature } from "../../src/signatures/github.ts";
import { createSink } from "../../src/sources/sink.ts";
import { recording } from "../core/fakes.ts";

const contact = defineResource({
  schema: z.object({ id: z.string() }),
  idOf: ({ id }) => id,
  fetch: async (id) => ({ id }),
});

const ACCEPTED: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

/** Puts a queue's message into a sink. */
async function put(webhook: Partial<WebhookDefinition<unknown>>, given: { verify?: boolean } = {}) {
  const provider = defineProvider({
    name: "crm",
    webhook: {
      verify: githubSignature({ secret: "secret" }),
      events: () => [{ resource: "contact", objectId: "c_1" }],
      ...webhook,
    },
    resources: { contact },
  });
  const { hooks, told } = recording();
  const asked: unknown[] = [];
  const accepted: EventDelivery[] = [];
  const sink = createSink(
    async (delivery) => {
      accepted.push(delivery);
      return ACCEPTED;
    },
    {
      provider: (name) => (name === "crm" ? provider : undefined),
      findConnection: async (_provider, id) => {
        asked.push(id);
        if (id === "down") throw new Error("the accounts cannot be looked up");
        return id === "nobody" ? undefined : { id, credentials: undefined };
      },
      tell: (error, { connection }) => {
        error.message = error.message.replace("hunter2", `[${connection}'s]`);
        return error;
      },
      hooks,
    },
  );
  const delivery: WebhookDelivery = {
    id: "m_1",
    method: "POST",
    url: "",
    header: () => undefined,
    body: new Uint8Array(),
    json: {},
    receivedAt: 0,
  };
  const [outcome] = await sink([{ provider: "crm", delivery, verify: false, ...given }]);
  return { accepted, asked, outcome, told };
}

describe("a queue's message", () => {
  test("should be rejected with more events than a body can really have (I10)", async () => {
    const events = (count: number) => () =>
      Array.from({ length: count }, () => ({ resource: "contact", objectId: "c_1" }));
    const { accepted, outcome } = await put({ events: events(10_487) });
    expect(outcome).toMatchObject({ status: "rejected", error: { code: "EVENT_INVALID" } });
    expect(accepted).toEqual([]);
    expect((await put({ events: events(10_486) })).accepted, "control").toHaveLength(1);
  });

  test("should be read as the provider's webhook would read it", async () => {
    const { accepted, asked, outcome } = await put({});
    expect(outcome).toBe(ACCEPTED);
    expect(asked).toEqual(["default"]);
    expect(accepted).toMatchObject([
      { provider: "crm", connection: "default", origin: "queue", deliveryId: "m_1" },
    ]);
  });

  test("should be of a connection whose id is text, also where the provider writes a number", async () => {
    expect((await put({ connection: () => 5 as never })).accepted).toMatchObject([{ connection: "5" }]);
  });

  test.each(["", "nul\0", "\uD800", "x".repeat(1_025), undefined])(
    "should be ignored for the connection %j, which none can be",
    async (id) => {
      const { asked, outcome } = await put({ connection: () => id });
      expect([asked, outcome?.status]).toEqual([[], "ignored"]);
    },
  );

  test.each<[string, Partial<WebhookDefinition<unknown>>]>([
    ["`connection` that throws", { connection: ({ json }) => json.account.id }],
    ["`connection` that returns no text", { connection: () => ({}) as never }],
    ["`events` that throws", { events: ({ json }) => json.contacts.map(String) }],
    ["`events` that returns no list", { events: () => "x" as never }],
  ])("should be rejected after %s: it will never be understood", async (_, webhook) => {
    const { outcome } = await put(webhook);
    expect(outcome).toMatchObject({ status: "rejected", error: { code: "EVENTS_FAILED" } });
  });

  test("should be told of when it is refused, and loudly when the fault is ours", async () => {
    const refused = await put({ connection: () => ({}) as never });
    expect(refused.told["delivery.refused"]).toMatchObject([
      { provider: "crm", status: 400, code: "EVENTS_FAILED" },
    ]);
    expect(refused.told.error).toEqual([]);
    const unknown = await put({ connection: () => "nobody" });
    expect(unknown.told["delivery.refused"]).toMatchObject([{ status: 200, code: "CONNECTION_UNKNOWN" }]);
    const ours = await put({ connection: () => "down" });
    expect(ours.outcome?.status).toBe("retry");
    expect(ours.told.error).toMatchObject([{ error: { message: "the accounts cannot be looked up" } }]);
  });

  test("that is not genuine should be counted for its connection, and tell nothing that is secret of it", async () => {
    const verify = () => ({
      verify: () => {
        throw new TrueupError("HEADER_REPEATED", "the scheme was given hunter2, and a header twice");
      },
    });
    const refused = await put({ connection: () => "acme", verify }, { verify: true });
    expect(refused.told["delivery.refused"]).toMatchObject([{ connection: "acme", code: "HEADER_REPEATED" }]);
    expect(refused.outcome?.error?.message).toBe("the scheme was given [acme's], and a header twice");
    const whose = await put({ connection: () => ({}) as never }, { verify: true });
    expect(whose.told["delivery.refused"]).toMatchObject([{ connection: undefined }]);
  });

  test("should be rejected where it is to be verified and is not signed", async () => {
    const { accepted, outcome } = await put({}, { verify: true });
    expect(outcome).toMatchObject({ status: "rejected", error: { code: "SIGNATURE_INVALID" } });
    expect(accepted).toEqual([]);
  });
});
