import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TrueupError } from "../../src/core/errors.ts";
import { serverDate } from "../../src/http/headers.ts";
import { parseJson } from "../../src/http/json.ts";
import { nextTarget, parseLinkHeader } from "../../src/http/link-header.ts";
import { parseBase, redirectTarget, resolveTarget, urlPath } from "../../src/http/path.ts";
import { isExhausted, parseMoment, parseRateLimit, pauseOf } from "../../src/http/rate-headers.ts";
import { decode } from "../../src/http/response-body.ts";
import { hostileBytes, hostileText, LONG_UNITS, longOf } from "../hostile.ts";

const base = parseBase("https://crm.example/v1/", "crm");
const from = resolveTarget(base, "contacts");

/** What a call throws, which must be of trueup's own. */
function refusal(call: () => unknown): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(TrueupError);
    return (error as TrueupError).code;
  }
}

describe("an answer's body", () => {
  const type = fc.oneof(
    fc.constantFrom(
      "application/json",
      "application/problem+json; charset=latin1",
      "text/plain; charset=utf-16le",
      'text/html; charset="no-such"',
      "text/plain;charset=;charset=",
      "",
    ),
    hostileText,
  );

  test("should be decoded, or refused with RESPONSE_INVALID", () => {
    fc.assert(
      fc.property(hostileBytes, fc.option(type), (bytes, contentType) => {
        const headers = contentType === null ? {} : { "content-type": contentType };
        expect([undefined, "RESPONSE_INVALID"]).toContain(refusal(() => decode(Buffer.from(bytes), headers)));
      }),
      { numRuns: 2_000 },
    );
  });

  test("should keep the digits of every integer, and be what JSON.parse makes of it otherwise", () => {
    const json = fc.jsonValue({ maxDepth: 5 });
    fc.assert(
      fc.property(json, fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n }), (value, integer) => {
        const text = JSON.stringify(value);
        expect(JSON.stringify(parseJson(text), asNumbers)).toBe(text);
        const { id } = parseJson(`{"value":${text},"id":${integer}}`) as { id: number | bigint };
        expect(String(id)).toBe(String(integer));
      }),
      { numRuns: 1_000 },
    );
    function asNumbers(_key: string, member: unknown): unknown {
      return typeof member === "bigint" ? Number(member) : member;
    }
    // The last of two keys counts, as everywhere; a bigint and its digits are told apart.
    expect(parseJson('{"id":9007199254740993,"id":9007199254740995}')).toEqual({ id: 9007199254740995n });
    expect(parseJson('{"__proto__":9007199254740993}')).not.toHaveProperty("toFixed");
  });
});

describe("a link or a redirect", () => {
  const link = fc.oneof(
    hostileText,
    fc
      .array(
        fc.constantFrom(
          "https://crm.example",
          "/v1/",
          "..",
          "//evil.example",
          "@",
          "?",
          "#",
          "a",
          "\\",
          "%2e",
          "%2f",
          "\t",
          ":8443",
          "&a=1",
        ),
      )
      .map((parts) => parts.join("")),
  );

  test("should stay below the base URL, with the credentials that go there, or be refused", () => {
    const below = (href: string) => {
      const url = new URL(href);
      expect(url.origin).toBe("https://crm.example");
      expect(url.pathname.startsWith("/v1/") || url.pathname === "/v1").toBe(true);
      expect([url.username, url.password, url.hash]).toEqual(["", "", ""]);
    };
    fc.assert(
      fc.property(link, (text) => {
        const redirected = redirectTarget(base, from, text);
        if (redirected !== undefined) below(redirected.href);
        const target = nextTarget(`<${text}>; rel=next`) ?? text;
        const code = refusal(() => below(resolveTarget(base, target).href));
        expect([undefined, "PATH_REFUSED"]).toContain(code);
      }),
      { numRuns: 3_000 },
    );
  });

  test("should add nothing but a query by its query, whatever that says", () => {
    fc.assert(
      fc.property(link, (text) => {
        const code = refusal(() => {
          const url = new URL(resolveTarget(base, "contacts", `?${text}`).href);
          expect([url.origin, url.pathname, url.hash]).toEqual(["https://crm.example", "/v1/contacts", ""]);
        });
        expect([undefined, "PATH_REFUSED"]).toContain(code);
      }),
      { numRuns: 2_000 },
    );
    // What the URL parser would drop without a word is refused instead.
    for (const query of ["page=2", "?a=1#b", "?a\tb=1", "?a=1\n", "?\ud800=1"])
      expect(refusal(() => resolveTarget(base, "contacts", query))).toBe("PATH_REFUSED");
    expect(resolveTarget(base, "contacts", "?a=%2B+é b").wirePath).toBe("/v1/contacts?a=%2B+%C3%A9%20b");
  });

  test("should hold an id as one segment, or refuse it", () => {
    fc.assert(
      fc.property(hostileText, (id) => {
        const code = refusal(() => {
          const { pathname, search } = new URL(resolveTarget(base, urlPath`contacts/${id}`).href);
          expect(pathname.split("/")).toHaveLength(4);
          expect(search).toBe("");
          expect(decodeURIComponent(pathname.split("/")[3] ?? "")).toBe(id);
        });
        expect([undefined, "PATH_REFUSED"]).toContain(code);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("time that grows with the length alone (I10)", () => {
  test.each(LONG_UNITS)("should be all that %j takes, many times over, in any header or body", (unit) => {
    const text = longOf(unit);
    for (const value of [
      text,
      `"${text}`,
      `<${text}>;rel="${text}"`,
      `"a";${text}`,
      `1${text}`,
      `Mon, ${text}`,
    ]) {
      expect(parseLinkHeader(value)).toBeInstanceOf(Array);
      expect(parseRateLimit(value)).toBeInstanceOf(Array);
      if (value.trim().length > 64) expect(parseMoment(value)).toBeUndefined();
      expect(typeof isExhausted({ "x-ratelimit-remaining": value, ratelimit: value })).toBe("boolean");
      expect(pauseOf({ "retry-after": value, date: value }, 0)).toBeLessThanOrEqual(3_600_000);
      serverDate({ date: value });
      refusal(() => resolveTarget(base, value));
      refusal(() => resolveTarget(base, `https://crm.example/v1/${value}`));
      refusal(() => resolveTarget(base, "contacts", `?${value}`));
      refusal(() => redirectTarget(base, from, value));
      refusal(() => urlPath`contacts/${value}`);
      refusal(() => decode(Buffer.from(value), { "content-type": `text/plain; ${value}` }));
      refusal(() => decode(Buffer.from(value), { "content-type": "application/json" }));
    }
  });
});
