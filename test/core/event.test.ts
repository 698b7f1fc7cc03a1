import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DEDUPE_KEY_BYTES,
  dedupeKey,
  describeRef,
  type ObjectRef,
  objectIdText,
  receivedEvent,
  type StoredEvent,
  type SyncEvent,
  validateEvent,
  WHOLE_RESOURCE,
} from "../../src/core/event.ts";
import { decodeVersion } from "../../src/core/version.ts";
import { refOf, thrownCode } from "./fakes.ts";

const context = { origin: "webhook", receivedAt: 1_000, deliveryId: undefined } as const;
const limits = { maxEventDataBytes: 100 };

const valid = (event: object, by: { deliveryId?: string } = {}) =>
  validateEvent(event as SyncEvent, { ...context, ...by }, limits);

const LONE_SURROGATE = "\ud800";
const LONGEST = "x".repeat(1_024);

const circular: Record<string, unknown> = {};
circular["itself"] = circular;

describe("a valid event", () => {
  test("should come out as text", () => {
    const event = {
      id: 7,
      type: "contact.updated",
      resource: "contact",
      objectId: 12n,
      hint: "upsert",
      version: 5,
      occurredAt: "2024-05-01T10:00:00+02:00",
      data: { a: [1] },
    };
    expect(valid(event)).toEqual({
      id: "7",
      resource: "contact",
      objectId: "12",
      stored: {
        id: "7",
        type: "contact.updated",
        hint: "upsert",
        version: "n:5",
        occurredAt: "2024-05-01T08:00:00.000Z",
        data: { a: [1] },
        origin: "webhook",
        receivedAt: 1_000,
      },
    });
  });

  test("should need no more than a resource", () => {
    const least = { origin: "webhook", receivedAt: 1_000 };
    expect(valid({ resource: "*" })).toEqual({
      id: undefined,
      resource: "*",
      objectId: WHOLE_RESOURCE,
      stored: least,
    });
    const nothing = { objectId: null, version: null, occurredAt: null, id: undefined, data: undefined };
    expect(valid({ resource: "contact", ...nothing }).stored).toEqual(least);
  });

  test("should have the delivery's id where it has none of its own (I9)", () => {
    expect(valid({ resource: "contact" }, { deliveryId: "d1" }).id).toBe("d1");
    expect(valid({ resource: "contact", id: "e1" }, { deliveryId: "d1" }).id).toBe("e1");
  });

  test("should survive the store and reach the handler with its types", () => {
    const at = new Date(5_000);
    const { stored } = valid({ resource: "contact", id: "e", version: at, occurredAt: 7_000, data: null });
    const kept = JSON.parse(JSON.stringify(stored)) as StoredEvent;
    expect(receivedEvent(kept, decodeVersion)).toEqual({
      id: "e",
      type: undefined,
      hint: undefined,
      version: at,
      occurredAt: new Date(7_000),
      data: null,
      dataDropped: false,
      origin: "webhook",
      receivedAt: new Date(1_000),
    });
  });
});

describe("a bad field", () => {
  test.each<[string, unknown]>([
    ["no event", null],
    ["no event, but text", "contact"],
    ["no resource", {}],
    ["an empty resource", { resource: "" }],
    ["a resource that is no text", { resource: 5 }],
    ["a hint of another kind", { resource: "contact", hint: "create" }],
    ["a hint of null", { resource: "contact", hint: null }],
    ["an empty id", { resource: "contact", id: "" }],
    ["an id that is an object", { resource: "contact", id: {} }],
    ["an id that is too long", { resource: "contact", id: `${LONGEST}x` }],
    ["an id beyond 2^53", { resource: "contact", id: 2 ** 53 }],
    ["an id with a NUL", { resource: "contact", id: "a\0b" }],
    ["an empty object id", { resource: "contact", objectId: "" }],
    ["an object id beyond 2^53", { resource: "contact", objectId: 2 ** 53 + 2 }],
    ["an object id with a fraction", { resource: "contact", objectId: 1.5 }],
    ["an object id that is NaN", { resource: "contact", objectId: Number.NaN }],
    ["an object id that is true", { resource: "contact", objectId: true }],
    ["an object id with a lone surrogate", { resource: "contact", objectId: `a${LONE_SURROGATE}` }],
    ["a version that is no version", { resource: "contact", version: {} }],
    ["a version that is not finite", { resource: "contact", version: Infinity }],
    ["data that is no JSON", { resource: "contact", data: circular }],
  ])("should be refused: %s", (_, event) => {
    expect(thrownCode(() => valid(event as object))).toBe("EVENT_INVALID");
  });

  test("should be refused where JSON cannot end", () => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    expect(thrownCode(() => valid({ resource: "contact", data: circle }))).toBe("EVENT_INVALID");
  });

  test("should be let through where it is only strange", () => {
    for (const objectId of [LONGEST, "0", " ", "💶", "a/../b", "__proto__", "1e3"]) {
      expect(valid({ resource: "contact", objectId }).objectId).toBe(objectId);
    }
  });
});

