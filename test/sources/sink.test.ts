import { describe, expect, test } from "vitest";
import { type ErrorCode, TrueupError } from "../../src/core/errors.ts";
import type { EventDelivery, Outcome } from "../../src/core/source.ts";
import { createSink } from "../../src/sources/sink.ts";

const delivery: EventDelivery = {
  provider: "crm",
  connection: "acme",
  origin: "queue",
  receivedAt: 0,
  events: [],
};
const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };
const reader = { provider: () => undefined, findConnection: async () => undefined };

async function outcomeOf(accept: () => Promise<Outcome>): Promise<Outcome | undefined> {
  const [outcome] = await createSink(accept, reader)([delivery]);
  return outcome;
}

describe("what a source hears of its messages (I8)", () => {
  test("should come once they are recorded, and not before (I1)", async () => {
    const recorded = Promise.withResolvers<Outcome>();
    let heard: unknown;
    const told = outcomeOf(() => recorded.promise).then((outcome) => (heard = outcome));
    await new Promise((resolve) => void setImmediate(resolve));
    expect(heard).toBeUndefined();
    recorded.resolve(accepted);
    expect(await told).toEqual(accepted);
  });

  test.each<[ErrorCode, Outcome["status"]]>([
    ["SIGNATURE_INVALID", "rejected"],
    ["EVENT_INVALID", "rejected"],
    ["EVENTS_FAILED", "rejected"],
    ["BODY_INVALID", "rejected"],
    ["STORE_FULL", "retry"],
    ["STORE_FAILED", "retry"],
    ["STORE_LOST", "retry"],
    ["STOPPED", "retry"],
    ["ACK_TIMEOUT", "retry"],
  ])(
    "should be, after %s, to have them %s: what can be taken later is not given up",
    async (code, status) => {
      const outcome = await outcomeOf(() => Promise.reject(new TrueupError(code, "for the test")));
      expect(outcome).toMatchObject({ status, accepted: 0, error: { code } });
      expect(outcome?.retryAfterMs !== undefined).toBe(status === "retry");
    },
  );

  test("should be to have them again after what nobody foresaw", async () => {
    expect(await outcomeOf(() => Promise.reject(new TypeError("x is undefined")))).toMatchObject({
      status: "retry",
    });
  });

  test("should be said of each message by itself", async () => {
    const outcomes = ["accepted", "STORE_FULL", "EVENT_INVALID"];
    const sink = createSink(async ({ connection }) => {
      if (connection === "accepted") return accepted;
      throw new TrueupError(connection as ErrorCode, "for the test");
    }, reader);
    const heard = await sink(outcomes.map((connection) => ({ ...delivery, connection })));
    expect(heard.map(({ status }) => status)).toEqual(["accepted", "retry", "rejected"]);
  });
});
