import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SignatureError } from "../../src/core/errors.ts";
import { requireFresh } from "../../src/signatures/freshness.ts";
import { hostileText, LONG_UNITS, longOf } from "../hostile.ts";

const NOW = 1_674_087_231_000;
const fresh = (timestamp: string) => requireFresh(timestamp, "s", NOW, 300_000);

describe("a signed time (I11)", () => {
  test.each([
    "1674087231.0",
    "+1674087231",
    " 1674087231",
    "1674087231\n",
    "01674087231",
    "1.674087231e9",
    "0x63c88a7f",
    "1674087231abc",
    "1_674_087_231",
    "１６７４０８７２３１",
  ])("should have one spelling, which %j is not", (timestamp) => {
    expect(() => fresh("1674087231")).not.toThrow();
    expect(() => fresh(timestamp)).toThrow(SignatureError);
  });

  test("should be refused or be within its tolerance, whatever it says", () => {
    const times = fc.oneof(
      hostileText,
      fc.integer({ min: 1_674_086_000, max: 1_674_088_000 }).map(String),
      fc.double().map(String),
      fc.bigInt().map(String),
    );
    fc.assert(
      fc.property(times, (timestamp) => {
        try {
          fresh(timestamp);
        } catch (error) {
          expect(error).toBeInstanceOf(SignatureError);
          return;
        }
        expect(Math.abs(Number(timestamp) * 1_000 - NOW)).toBeLessThanOrEqual(300_000);
      }),
      { numRuns: 2_000 },
    );
    for (const unit of LONG_UNITS) expect(() => fresh(longOf(unit))).toThrow(SignatureError);
  });
});
