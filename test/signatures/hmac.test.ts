import { createHmac } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hmacMatcher, type HmacAlgorithm } from "../../src/signatures/hmac.ts";

const ALGORITHMS: readonly HmacAlgorithm[] = ["sha1", "sha256", "sha384", "sha512"];
const ENCODINGS = ["hex", "base64", "base64url"] as const;

/** Of RFC 4231: the key and the data, and what HMAC-SHA-256 and HMAC-SHA-512 begin with. */
const VECTORS = [
  [Buffer.alloc(20, 0x0b), Buffer.from("Hi There"), "b0344c61d8db3853", "87aa7cdea5ef619d"],
  [Buffer.from("Jefe"), Buffer.from("what do ya want for nothing?"), "5bdcc146bf60754e", "164b7a7bfcf819e2"],
  [Buffer.alloc(20, 0xaa), Buffer.alloc(50, 0xdd), "773ea91e36800e46", "fa73b0089d56a284"],
  [
    Buffer.alloc(131, 0xaa),
    Buffer.from("Test Using Larger Than Block-Size Key - Hash Key First"),
    "60e431591ee0b67f",
    "80b24263c7c1a3eb",
  ],
] as const;

describe("hmacMatcher", () => {
  test("should agree with node:crypto's HMAC, whatever the key, the message and how it is cut", () => {
    const bytes = (most: number) => fc.uint8Array({ maxLength: most });
    fc.assert(
      fc.property(
        fc.constantFrom(...ALGORITHMS),
        fc.constantFrom(...ENCODINGS),
        // Keys on both sides of a block: longer ones are hashed first.
        fc.oneof(
          bytes(300),
          fc.constantFrom(63, 64, 65, 127, 128, 129).map((n) => new Uint8Array(n).fill(7)),
        ),
        fc.array(fc.oneof(bytes(200), fc.string({ unit: "binary" }))),
        (algorithm, encoding, secret, parts) => {
          const oracle = createHmac(algorithm, secret);
          for (const part of parts) oracle.update(part);
          const signature = oracle.digest(encoding);
          const matches = hmacMatcher({ algorithm, encoding, secrets: [secret] });
          expect(matches([signature], parts)).toBe(true);
          expect(matches([signature], [...parts, "x"])).toBe(false);
          // A second message under the same key is told by itself.
          expect(matches([signature], parts)).toBe(true);
        },
      ),
    );
  });

  test.each(VECTORS)("should give RFC 4231's digests (%#)", (secret, data, ...expected) => {
    const found = (["sha256", "sha512"] as const).map((algorithm) =>
      createHmac(algorithm, secret).update(data).digest("hex"),
    );
    expect(found.map((digest) => digest.slice(0, 16))).toEqual(expected);
    for (const [i, algorithm] of (["sha256", "sha512"] as const).entries()) {
      const matches = hmacMatcher({ algorithm, encoding: "hex", secrets: [secret] });
      expect(matches([found[i] ?? ""], [data])).toBe(true);
    }
  });

  test("should take a text key as UTF-8, and any of several", () => {
    const signature = createHmac("sha256", Buffer.from("schlüssel")).update("body").digest("hex");
    const matches = hmacMatcher({ algorithm: "sha256", encoding: "hex", secrets: ["other", "schlüssel"] });
    expect(matches(["00", signature], ["body"])).toBe(true);
    expect(matches([signature.toUpperCase()], ["body"])).toBe(false);
  });
});
