import { createHmac, generateKeyPairSync, sign as signWith } from "node:crypto";
import { TrueupError } from "../../src/core/errors.ts";
import type { Verifier, WebhookDelivery } from "../../src/core/source.ts";
import { ghostSignature } from "../../src/signatures/ghost.ts";
import { githubSignature } from "../../src/signatures/github.ts";
import { headerToken } from "../../src/signatures/header-token.ts";
import { hmacSignature } from "../../src/signatures/hmac-signature.ts";
import { standardWebhooks } from "../../src/signatures/standard-webhooks.ts";

/** 2023-01-19T00:13:51Z, the moment of the specification's example. */
export const NOW = 1_674_087_231_000;

export type HeaderList = Readonly<Record<string, string | readonly string[]>>;

/** A delivery as a source would make it. A header with a list of values came that often. */
export function deliveryOf(body: Uint8Array | string, headers: HeaderList): WebhookDelivery {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  return {
    method: "POST",
    url: "https://receiver.test/hook",
    body: bytes,
    receivedAt: NOW,
    header(name) {
      const value = headers[name.toLowerCase()];
      if (typeof value === "string" || value === undefined) return value;
      if (value.length > 1) throw new TrueupError("HEADER_REPEATED", `${name} came twice`);
      return value[0];
    },
    get json(): unknown {
      return JSON.parse(Buffer.from(bytes).toString());
    },
  };
}

/** The code with which a verifier refuses; `undefined` when it accepts. Anything but a TrueupError is thrown on. */
export async function refusalOf(
  verifier: Verifier,
  delivery: WebhookDelivery,
  now = NOW,
): Promise<string | undefined> {
  try {
    await verifier.verify(delivery, now);
    return undefined;
  } catch (error) {
    if (error instanceof TrueupError) return (error as TrueupError).code;
    throw error;
  }
}

/** Those of the texts that were not refused as they should be. */
export async function notRefused(
  texts: readonly string[],
  refusal: (text: string) => Promise<string | undefined>,
  expected = "SIGNATURE_INVALID",
): Promise<string[]> {
  const codes = await Promise.all(texts.map(refusal));
  return texts.filter((_, at) => codes[at] !== expected);
}

export interface Scheme {
  readonly name: string;
  readonly secrets: readonly [string, string];
  readonly verifier: (secret: string | string[]) => Verifier;
  readonly sign: (body: Uint8Array, secret: string, now: number) => Record<string, string>;
  /** The header that attacks are aimed at. */
  readonly header: string;
  /** The header with the signed time, and its unit in milliseconds. */
  readonly time?: { readonly header: string; readonly unitMs: number };
  /** Whether the body is signed at all. */
  readonly signsBody: boolean;
}

const hmac = (secret: string | Buffer, ...parts: (string | Uint8Array)[]) =>
  parts.reduce<ReturnType<typeof createHmac>>((all, part) => all.update(part), createHmac("sha256", secret));

export const keyPairs = [0, 1].map(() => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  return {
    whpk: `whpk_${publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64")}`,
    privateKey,
  };
});

const whsec = (fill: number) => `whsec_${Buffer.alloc(24, fill).toString("base64")}`;

const standardHeaders = (prefix: string, now: number, signature: (head: string) => string) => ({
  [`${prefix}-id`]: "msg_1",
  [`${prefix}-timestamp`]: String(now / 1_000),
  [`${prefix}-signature`]: signature(`msg_1.${now / 1_000}.`),
});

const v1 = (prefix: string): Scheme => ({
  name: `standardWebhooks with ${prefix}-*`,
  secrets: [whsec(1), whsec(2)],
  verifier: (secret) => standardWebhooks({ secret }),
  sign: (body, secret, now) =>
    standardHeaders(
      prefix,
      now,
      (head) => `v1,${hmac(Buffer.from(secret.slice(6), "base64"), head, body).digest("base64")}`,
    ),
  header: `${prefix}-signature`,
  time: { header: `${prefix}-timestamp`, unitMs: 1_000 },
  signsBody: true,
});

export const schemes: readonly Scheme[] = [
  v1("webhook"),
  v1("svix"),
  {
    name: "standardWebhooks with key pairs",
    secrets: [keyPairs[0]!.whpk, keyPairs[1]!.whpk],
    verifier: (publicKey) => standardWebhooks({ publicKey }),
    sign: (body, secret, now) =>
      standardHeaders("webhook", now, (head) => {
        const { privateKey } = keyPairs.find((pair) => pair.whpk === secret)!;
        return `v1a,${signWith(null, Buffer.concat([Buffer.from(head), body]), privateKey).toString("base64")}`;
      }),
    header: "webhook-signature",
    time: { header: "webhook-timestamp", unitMs: 1_000 },
    signsBody: true,
  },
  {
    name: "hmacSignature in hex with a time",
    secrets: ["one", "two"],
    verifier: (secret) =>
      hmacSignature({
        secret,
        header: "X-Sign",
        algorithm: "sha256",
        encoding: "hex",
        prefix: "v0=",
        timestamp: { header: "X-Time", unit: "ms" },
        payload: (delivery) => [delivery.header("x-time") ?? "", ":", delivery.body],
      }),
    sign: (body, secret, now) => ({
      "x-time": String(now),
      "x-sign": `v0=${hmac(secret, `${now}:`, body).digest("hex")}`,
    }),
    header: "x-sign",
    time: { header: "x-time", unitMs: 1 },
    signsBody: true,
  },
  {
    name: "hmacSignature in base64url",
    secrets: ["one", "two"],
    verifier: (secret) =>
      hmacSignature({ secret, header: "x-sign", algorithm: "sha512", encoding: "base64url" }),
    sign: (body, secret) => ({ "x-sign": createHmac("sha512", secret).update(body).digest("base64url") }),
    header: "x-sign",
    signsBody: true,
  },
  {
    name: "githubSignature",
    secrets: ["one", "two"],
    verifier: (secret) => githubSignature({ secret }),
    sign: (body, secret) => ({ "x-hub-signature-256": `sha256=${hmac(secret, body).digest("hex")}` }),
    header: "x-hub-signature-256",
    signsBody: true,
  },
  {
    name: "ghostSignature",
    secrets: ["one", "two"],
    verifier: (secret) => ghostSignature({ secret }),
    sign: (body, secret, now) => ({
      "x-ghost-signature": `sha256=${hmac(secret, body, String(now)).digest("hex")}, t=${now}`,
    }),
    header: "x-ghost-signature",
    signsBody: true,
  },
  {
    name: "headerToken",
    secrets: ["token-one", "token-two"],
    verifier: (secret) => headerToken({ header: "X-Token", secret }),
    sign: (_, secret) => ({ "x-token": secret }),
    header: "x-token",
    signsBody: false,
  },
];
