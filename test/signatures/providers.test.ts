import { createHmac } from "node:crypto";
import { sign as octokitSign } from "@octokit/webhooks-methods";
import { describe, expect, test } from "vitest";
import { ghostSignature } from "../../src/signatures/ghost.ts";
import { githubSignature } from "../../src/signatures/github.ts";
import { headerToken } from "../../src/signatures/header-token.ts";
import { hmacSignature, type HmacSignatureOptions } from "../../src/signatures/hmac-signature.ts";
import { deliveryOf, notRefused, NOW, refusalOf } from "./schemes.ts";

const optionInvalid: unknown = expect.objectContaining({ code: "OPTION_INVALID" });

describe("githubSignature", () => {
  test("should accept what Octokit signs", async () => {
    for (const body of ["{}", '{"name":"Zoë"}', "payload=%7B%7D", "\r\n"]) {
      const headers = { "x-hub-signature-256": await octokitSign("It's a Secret", body) };
      expect(
        await refusalOf(githubSignature({ secret: "It's a Secret" }), deliveryOf(body, headers)),
      ).toBeUndefined();
    }
  });

  // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
  test("should accept the example of GitHub's page", async () => {
    const delivery = deliveryOf("Hello, World!", {
      "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
      "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    });
    const verifier = githubSignature({ secret: "It's a Secret to Everybody" });
    expect(await refusalOf(verifier, delivery)).toBeUndefined();
    expect(verifier.deliveryId?.(delivery)).toBe("72d3162e-cc78-11e3-81ab-4c9367dc0958");
  });

  test("should not take the older header with SHA-1", async () => {
    const sha1 = `sha1=${createHmac("sha1", "s").update("{}").digest("hex")}`;
    for (const name of ["x-hub-signature", "x-hub-signature-256"]) {
      expect(await refusalOf(githubSignature({ secret: "s" }), deliveryOf("{}", { [name]: sha1 }))).toBe(
        "SIGNATURE_INVALID",
      );
    }
  });
});

describe("ghostSignature", () => {
  const sign = (signed: string, time = String(NOW)) => ({
    "x-ghost-signature": `sha256=${createHmac("sha256", "s").update(signed).digest("hex")}, t=${time}`,
  });

  test("should refuse the older form, whose time is not signed", async () => {
    const verifier = ghostSignature({ secret: "s" });
    expect(await refusalOf(verifier, deliveryOf("{}", sign(`{}${NOW}`)))).toBeUndefined();
    expect(await refusalOf(verifier, deliveryOf("{}", sign("{}")))).toBe("SIGNATURE_INVALID");
  });

  test("should refuse a time that is not a plain integer", async () => {
    const verifier = ghostSignature({ secret: "s" });
    const odd = ["NaN", "1e12", "-1", "0x10", `${NOW}abc`, `${NOW}.0`, `0${NOW}`, ""];
    const refusalAt = (time: string) => refusalOf(verifier, deliveryOf("{}", sign(`{}${time}`, time)));
    expect(await notRefused(odd, refusalAt)).toEqual([]);
  });

  test("should know no id", () => {
    expect(ghostSignature({ secret: "s" })).not.toHaveProperty("deliveryId");
  });
});

describe("headerToken", () => {
  test("should compare the whole value, in its case", async () => {
    const verifier = headerToken({ header: "Authorization", secret: "Bearer aBc" });
    const refusal = (authorization: string) => refusalOf(verifier, deliveryOf("", { authorization }));
    expect(await refusal("Bearer aBc")).toBeUndefined();
    expect(await refusal("bearer aBc")).toBe("SIGNATURE_INVALID");
    expect(await refusal("Bearer abc")).toBe("SIGNATURE_INVALID");
    expect(await refusal("aBc")).toBe("SIGNATURE_INVALID");
  });

  test.each(["token\n", " token", "tokén", "tok\0en"])(
    "should refuse %j, which no header carries unchanged",
    (secret) => {
      expect(() => headerToken({ header: "x-token", secret })).toThrow(optionInvalid);
    },
  );

  test.each(["", "x token", "x:token", "tökén", undefined as unknown as string])(
    "should refuse %j as a name",
    (header) => {
      expect(() => headerToken({ header, secret: "s" })).toThrow(optionInvalid);
    },
  );
});

describe("hmacSignature", () => {
  const options: HmacSignatureOptions = {
    secret: "s",
    header: "x-sign",
    algorithm: "sha256",
    encoding: "hex",
  };

  test.each(["sha1", "sha256", "sha384", "sha512"] as const)(
    "should verify %s in every encoding",
    async (algorithm) => {
      for (const encoding of ["hex", "base64", "base64url"] as const) {
        const verifier = hmacSignature({ ...options, algorithm, encoding });
        const digest = createHmac(algorithm, "s").update("body").digest();
        const refusal = (sign: string) => refusalOf(verifier, deliveryOf("body", { "x-sign": sign }));
        expect(await refusal(digest.toString(encoding))).toBeUndefined();
        for (const other of ["hex", "base64", "base64url"] as const) {
          // Base64 of the web differs from the other only where there is padding or one of two characters.
          if (digest.toString(other) !== digest.toString(encoding)) {
            expect(await refusal(digest.toString(other))).toBe("SIGNATURE_INVALID");
          }
        }
        expect(
          await refusal(createHmac("sha512", "s").update("body").digest().subarray(0, 20).toString(encoding)),
        ).toBe("SIGNATURE_INVALID");
      }
    },
  );

  test("should take one spelling of a digest alone", async () => {
    const digest = createHmac("sha256", "s").update("body").digest();
    const hex = digest.toString("hex");
    const base64 = digest.toString("base64");
    const spellings = {
      hex: [hex.toUpperCase(), `${hex}0`, `${hex}zz`, hex.slice(0, -1), shifted(hex), ` ${hex}`, `${hex}\0`],
      base64: [
        base64.replace("=", ""),
        `${base64}=`,
        `${base64}!`,
        shifted(base64),
        base64.replace("=", "=="),
      ],
    };
    for (const [encoding, others] of Object.entries(spellings)) {
      const verifier = hmacSignature({ ...options, encoding: encoding as "hex" | "base64" });
      const refusals = others.map((text) => refusalOf(verifier, deliveryOf("body", { "x-sign": text })));
      expect(await Promise.all(refusals)).toEqual(others.map(() => "SIGNATURE_INVALID"));
    }
  });

  /** The same low bytes, which is what cutting characters down to bytes would see. */
  const shifted = (text: string) =>
    text.replace(/./g, (character) => String.fromCharCode(character.charCodeAt(0) + 0x100));

  test("should sign what `payload` says, in text or bytes, alone or in a row", async () => {
    for (const payload of [
      () => "héllo",
      () => Buffer.from("héllo"),
      () => ["hé", Buffer.from("llo")],
      () => ["", "héllo", new Uint8Array(0)],
    ]) {
      const sign = createHmac("sha256", "s").update("héllo").digest("hex");
      expect(
        await refusalOf(hmacSignature({ ...options, payload }), deliveryOf("", { "x-sign": sign })),
      ).toBeUndefined();
    }
  });

  test.each([
    [
      "throws",
      () => {
        throw new TypeError("no such field");
      },
    ],
    ["returns nothing", () => undefined],
    ["returns a number", () => 1],
    ["returns a list with a hole", () => ["a", undefined]],
  ])("should refuse when `payload` %s", async (_, payload) => {
    const sign = createHmac("sha256", "s").update("").digest("hex");
    const verifier = hmacSignature({ ...options, payload: payload as unknown as () => string });
    expect(await refusalOf(verifier, deliveryOf("", { "x-sign": sign }))).toBe("SIGNATURE_INVALID");
  });

  test("should find the delivery's id where it is told to", () => {
    const verifier = hmacSignature({ ...options, idHeader: "X-Id" });
    expect(verifier.deliveryId?.(deliveryOf("", { "x-id": "d_1" }))).toBe("d_1");
    expect(hmacSignature(options)).not.toHaveProperty("deliveryId");
  });

  test.each<[string, Partial<Record<keyof HmacSignatureOptions, unknown>>]>([
    ["an unknown algorithm", { algorithm: "md5" }],
    ["an inherited algorithm", { algorithm: "toString" }],
    ["an unknown encoding", { encoding: "latin1" }],
    ["no header", { header: undefined }],
    ["a tolerance without a time", { toleranceMs: 1_000 }],
    ["a time that nothing signs", { timestamp: { header: "x-time" } }],
    ["a time in another unit", { timestamp: { header: "x-time", unit: "min" }, payload: () => "" }],
    ["a time without a header", { timestamp: {}, payload: () => "" }],
    ["an id without a name", { idHeader: "" }],
  ])("should refuse %s when it is made", (_, wrong) => {
    expect(() => hmacSignature({ ...options, ...wrong } as HmacSignatureOptions)).toThrow(optionInvalid);
  });
});
