import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { parseJson } from "../../src/http/json.ts";

describe("JSON from outside", () => {
  test("should keep the digits of an integer beyond 2^53, wherever in the text it stands", () => {
    for (let padding = 0; padding < 40; padding += 1) {
      const text = `{"pad":"${"x".repeat(padding)}","id":9007199254740993}`;
      expect(parseJson(text)).toEqual({ pad: "x".repeat(padding), id: 9007199254740993n });
    }
  });

  test("should leave numbers that are safe, and digits in strings, as they are", () => {
    expect(parseJson('[9007199254740991,1.2345678901234567,"9007199254740993",1e300]')).toEqual([
      9007199254740991,
      1.2345678901234567,
      "9007199254740993",
      1e300,
    ]);
  });

  test("should read integers of any length among others of any length exactly", () => {
    const digits = fc
      .integer({ min: 1, max: 40 })
      .chain((length) => fc.bigInt(10n ** BigInt(length - 1), 10n ** BigInt(length) - 1n));
    fc.assert(
      fc.property(fc.array(digits, { maxLength: 20 }), (numbers) => {
        const read = parseJson(`[${numbers.join(",")}]`) as (number | bigint)[];
        expect(read.map(BigInt)).toEqual(numbers);
      }),
    );
  });

  test("should read what a reviver would read, and refuse what the parser refuses", () => {
    const pieces = [
      "[",
      "]",
      "{",
      "}",
      ",",
      ":",
      " ",
      "\n",
      "-",
      "0",
      ".",
      "e",
      "+",
      '"',
      "\\",
      "\\\\",
      '\\"',
      '"a":',
      '"__proto__":',
      '"ue000"',
      '"\ue000"',
      '"\\uE0001"',
      '"\\\\ue000"',
      '"\ue00012345678901234567"',
      '"\\ue00012345678901234567"',
      "[1,",
      ",12345678901234567",
      "12345678901234567",
      "-9007199254740993",
      "9007199254740991",
      "00012345678901234567",
      "12345678901234567.5",
      "12345678901234567e2",
      "1".repeat(1_001),
      "true",
    ];
    const text = fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((parts) => parts.join(""));
    const wrapped = text.map((inner) => `[12345678901234567,{"x":[${inner}]}]`);
    const valid = fc
      .json({ stringUnit: "binary" })
      .map((json) => `{"id":12345678901234567,"\ue000":"\\ue000\ue0001","rest":${json}}`);
    fc.assert(
      fc.property(fc.oneof(text, wrapped, valid), (given) => {
        expect(outcomeOf(parseJson, given)).toEqual(outcomeOf(revived, given));
      }),
      { numRuns: 5_000 },
    );
  });

  test("should not make good JSON of bad", () => {
    for (const text of [
      '{"a":1,12345678901234567:2}',
      '{"a":1,12345678901234567}',
      "[-012345678901234567]",
    ]) {
      expect(() => parseJson(text)).toThrow(SyntaxError);
    }
  });

  test("should take no string for a number, whatever characters it begins with", () => {
    const texts = Array.from(
      { length: 6_400 },
      (_, i) => `${String.fromCharCode(0xe0_00 + i)}12345678901234567`,
    );
    const given = JSON.stringify([...texts, 0]).replace(/0]$/, "12345678901234567]");
    expect(parseJson(given)).toEqual([...texts, 12345678901234567n]);
  });

  test("should read a document as deep as it is long", () => {
    const depth = 100_000;
    let value: unknown = parseJson("[".repeat(depth) + "12345678901234567" + "]".repeat(depth));
    while (Array.isArray(value)) [value] = value as unknown[];
    expect(value).toBe(12345678901234567n);
  });

  test("should call back for none of many small things because of one long number (I10)", () => {
    const long = "[12345678901234567" + ",1".repeat(100_000) + "]";
    const calls = vi.spyOn(JSON, "parse");
    expect(parseJson(long)).toHaveLength(100_001);
    expect(calls.mock.calls.every(([, reviver]) => reviver === undefined)).toBe(true); // which is what took long
  });
});

/** What is meant: the parser, told of each number as it was written. */
function revived(text: string): unknown {
  return (JSON.parse as (text: string, reviver: Reviver) => unknown)(text, (_key, value, { source = "" }) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d{1,1000}$/.test(source)
      ? BigInt(source)
      : value,
  );
}

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

function outcomeOf(parse: (text: string) => unknown, text: string): unknown {
  try {
    return { value: parse(text) };
  } catch (error) {
    return (error as Error).name;
  }
}
