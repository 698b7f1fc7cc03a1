import { describe, expect, test } from "vitest";
import { deliveryOf, notRefused, NOW, refusalOf, schemes } from "./schemes.ts";

const bytes = (...values: number[]) => Uint8Array.from(values);
const body = Buffer.from('{"id":"c_1","name":"Zoë"}');

describe.each(schemes)("$name", ({ secrets, verifier, sign, header, time, signsBody }) => {
  const [secret, other] = secrets;
  const signed = sign(body, secret, NOW);
  const value = signed[header]!;
  const refusal = (headers: Record<string, string | string[]>, of: Uint8Array = body) =>
    refusalOf(verifier(secret), deliveryOf(of, { ...signed, ...headers }));

  test("should accept what is genuine", async () => {
    expect(await refusal({})).toBeUndefined();
  });

  test("should accept each of several secrets, and none besides", async () => {
    const rotating = verifier([other, secret]);
    expect(await refusalOf(rotating, deliveryOf(body, signed))).toBeUndefined();
    expect(await refusalOf(rotating, deliveryOf(body, sign(body, other, NOW)))).toBeUndefined();
    expect(await refusalOf(verifier(other), deliveryOf(body, signed))).toBe("SIGNATURE_INVALID");
  });

  const cuts = Array.from({ length: value.length }, (_, at) => at);
  const withSignature = (forged: string) => refusal({ [header]: forged });

  test("should refuse every beginning and every end of a signature", async () => {
    expect(
      await notRefused(
        cuts.map((at) => value.slice(0, at)),
        withSignature,
      ),
    ).toEqual([]);
    expect(
      await notRefused(
        cuts.slice(1).map((at) => value.slice(at)),
        withSignature,
      ),
    ).toEqual([]);
  });

  test("should refuse a signature with any character changed", async () => {
    const forged = cuts.map(
      (at) => value.slice(0, at) + (value[at] === "0" ? "1" : "0") + value.slice(at + 1),
    );
    expect(await notRefused(forged, withSignature)).toEqual([]);
  });

  test.each([
    ["nothing", ""],
    ["white space", " "],
    ["garbage behind it", `${value}zz`],
    ["garbage before it", `zz${value}`],
    ["white space behind it", `${value}\t`],
    ["white space before it", `\n${value}`],
    ["upper case", value.toUpperCase()],
    ["itself twice", `${value}${value}`],
    ["itself twice as Headers joins it", `${value}, ${value}`],
    ["padding", `${value}=`],
    ["another algorithm", value.replace(/^[a-z]+\d+[a]?(?=[=,])/, "sha1")],
    ["no label", value.replace(/^[a-z]+\d+[a]?[=,]/, "")],
    ["a NUL", `${value}\0`],
    [
      "characters beyond Latin-1",
      cuts.map((at) => String.fromCharCode(value.charCodeAt(at) + 0x100)).join(""),
    ],
    ["an object's key", "__proto__"],
  ])("should refuse %s", async (_, forged) => {
    if (forged !== value) expect(await refusal({ [header]: forged })).toBe("SIGNATURE_INVALID");
  });

  test("should refuse when any of its headers is missing, empty or there twice", async () => {
    const names = Object.keys(signed);
    const without = (name: string) =>
      refusalOf(
        verifier(secret),
        deliveryOf(body, Object.fromEntries(Object.entries(signed).filter(([key]) => key !== name))),
      );
    const twice = (name: string) => refusal({ [name]: [signed[name]!, signed[name]!] });
    expect(await notRefused(names, without)).toEqual([]);
    expect(await notRefused(names, (name) => refusal({ [name]: "" }))).toEqual([]);
    expect(await notRefused(names, twice, "HEADER_REPEATED")).toEqual([]);
  });

  test("should refuse an empty secret when it is made", () => {
    const unset = undefined as unknown as string;
    for (const empty of ["", " ", unset, null, 0, [], [""], [secret, ""], [secret, unset]]) {
      expect(() => verifier(empty as string)).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
    }
  });

  test("should not quote a secret in any error", async () => {
    const messages: string[] = [];
    for (const forged of ["", "zz", value.slice(1)]) {
      await Promise.resolve(deliveryOf(body, { ...signed, [header]: forged }))
        .then((delivery) => verifier(secret).verify(delivery, NOW))
        .catch((error: unknown) => messages.push(String(error)));
    }
    expect(messages).toHaveLength(3);
    for (const message of messages) expect(message).not.toContain(secret);
  });

  test.runIf(signsBody)("should tell apart bodies that look alike as text", async () => {
    const bodies = [
      bytes(0xff),
      bytes(0xfe),
      bytes(0xef, 0xbf, 0xbd), // what both decode to
      bytes(0xef, 0xbb, 0xbf, 0x7b, 0x7d), // {} behind a byte order mark
      bytes(0x7b, 0x7d),
      Buffer.from("{}\n"),
      Buffer.from("{}\r\n"),
      Buffer.from('{"a":1}'),
      Buffer.from('{ "a": 1 }'),
      bytes(0xc3, 0xa9), // é composed
      bytes(0x65, 0xcc, 0x81), // and decomposed
      bytes(),
    ];
    for (const genuine of bodies) {
      const headers = sign(genuine, secret, NOW);
      for (const claimed of bodies) {
        const expected = claimed === genuine ? undefined : "SIGNATURE_INVALID";
        expect(await refusalOf(verifier(secret), deliveryOf(claimed, headers))).toBe(expected);
      }
    }
  });

  test.runIf(time)("should refuse a time that is not a plain integer", async () => {
    const { header: name, unitMs } = time!;
    const at = NOW / unitMs;
    const odd = [
      "NaN",
      "1e9",
      "-1",
      "0x10",
      `${at}abc`,
      ` ${at}`,
      `+${at}`,
      `0${at}`,
      `${at}.0`,
      "Infinity",
      "",
      "²",
    ];
    expect(await notRefused(odd, (text) => refusal({ [name]: text }))).toEqual([]);
  });

  test.runIf(time ?? header === "x-ghost-signature")("should bound a signed time on both sides", async () => {
    const off = async (byMs: number) => refusalOf(verifier(secret), deliveryOf(body, signed), NOW + byMs);
    expect(await off(300_000)).toBeUndefined();
    expect(await off(-300_000)).toBeUndefined();
    expect(await off(300_001)).toBe("SIGNATURE_INVALID");
    expect(await off(-300_001)).toBe("SIGNATURE_INVALID");
    expect(await off(Number.NaN)).toBe("SIGNATURE_INVALID");
  });
});
