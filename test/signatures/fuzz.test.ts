import { inspect } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SignatureError, TrueupError } from "../../src/core/errors.ts";
import { secretsOf } from "../../src/core/secrets.ts";
import { decodeStrictly } from "../../src/signatures/decode.ts";
import { LONG_UNITS, longOf } from "../hostile.ts";
import { deliveryOf, NOW, schemes } from "./schemes.ts";

/** Headers that are nearly right: pieces of good ones, put together anyhow. */
function nearly(good: string): fc.Arbitrary<string> {
  const piece = fc.oneof(
    fc.constantFrom(good, "v1,", "v1a,", "sha256=", ", t=", " ", ",", "=", "0", "\0", "é", "ÿ", "\u{1F600}"),
    fc.tuple(fc.nat(good.length), fc.nat(good.length)).map(([from, to]) => good.slice(from, to)),
    fc.string({ unit: "binary" }),
    fc.base64String(),
  );
  return fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));
}

describe.each(schemes)("$name", ({ secrets, verifier, sign }) => {
  const genuine = sign(Buffer.from("{}"), secrets[0], NOW);

  test("should note its secrets, so that they are told to nobody (I12)", () => {
    const scheme = verifier([...secrets]);
    expect(inspect(scheme, { depth: null, showHidden: true })).not.toContain(secrets[0]);
    // The key of a pair is public.
    expect(secretsOf(scheme)).toEqual(secrets[0].startsWith("whpk_") ? [] : secrets);
  });

  test("should throw nothing but its own errors, whatever comes", () => {
    const scheme = verifier([...secrets]);
    const headers = fc.record(
      Object.fromEntries(
        Object.entries(genuine).map(([name, value]) => [
          name,
          fc.oneof(nearly(value), fc.constant(value), fc.array(nearly(value))),
        ]),
      ),
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(headers, fc.uint8Array(), fc.oneof(fc.constant(NOW), fc.double()), (given, body, now) => {
        const delivery = deliveryOf(body, given as Record<string, string>);
        let error: unknown;
        try {
          void scheme.verify(delivery, now);
        } catch (thrown) {
          error = thrown;
        }
        const own =
          error instanceof SignatureError ||
          (error instanceof TrueupError && error.code === "HEADER_REPEATED");
        expect(own || error === undefined).toBe(true);
      }),
    );
  });

  test("should be done with a header of any length in time that grows with it alone (I10)", () => {
    const scheme = verifier([...secrets]);
    for (const unit of LONG_UNITS) {
      for (const [name, value] of Object.entries(genuine)) {
        for (const long of [longOf(unit), value + longOf(unit), longOf(value), longOf(unit) + value]) {
          const delivery = deliveryOf("{}", { ...genuine, [name]: long });
          // An id may be long: it is signed as it is, and then cut by its caller.
          if (!name.endsWith("-id")) expect(() => scheme.verify(delivery, NOW)).toThrow(TrueupError);
        }
      }
    }
  });

  test("should accept every body that was signed, and no header from another", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 0, max: 4_102_444_800 }), (body, seconds) => {
        const now = seconds * 1_000;
        void verifier(secrets[0]).verify(deliveryOf(body, sign(body, secrets[0], now)), now);
        expect(() => verifier(secrets[1]).verify(deliveryOf(body, sign(body, secrets[0], now)), now)).toThrow(
          SignatureError,
        );
      }),
    );
  });
});

describe("decodeStrictly", () => {
  test.each(["hex", "base64", "base64url"] as const)(
    "should read %s in its one spelling alone",
    (encoding) => {
      fc.assert(
        fc.property(fc.uint8Array(), (bytes) => {
          expect(decodeStrictly(Buffer.from(bytes).toString(encoding), encoding)).toEqual(Buffer.from(bytes));
        }),
      );
      fc.assert(
        fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => {
          expect([undefined, text]).toContain(decodeStrictly(text, encoding)?.toString(encoding));
        }),
      );
    },
  );
});
