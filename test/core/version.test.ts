import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  compareEncoded,
  decodeVersion,
  encodeVersion,
  type Version,
  versionOrder,
} from "../../src/core/version.ts";
import { thrownCode } from "./fakes.ts";

const compare = (a: Version | null, b: Version | null) => compareEncoded(encodeVersion(a), encodeVersion(b));

/** What a store does with `versionOrder`: it compares bytes. */
function storeOrder(a: Version, b: Version): number | undefined {
  const [left, right] = [versionOrder(encodeVersion(a)), versionOrder(encodeVersion(b))];
  if (left === null || right === null || left[0] !== right[0]) return undefined;
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

const hugeIntegers = fc.oneof(
  fc.bigInt({ min: -(10n ** 60n), max: 10n ** 60n }),
  fc.bigInt({ min: -200n, max: 200n }),
);

const finite = { noNaN: true, noDefaultInfinity: true };

interface Instant {
  readonly text: string;
  readonly nanos: bigint;
}

/** RFC 3339 in all its spellings, with the nanoseconds that it stands for. */
const instants: fc.Arbitrary<Instant> = fc
  .record({
    seconds: fc.oneof(
      fc.integer({ min: -62_000_000_000, max: 253_000_000_000 }),
      fc.integer({ min: 1_700_000_000, max: 1_700_000_003 }),
    ),
    nanos: fc.oneof(
      fc.integer({ min: 0, max: 999_999_999 }),
      fc.constantFrom(0, 1, 100_000_000, 999_999_999),
    ),
    digits: fc.constantFrom("all", "trimmed"),
    offset: fc.integer({ min: -1439, max: 1439 }),
    lower: fc.boolean(),
  })
  .map(({ seconds, nanos, digits, offset, lower }) => {
    const local = new Date((seconds + offset * 60) * 1000).toISOString().slice(0, 19);
    const padded = nanos.toString().padStart(9, "0");
    const fraction = digits === "all" ? padded : padded.replace(/0+$/, "");
    const pad = (n: number) => String(n).padStart(2, "0");
    const zone = `${offset < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
    const text = `${local}${fraction === "" ? "" : `.${fraction}`}${offset === 0 ? "Z" : zone}`;
    return {
      text: lower ? text.toLowerCase() : text,
      nanos: BigInt(seconds) * 1_000_000_000n + BigInt(nanos),
    };
  });

const sign = (a: bigint | number, b: bigint | number) => (a < b ? -1 : a > b ? 1 : 0);

describe("encoding", () => {
  const versions: fc.Arbitrary<Version> = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.double(finite).map((n) => (n === 0 ? 0 : n)),
    fc.bigInt(),
    fc.date({ noInvalidDate: true }),
  );

  test("should give every version back as the type that it had", () => {
    fc.assert(
      fc.property(versions, (version) => {
        expect(decodeVersion(encodeVersion(version))).toEqual(version);
      }),
    );
  });

  test("should be text that every store can keep, and keep what is equal apart from what is not", () => {
    const hostile = ["v\0", "v\ud800", "v\udc00", "v\\u0000", '"v\\u0000"', "v\ufffd", "v"];
    const encoded = hostile.map((version) => encodeVersion(version) ?? "");
    expect(new Set(encoded).size).toBe(hostile.length);
    expect(encoded.map((text) => decodeVersion(text))).toEqual(hostile);
    expect(encoded.filter((text) => text.includes("\0") || !text.isWellFormed())).toEqual([]);
    expect(versionOrder(encodeVersion("12\0"))).toBeNull();
  });

  test("should keep versions of different types apart, and none as none", () => {
    const encoded = ["1", 1, 1n, new Date(1)].map(encodeVersion);
    expect(new Set(encoded).size).toBe(4);
    expect([encodeVersion(null), encodeVersion(undefined), decodeVersion(null)]).toEqual([
      null,
      null,
      undefined,
    ]);
  });

  test.each([Number.NaN, Infinity, -Infinity, new Date(Number.NaN), {}, [], true, Symbol("v"), () => 1])(
    "should refuse %s",
    (value) => {
      expect(thrownCode(() => encodeVersion(value as Version))).toBe("OPTION_INVALID");
    },
  );
});

describe("the order of integers", () => {
  test("should be the numeric one, whatever their length and sign", () => {
    fc.assert(
      fc.property(hugeIntegers, hugeIntegers, (a, b) => {
        expect(compare(a, b)).toBe(sign(a, b));
        expect(storeOrder(a, b)).toBe(sign(a, b));
      }),
    );
  });

  test("should not depend on the type that carries them, nor on leading zeros", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.maxSafeInteger(), fc.nat(3), (a, b, zeros) => {
        const spelled = `${a < 0 ? "-" : ""}${"0".repeat(zeros)}${Math.abs(a)}`;
        for (const left of [a, BigInt(a), spelled]) {
          for (const right of [b, BigInt(b), String(b)]) expect(compare(left, right)).toBe(sign(a, b));
        }
      }),
    );
  });

  test("should hold for numbers too large to be written without an exponent", () => {
    const integers = fc.double(finite).map(Math.trunc);
    fc.assert(
      fc.property(integers, integers, (a, b) => {
        expect(compare(a, b)).toBe(sign(a, b));
      }),
    );
    expect(compare(1e21, 10n ** 21n - 1n)).toBe(1);
    expect(compare(1e21, 10n ** 22n)).toBe(-1);
  });

  test("should be that of a number's exact value, of which its text shows no more than 17 digits", () => {
    for (const bits of [49n, 50n, 53n, 60n, 69n]) {
      for (const value of [2n ** bits, -(2n ** bits)]) expect(compare(Number(value), value)).toBe(0);
    }
  });
});

describe("the order of numbers with a fraction", () => {
  const decimals = fc.tuple(fc.nat(1_000_000), fc.nat(999)).map(([whole, part]) => whole + part / 1000);

  test("should be the numeric one, next to integers too", () => {
    fc.assert(
      fc.property(decimals, decimals, (a, b) => {
        expect(compare(a, b)).toBe(sign(a, b));
        expect(storeOrder(a, b)).toBe(sign(a, b));
      }),
    );
  });

  test("should be the numeric one or none for any number", () => {
    fc.assert(
      fc.property(fc.double(finite), fc.double(finite), (a, b) => {
        expect([undefined, sign(a, b)]).toContain(compare(a, b));
      }),
    );
  });
});

describe("the order of instants", () => {
  test("should be that of time, to the nanosecond, whatever the offset and the case", () => {
    fc.assert(
      fc.property(instants, instants, (a, b) => {
        expect(compare(a.text, b.text)).toBe(sign(a.nanos, b.nanos));
        expect(storeOrder(a.text, b.text)).toBe(sign(a.nanos, b.nanos));
      }),
      { numRuns: 500 },
    );
  });

  test("should take a Date for the instant that it is", () => {
    expect(compare(new Date("2024-05-01T10:00:00Z"), "2024-05-01T12:00:00+02:00")).toBe(0);
    expect(compare(new Date("2024-05-01T10:00:00.001Z"), "2024-05-01T10:00:00.000999999Z")).toBe(1);
  });

  test("should read the lesser spellings: a space, a small t and z, and -00:00", () => {
    for (const text of ["2024-05-01 10:00:00Z", "2024-05-01t10:00:00z", "2024-05-01T10:00:00-00:00"]) {
      expect(compare(text, "2024-05-01T10:00:00.0Z")).toBe(0);
    }
  });

  test("should put a leap second behind all of the second before it, and before the next minute", () => {
    const inOrder = [
      "2016-12-31T23:59:59Z",
      "2016-12-31T23:59:59.9999999999Z",
      "2016-12-31T23:59:60Z",
      "2016-12-31T23:59:60.5Z",
      "2016-12-31T23:59:60.75Z",
      "2017-01-01T00:00:00Z",
    ];
    for (const [i, a] of inOrder.entries()) {
      for (const [j, b] of inOrder.entries()) expect(compare(a, b), `${a} and ${b}`).toBe(sign(i, j));
    }
    expect(compare("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:60Z")).toBe(0);
  });

  test("should reach back to the first instants of the year 0", () => {
    expect(compare("0000-01-01T00:00:00+01:00", "0000-01-01T00:00:00Z")).toBe(-1);
    expect(compare("0000-01-01T00:00:00+02:00", "0000-01-01T00:00:00+01:00")).toBe(-1);
    expect(compare("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.1Z")).toBe(-1);
  });

  const never = [
    "2024-02-30T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2024-04-31T00:00:00Z",
    "2024-13-01T00:00:00Z",
    "2024-00-10T00:00:00Z",
    "2024-01-00T00:00:00Z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:60:00Z",
    "2024-01-01T00:00:61Z",
    "2024-01-01T00:00:00+24:00",
    "2024-01-01T00:00:00",
    "2024-01-01T00:00Z",
    "2024-01-01",
    "20240101T000000Z",
    "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00,5Z",
    " 2024-01-01T00:00:00Z",
  ];

  test.each(never)("should not exist for %s, which is no RFC 3339 instant", (text) => {
    expect(versionOrder(encodeVersion(text))).toBeNull();
    expect(compare(text, "2000-01-01T00:00:00Z")).toBeUndefined();
    expect(compare(text, text)).toBe(0);
  });

  test("should exist for the 29th of February of a leap year", () => {
    expect(compare("2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z")).toBe(-1);
  });
});

describe("versions without an order", () => {
  test("should compare for equality only", () => {
    for (const opaque of ['W/"abc"', "", "1.2.3", "v2", "1e3", "0x10", "+5", "1 "]) {
      expect(compare(opaque, opaque)).toBe(0);
      expect(compare(opaque, "other")).toBeUndefined();
      expect(compare(opaque, 5)).toBeUndefined();
    }
  });

  test("should include two kinds, and the lack of one", () => {
    expect(compare(5, "2024-01-01T00:00:00Z")).toBeUndefined();
    expect(compare(null, 5)).toBeUndefined();
    expect(compare(5, null)).toBeUndefined();
    expect(compare(null, null)).toBeUndefined();
  });
});

describe("an order of the user's", () => {
  const byLength = (a: Version, b: Version) => String(a).length - String(b).length;

  test("should decide instead of ours, with the versions as they were given", () => {
    const order = (a: Version, b: Version) => compareEncoded(encodeVersion(a), encodeVersion(b), byLength);
    expect(order("v10", "v9")).toBeGreaterThan(0);
    expect(order("99", "100")).toBeLessThan(0);
    const seen: Version[] = [];
    compareEncoded("b:1", "d:1970-01-01T00:00:00.000Z", (a, b) => void seen.push(a, b));
    expect(seen).toEqual([1n, new Date(0)]);
  });

  test("should know nothing where it returns undefined or NaN", () => {
    expect(compareEncoded("s:a", "s:b", () => undefined)).toBeUndefined();
    expect(compareEncoded("s:a", "s:b", () => Number.NaN)).toBeUndefined();
    expect(compareEncoded("s:a", "s:b", () => -1)).toBe(-1);
  });
});
