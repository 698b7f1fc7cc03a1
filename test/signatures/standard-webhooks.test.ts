import { createHmac, createPrivateKey, sign } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { standardWebhooks } from "../../src/signatures/standard-webhooks.ts";
import { deliveryOf, keyPairs, notRefused, NOW, refusalOf } from "./schemes.ts";

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const body = '{"test": 2432232314}';
const at = NOW / 1_000;

const headers = (signature: string, id = "msg_1") => ({
  "webhook-id": id,
  "webhook-timestamp": String(at),
  "webhook-signature": signature,
});
const byReference = (key = secret, of = body, id = "msg_1") => new Webhook(key).sign(id, new Date(NOW), of);
const byKeyPair = (pair = keyPairs[0]!, of = body) =>
  `v1a,${sign(null, Buffer.from(`msg_1.${at}.${of}`), pair.privateKey).toString("base64")}`;
const refusal = (
  signature: string,
  options: Parameters<typeof standardWebhooks>[0] = { secret },
  of = body,
) => refusalOf(standardWebhooks(options), deliveryOf(of, headers(signature)));

describe("standardWebhooks", () => {
  test("should accept what the reference library signs", async () => {
    for (const of of [body, "", "[]", "\uFEFF{}", "é\r\n"]) {
      expect(await refusal(byReference(secret, of), { secret }, of)).toBeUndefined();
    }
  });

  // The values of the reference library's own tests, whose signature was made long ago.
  test("should accept a recorded delivery", async () => {
    const recorded = {
      "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "svix-timestamp": "1614265330",
      "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    const verifier = standardWebhooks({ secret });
    expect(await refusalOf(verifier, deliveryOf(body, recorded), 1_614_265_330_000)).toBeUndefined();
    expect(verifier.deliveryId?.(deliveryOf(body, recorded))).toBe("msg_p5jXN8AQM9LWM0D4loKWxJek");
  });

  test("should accept ed25519 with the key pair of RFC 8032, section 7.1, test 1", async () => {
    const seed = Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex");
    const privateKey = createPrivateKey({
      key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]),
      format: "der",
      type: "pkcs8",
    });
    const publicKey = Buffer.from("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "hex");
    const whpk = `whpk_${publicKey.toString("base64")}`;
    expect(await refusal(byKeyPair({ whpk, privateKey }), { publicKey: whpk })).toBeUndefined();
  });

  test("should take secrets with and without their prefix", async () => {
    expect(await refusal(byReference(), { secret: secret.slice("whsec_".length) })).toBeUndefined();
    expect(
      await refusal(byKeyPair(), { publicKey: keyPairs[0]!.whpk.slice("whpk_".length) }),
    ).toBeUndefined();
  });

  test("should find the good signature in a list, among others and other versions", async () => {
    const good = byReference();
    const bad = byReference("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    expect(await refusal(`v2,abc ${bad} ${good}`)).toBeUndefined();
    expect(await refusal(`${good} v1,`)).toBeUndefined();
    expect(await refusal(`${bad} v1, v1`)).toBe("SIGNATURE_INVALID");
    expect(await refusal(`${bad} `.repeat(16) + good), "too many to be looked at").toBe("SIGNATURE_INVALID");
  });

  test("should keep the kinds of keys apart", async () => {
    const both = { secret, publicKey: keyPairs[0]!.whpk };
    expect(await refusal(byReference(), both)).toBeUndefined();
    expect(await refusal(byKeyPair(), both)).toBeUndefined();
    expect(await refusal(byReference(), { publicKey: keyPairs[0]!.whpk })).toBe("SIGNATURE_INVALID");
    expect(await refusal(byKeyPair(), { secret })).toBe("SIGNATURE_INVALID");
    // The public key is public: an HMAC made with it must not pass.
    const confused = byReference(keyPairs[0]!.whpk.replace("whpk_", "whsec_"));
    expect(await refusal(confused, both)).toBe("SIGNATURE_INVALID");
    expect(await refusal(confused.replace("v1,", "v1a,"), both)).toBe("SIGNATURE_INVALID");
  });

  test("should read Svix's names only as a whole set, after its own", async () => {
    const own = headers(byReference());
    const svix = Object.fromEntries(
      Object.entries(own).map(([name, value]) => [name.replace("webhook", "svix"), value]),
    );
    const verifier = standardWebhooks({ secret });
    const mixed = { ...svix, "svix-id": "", "webhook-id": "msg_1" };
    expect(await refusalOf(verifier, deliveryOf(body, mixed))).toBe("SIGNATURE_INVALID");
    expect(await refusalOf(verifier, deliveryOf(body, { ...svix, "webhook-id": "other" }))).toBeUndefined();
    expect(await refusalOf(verifier, deliveryOf(body, { ...svix, ...headers("v1,AAAA") }))).toBe(
      "SIGNATURE_INVALID",
    );
    // The id that is read is the one that was verified.
    expect(verifier.deliveryId?.(deliveryOf(body, { ...svix, "webhook-id": "other" }))).toBe("msg_1");
    expect(verifier.deliveryId?.(deliveryOf(body, { ...own, "svix-id": "other" }))).toBe("msg_1");
  });

  // "It's important that both the message id and the timestamp … not be allowed to include any `.`" (specification)
  test("should refuse to cut the signed content elsewhere than the sender did", async () => {
    const signature = byReference(secret, `${at}.{}`);
    expect(await refusal(signature, { secret }, `${at}.{}`), "as it was sent").toBeUndefined();
    const moved = deliveryOf("{}", headers(signature, `msg_1.${at}`));
    expect(await refusalOf(standardWebhooks({ secret }), moved)).toBe("SIGNATURE_INVALID");
  });

  test.each([
    ["nothing", {}],
    ["a bare prefix", { secret: "whsec_" }],
    ["a bare prefix in a list", { secret: [secret, "whsec_"] }],
    ["an empty public key", { publicKey: "whpk_" }],
    ["an empty secret beside a public key", { secret: "", publicKey: keyPairs[0]!.whpk }],
    ["an empty public key beside a secret", { secret, publicKey: "" }],
    ["no base64", { secret: "whsec_not base64!" }],
    ["base64 without padding", { secret: "whsec_QUI" }],
    ["base64 with stray bits", { secret: "whsec_QUJ=" }],
    ["base64 of the web", { secret: "whsec_-_-_" }],
    ["a public key as a secret", { secret: keyPairs[0]!.whpk }],
    ["a secret as a public key", { publicKey: secret }],
    ["a public key of another size", { publicKey: "whpk_AAAA" }],
    ["no tolerance", { secret, toleranceMs: 0 }],
    ["a tolerance without end", { secret, toleranceMs: Number.POSITIVE_INFINITY }],
    ["a tolerance that is no number", { secret, toleranceMs: "5m" as unknown as number }],
  ])("should refuse %s when it is made", (_, options) => {
    expect(() => standardWebhooks(options)).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
  });

  test("should refuse a time that is not a plain integer, also where it is signed", async () => {
    const verifier = standardWebhooks({ secret });
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const refusalAt = (time: string) => {
      const signature = createHmac("sha256", key).update(`msg_1.${time}.${body}`).digest("base64");
      const given = { ...headers(`v1,${signature}`), "webhook-timestamp": time };
      return refusalOf(verifier, deliveryOf(body, given));
    };
    expect(await refusalAt(String(at))).toBeUndefined();
    const odd = [
      `${at}abc`,
      ` ${at}`,
      `+${at}`,
      `0${at}`,
      `${at}.0`,
      `${at}e0`,
      `0x${at.toString(16)}`,
      "NaN",
      String(NOW),
    ];
    expect(await notRefused(odd, refusalAt)).toEqual([]);
  });

  test("should keep to the tolerance that it is given", async () => {
    const verifier = standardWebhooks({ secret, toleranceMs: 1_000 });
    const delivery = deliveryOf(body, headers(byReference()));
    expect(await refusalOf(verifier, delivery, NOW + 1_000)).toBeUndefined();
    expect(await refusalOf(verifier, delivery, NOW + 1_001)).toBe("SIGNATURE_INVALID");
  });
});
