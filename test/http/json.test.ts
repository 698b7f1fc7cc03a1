import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
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
});
