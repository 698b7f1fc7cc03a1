import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TrueupError } from "../../../src/core/errors.ts";
import { parseBody } from "../../../src/sources/webhook/body.ts";

const form = "application/x-www-form-urlencoded";
const invalid: unknown = expect.objectContaining({ code: "BODY_INVALID" });
const parse = (body: string | Uint8Array, type?: string) =>
  parseBody(typeof body === "string" ? new TextEncoder().encode(body) : body, type);

describe("a JSON body", () => {
  test.each([
    undefined,
    "application/json",
    "application/vnd.crm+json; charset=utf-8",
    "text/plain",
    "",
    "nonsense",
  ])("should be parsed under the type %j", (type) => {
    expect(parse('{"a":["Zoë",1,null]}', type)).toEqual({ a: ["Zoë", 1, null] });
  });

  test("should be parsed behind a byte order mark, but not behind two", () => {
    expect(parse("\uFEFF{}")).toEqual({});
    expect(() => parse("\uFEFF\uFEFF{}")).toThrow(invalid);
  });

  test.each<[string, string | Uint8Array]>([
    ["nothing", ""],
    ["a mark alone", "\uFEFF"],
    ["half an object", '{"a":'],
    ["two values", "{}{}"],
    ["bytes that are not UTF-8", Uint8Array.of(0x22, 0xff, 0x22)],
    ["half a character", Uint8Array.of(0x22, 0xc3, 0x22)],
    ["a surrogate as bytes", Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ["UTF-16", new Uint8Array(Buffer.from("{}", "utf16le"))],
    ["__proto__ as a key", '{"__proto__":{"admin":true}}'],
    ["__proto__ deep down", '[{"a":{"b":1 , "__proto__" : 1}}]'],
    ["__proto__ escaped", String.raw`{"\u005f_pr\u006Fto_\u005F":1}`],
  ])("should be refused for %s", (_, body) => {
    expect(() => parse(body)).toThrow(invalid);
  });

  test.each([
    String.raw`{"a":"__proto__"}`,
    String.raw`{"a":"\"__proto__\":1"}`,
    String.raw`{"a":"{\"__proto__\":1}"}`,
    String.raw`{"x__proto__":1}`,
    String.raw`{"__proto":"é \u005f"}`,
    String.raw`["__proto__"]`,
  ])("should be left alone for %s", (text) => {
    expect(parse(text)).toEqual(JSON.parse(text));
  });

  test("should find a key __proto__ exactly where there is one", () => {
    const key = fc.constantFrom("__proto__", "a", '"__proto__":', "\\", "{", "_");
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 3 },
        key,
        fc.integer(),
        fc.array(tie("any")),
        fc.array(fc.tuple(key, tie("any"))),
      ),
    })).any;
    const write = (node: unknown): { text: string; proto: boolean } => {
      if (!Array.isArray(node)) return { text: JSON.stringify(node), proto: false };
      const pairs =
        node.length > 0 &&
        node.every((each) => Array.isArray(each) && each.length === 2 && typeof each[0] === "string");
      const parts = node.map((each: unknown) => write(pairs ? (each as unknown[])[1] : each));
      const keys = pairs ? node.map((each) => (each as [string])[0]) : [];
      const texts = parts.map(({ text }, at) => (pairs ? `${JSON.stringify(keys[at])} : ${text}` : text));
      return {
        text: pairs ? `{ ${texts.join(" , ")} }` : `[${texts.join()}]`,
        proto: keys.includes("__proto__") || parts.some(({ proto }) => proto),
      };
    };
    fc.assert(
      fc.property(value, (node) => {
        const { text, proto } = write(node);
        if (proto) expect(() => parse(text)).toThrow(invalid);
        else expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  test("should not be quoted in the error, nor kept as its cause", () => {
    let error: unknown;
    try {
      parse('{"token":"hunter2",}');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TrueupError);
    expect(JSON.stringify([String(error), (error as Error).stack, (error as Error).cause])).not.toContain(
      "hunter2",
    );
  });
});

describe("a form", () => {
  test("should be an object of strings", () => {
    expect(parse("a=1&b=x+y%26z&c=&d&%C3%A9=%E2%82%AC&&", form)).toEqual({
      a: "1",
      b: "x y&z",
      c: "",
      d: "",
      é: "€",
    });
    expect(parse("a=b=c", `${form}; charset=UTF-8`)).toEqual({ a: "b=c" });
    expect(parse("a=1", "Application/X-WWW-Form-URLEncoded")).toEqual({ a: "1" });
    expect(() => parse("a=1", `${form}-not`)).toThrow(invalid);
  });

  test.each([
    ["nothing", ""],
    ["a field twice", "a=1&b=2&a=1"],
    ["a field twice, once escaped", "a=1&%61=2"],
    ["__proto__", "__proto__=1"],
    ["__proto__ escaped", "%5f_proto__=1"],
    ["half an escape", "a=%4"],
    ["an escape that is none", "a=%zz"],
    ["escaped bytes that are not UTF-8", "a=%ff"],
  ])("should be refused for %s", (_, body) => {
    expect(() => parse(body, form)).toThrow(invalid);
  });

  test("should not take a field for what objects inherit", () => {
    expect(parse("toString=1&constructor=2", form)).toEqual({ toString: "1", constructor: "2" });
  });

  test("should read back what URLSearchParams writes", () => {
    const fields = fc.dictionary(
      fc.string({ unit: "grapheme", minLength: 1 }),
      fc.string({ unit: "grapheme" }),
      { minKeys: 1 },
    );
    fc.assert(
      fc.property(fields, (record) => {
        fc.pre(!Object.hasOwn(record, "__proto__"));
        expect(parse(new URLSearchParams(record).toString(), form)).toEqual({ ...record });
      }),
    );
  });
});

describe("any body", () => {
  test("should be parsed or refused with BODY_INVALID", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom(form, undefined), (bytes, type) => {
        try {
          parse(bytes, type);
        } catch (error) {
          expect(error).toEqual(invalid);
        }
      }),
    );
  });
});
