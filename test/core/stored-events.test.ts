import { describe, expect, test } from "vitest";
import { TrueupError } from "../../src/core/errors.ts";
import { withReceivedEvents, withStoredEvents } from "../../src/core/stored-events.ts";
import { claimOf, refOf } from "./fakes.ts";

const first = { id: "e1", origin: "webhook", receivedAt: 5, version: "n:3", data: { amount: 1 } } as const;
const second = { id: "e2", origin: "queue", receivedAt: 6 } as const;

describe("events as they are stored", () => {
  test.each([
    ["of one event each", [JSON.stringify(first), JSON.stringify(second)]],
    ["of a list", [JSON.stringify([first, second])]],
  ])("should be made of texts %s", (_, texts) => {
    expect(withStoredEvents({ ref: refOf("1") }, texts).events).toEqual([first, second]);
  });

  test("should be none where there are no texts", () => {
    expect(withStoredEvents({ ref: refOf("1") }, [])).toStrictEqual({ ref: refOf("1"), events: [] });
  });

  test.each([["{ not JSON"], [""]])("should fail whoever looks where a text cannot be read: %j", (text) => {
    const claim = withStoredEvents({ ref: refOf("1") }, [JSON.stringify(first), text]);
    expect(claim.ref.id).toBe("1");
    for (const look of [() => claim.events, () => JSON.stringify(claim)]) {
      let thrown: unknown;
      try {
        look();
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(TrueupError);
      expect(thrown).toMatchObject({ code: "STORE_FAILED", cause: expect.any(SyntaxError) as Error });
      expect((thrown as Error).message).toContain("crm.contact/1");
    }
  });
});

describe("events as users see them", () => {
  test("should be made of a claim that has them already, or makes them later", () => {
    const expected = [
      { id: "e1", version: 3, receivedAt: new Date(5), data: { amount: 1 }, dataDropped: false },
      { id: "e2", version: undefined, receivedAt: new Date(6), data: undefined },
    ];
    const { events: _, ...rest } = claimOf({ eventCount: 2 });
    const later = withStoredEvents(rest, [JSON.stringify([first, second])]);
    const change = withReceivedEvents({ kind: "delete" }, later);
    expect(change.events).toMatchObject(expected);
    expect(change.events).toBe(change.events);
    const plain = claimOf({ events: [first, second], eventCount: 2 });
    expect(withReceivedEvents({ kind: "delete" }, plain)).toEqual(change);
  });
});
