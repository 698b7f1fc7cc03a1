import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalJson, contentHash } from "../../src/core/content.ts";

/** The same value with the keys of every object in another order. */
function permuted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(permuted);
  if (typeof value !== "object" || value === null) return value;
  const reversed = Object.entries(value)
    .toReversed()
    .map(([key, member]) => [key, permuted(member)]);
  // As JSON.parse: `__proto__` becomes a member like any other.
  return Object.fromEntries(reversed);
}

const jsonOf = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("canonical JSON", () => {
  test("should be JSON with its keys sorted, where the value is JSON", () => {
    expect(canonicalJson({ b: [1, "x", true, null, { d: -0.5, c: {} }], a: 'q"\u2028' })).toBe(
      '{"a":"q\\"\u2028","b":[1,"x",true,null,{"c":{},"d":-0.5}]}',
    );
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("should not depend on the order of keys, at any depth", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(contentHash(permuted(value))).toBe(contentHash(value));
      }),
    );
    expect(canonicalJson(permuted({ a: 1, b: 2 }))).toBe('{"a":1,"b":2}');
  });

  test("should sort few keys as it sorts many", () => {
    for (const count of [2, 31, 32, 33, 100]) {
      const keys = Array.from({ length: count }, (_, i) => `k${(i * 7_919) % 1_009}é${i % 3}`);
      const text = canonicalJson(Object.fromEntries(keys.map((key, i) => [key, i])));
      expect(Object.keys(JSON.parse(text) as object)).toEqual(keys.toSorted());
    }
  });

  test("should leave undefined, functions and symbols out of objects, and make null of them in arrays", () => {
    expect(canonicalJson({ a: undefined, b: () => 1, c: Symbol("c"), d: 1 })).toBe('{"d":1}');
    expect(canonicalJson([undefined, () => 1, Symbol("c"), 1])).toBe("[null,null,null,1]");
    expect(contentHash({ a: null })).not.toBe(contentHash({}));
  });

  test("should write dates as the instants that they are", () => {
    const at = new Date("2024-05-01T10:00:00+02:00");
    expect(canonicalJson({ at })).toBe('{"at":"2024-05-01T08:00:00.000Z"}');
    expect(canonicalJson(new Date(Number.NaN))).toBe("null");
  });

  test("should ask objects that know their JSON, as JSON.stringify does", () => {
    const money = { toJSON: () => ({ cents: 5, currency: "EUR" }) };
    expect(canonicalJson({ money })).toBe('{"money":{"cents":5,"currency":"EUR"}}');
    expect(canonicalJson(new URL("https://a.example/"))).toBe('"https://a.example/"');
  });

  test("should not care for the order of a Map or a Set", () => {
    const map = new Map<unknown, unknown>([
      ["b", 1],
      ["a", { y: 1, x: 2 }],
    ]);
    const turned = new Map([...map].toReversed());
    expect(contentHash(turned)).toBe(contentHash(map));
    expect(contentHash(new Set([3, 1, 2]))).toBe(contentHash(new Set([1, 2, 3])));
    expect(contentHash(new Set([1, 2]))).not.toBe(contentHash(new Set([1, 3])));
    expect(contentHash(new Map([["a", 1]]))).not.toBe(contentHash(new Map([["a", 2]])));
  });

  test("should see a member named __proto__ like any other", () => {
    const hidden = JSON.parse('{"__proto__":{"admin":true},"a":1}') as object;
    expect(canonicalJson(hidden)).toBe('{"__proto__":{"admin":true},"a":1}');
    expect(contentHash(hidden)).not.toBe(contentHash({ a: 1 }));
  });
});

describe("values of different types", () => {
  test("should never read alike", () => {
    const values = [
      1,
      1n,
      "1",
      "#1",
      '"1"',
      true,
      "true",
      null,
      "null",
      Number.NaN,
      "NaN",
      "#NaN",
      Infinity,
      -Infinity,
      [],
      {},
      "",
      "[]",
      new Map(),
      new Set(),
      [1],
      [[1]],
      new Set([1]),
      { 0: 1 },
      new Map([[0, 1]]),
      [[0, 1]],
      "#map[[0,1]]",
      [1, 2],
      ["1,2"],
      [12],
    ];
    const texts = values.map(canonicalJson);
    expect(new Set(texts).size).toBe(values.length);
  });
});

describe("a content hash", () => {
  test("should be 22 characters of base64url, and the same in every process", () => {
    expect(contentHash({ a: 1 })).toMatch(/^[\w-]{22}$/);
    expect(contentHash({ id: "1", name: "Ada" })).toBe(contentHash({ name: "Ada", id: "1" }));
    expect(contentHash({})).toBe("RBNvo1WzZ4oRRq0W9-hknp");
  });

  test("should differ for any two values that are not the same JSON", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(contentHash(a) === contentHash(b)).toBe(isDeepStrictEqual(jsonOf(a), jsonOf(b)));
      }),
    );
  });

  test("should change with any one leaf", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.integer(), fc.string(), (value, before, name) => {
        const at = (leaf: unknown) => ({ value, nested: [{ [`k${name}`]: leaf }] });
        expect(contentHash(at(before + 1))).not.toBe(contentHash(at(before)));
        expect(contentHash(at(String(before)))).not.toBe(contentHash(at(before)));
      }),
    );
  });
});