describe("what is only handed on", () => {
  test.each([
    ["not a date"],
    [Number.NaN],
    [8.64e15 + 1],
    [{}],
    [5n],
    [Symbol("s")],
    [new Date(Number.NaN)],
    [true],
  ])("should be left out where it cannot be read: occurredAt %s", (occurredAt) => {
    expect(valid({ resource: "contact", occurredAt }).stored).not.toHaveProperty("occurredAt");
  });

  test("should be cut: a type that is too long, or left out: one that is no text", () => {
    expect(valid({ resource: "contact", type: "t".repeat(300) }).stored.type).toHaveLength(256);
    expect(valid({ resource: "contact", type: 5 }).stored).not.toHaveProperty("type");
  });

  test("should be left out with a mark: data over its cap in bytes, not in characters", () => {
    const fits = "é".repeat(49); // 98 bytes, and two quotes
    expect(valid({ resource: "contact", data: fits }).stored).toMatchObject({ data: fits });
    const dropped = valid({ resource: "contact", data: `${fits}é` }).stored;
    expect(dropped).toMatchObject({ dataDropped: true });
    expect(dropped).not.toHaveProperty("data");
    expect(receivedEvent(dropped, decodeVersion)).toMatchObject({ data: undefined, dataDropped: true });
  });

  test("should keep data that is nothing, false or empty", () => {
    for (const data of [null, false, 0, "", [], {}]) {
      expect(valid({ resource: "contact", data }).stored).toHaveProperty("data", data);
    }
    expect(valid({ resource: "contact", data: () => 1 }).stored).not.toHaveProperty("data");
  });
});

describe("an object's id", () => {
  test("should be the same text as a number, a bigint or a string", () => {
    expect([1, 1n, "1"].map(objectIdText)).toEqual(["1", "1", "1"]);
    expect(objectIdText(-0)).toBe("0");
    expect(objectIdText(Number.MAX_SAFE_INTEGER)).toBe("9007199254740991");
    expect(objectIdText(2n ** 70n)).toBe("1180591620717411303424");
  });

  test("should be named in messages with its connection, where that is not the default one", () => {
    expect(describeRef(refOf("c_1"))).toBe("crm.contact/c_1");
    expect(describeRef({ ...refOf("c_1"), connection: "acme" })).toBe("crm.contact@acme/c_1");
    expect(describeRef(refOf(WHOLE_RESOURCE))).toBe("crm.contact");
  });
});

describe("the dedupe key (I9)", () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const keyOf = ([provider, connection, resource, id, event]: string[]) =>
    hex(dedupeKey({ provider, connection, resource, id } as ObjectRef, event as string));

  test("should have 16 bytes, and be the same in every process", () => {
    const key = dedupeKey(refOf("c_1"), "e1");
    expect(key).toBeInstanceOf(Uint8Array);
    expect(key).toHaveLength(DEDUPE_KEY_BYTES);
    expect(hex(key)).toBe(keyOf(["crm", "default", "contact", "c_1", "e1"]));
  });

  test("should read no two lists of parts alike", () => {
    const parts = fc.array(
      fc.oneof(fc.string({ maxLength: 4 }), fc.constantFrom("", "1:", "a", "1:a", ":")),
      {
        minLength: 5,
        maxLength: 5,
      },
    );
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        expect(keyOf(a) === keyOf(b)).toBe(JSON.stringify(a) === JSON.stringify(b));
      }),
      { numRuns: 1_000 },
    );
  });

  test("should be another one wherever one part is another", () => {
    const parts = ["crm", "default", "contact", "c_1", "e1"];
    const keys = parts.map((_, at) => keyOf(parts.with(at, "other")));
    expect(new Set([keyOf(parts), ...keys]).size).toBe(6);
  });

  test("should not be fooled by parts that run into each other", () => {
    expect(keyOf(["ab", "c", "d", "e", "f"])).not.toBe(keyOf(["a", "bc", "d", "e", "f"]));
    for (let at = 0; at < 4; at += 1) {
      const parts = ["a", "b", "c", "d", "e"];
      const one = keyOf(parts.with(at, `${parts[at]}x`));
      expect(one).not.toBe(keyOf(parts.with(at + 1, `x${parts[at + 1]}`)));
    }
    expect(keyOf(["a", "", "d", "e", "f"])).not.toBe(keyOf(["", "a", "d", "e", "f"]));
  });
});
