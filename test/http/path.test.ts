import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { TrueupError } from "../../src/core/errors.ts";
import { parseBase, redirectTarget, resolveTarget, urlPath } from "../../src/http/path.ts";

const base = parseBase("https://crm.example/v1/", "crm");
const href = (path: string, query?: Parameters<typeof resolveTarget>[2]) =>
  resolveTarget(base, path, query).href;

const codeOf = (run: () => unknown): string | undefined => {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as TrueupError).code;
  }
};

describe("a path", () => {
  test.each([
    ["contacts/1", "https://crm.example/v1/contacts/1"],
    ["/contacts/1", "https://crm.example/v1/contacts/1"],
    ["contacts/", "https://crm.example/v1/contacts/"],
    ["", "https://crm.example/v1/"],
    ["/", "https://crm.example/v1/"],
    ["people:batchGet", "https://crm.example/v1/people:batchGet"],
    ["https:contacts", "https://crm.example/v1/https:contacts"],
    ["projects/group%2Fname", "https://crm.example/v1/projects/group%2Fname"],
    ["contacts/a b ", "https://crm.example/v1/contacts/a%20b%20"],
    ["contacts/jürgen", "https://crm.example/v1/contacts/j%C3%BCrgen"],
    ["contacts/...", "https://crm.example/v1/contacts/..."],
    ["contacts/a..b", "https://crm.example/v1/contacts/a..b"],
    ["https://crm.example/v1/contacts?page=2&a=%20", "https://crm.example/v1/contacts?page=2&a=%20"],
    ["https://crm.example:443/v1/contacts", "https://crm.example/v1/contacts"],
    ["HTTPS://CRM.example/v1/contacts", "https://crm.example/v1/contacts"],
  ])("%j should be %s", (path, expected) => {
    expect(href(path)).toBe(expected);
  });

  test("should stay what an endpoint without a slash is called", () => {
    const graphql = parseBase("https://crm.example/graphql", "crm");
    expect(resolveTarget(graphql, "").href).toBe("https://crm.example/graphql");
    expect(resolveTarget(graphql, "x").href).toBe("https://crm.example/graphql/x");
    expect(codeOf(() => resolveTarget(graphql, "https://crm.example/graphqlx"))).toBe("PATH_REFUSED");
  });

  test.each([
    "../admin",
    "contacts/../../admin",
    "contacts/..",
    "contacts/./1",
    "..",
    "%2e%2e/admin",
    "contacts/%2E./x",
    "contacts/.%2e",
    "..%2fadmin",
    "contacts/x%2f..%2f..%2fadmin",
    "contacts/%252e%252e%252fadmin",
    "contacts/%25252525252e%25252525252e/x",
    "contacts/..;/admin",
    "contacts/..%3Bx/admin",
    "contacts\\..\\admin",
    "contacts/%5c..%5cadmin",
    "//evil.example/x",
    "///evil.example/x",
    "/\\evil.example",
    "contacts//1",
    "contacts/a?role=admin",
    "contacts/a#b",
    "contacts/100%",
    "contacts/a\nb",
    "contacts/a\u0000",
    "contacts/\t1",
    "contacts/\ud800",
    "http://crm.example/v1/contacts",
    "https://evil.example/v1/contacts",
    "https://crm.example:8443/v1/contacts",
    "https://crm.example.evil.example/v1/contacts",
    "https://crm.example@evil.example/v1/contacts",
    "https://evil.example@crm.example/v1/contacts",
    "https://user:pass@crm.example/v1/contacts",
    "https://crm.example/v2/contacts",
    "https://crm.example/v1x/contacts",
    "https://crm.example/v1/../v2",
    "https://crm.example/v1/%2e%2e/v2",
    "https://crm.example/v1/contacts#x",
    "https://crm.example\\@evil.example/v1/",
    "https:///crm.example/v1/contacts",
    "https://crm.example/v1/a\tb",
    "ftp://crm.example/v1/contacts",
    "file:///etc/passwd",
  ])("%j should be refused", (path) => {
    expect(codeOf(() => href(path))).toBe("PATH_REFUSED");
  });

  test("should show no query when it is refused", () => {
    expect(() => href("https://evil.example/x?api_key=canary")).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining("canary") as string }),
    );
  });

  const hostile = fc.oneof(
    fc.string({ unit: "binary" }),
    fc
      .array(
        fc.constantFrom(
          "..",
          ".",
          "/",
          "\\",
          "%2e",
          "%2f",
          "%5c",
          "%25",
          "@",
          "?",
          "#",
          ":",
          "//",
          ";",
          "a",
          " ",
          "\t",
        ),
      )
      .map((parts) => parts.join("")),
  );

  test("with any id in it should stay below the base and gain no query, or be refused", () => {
    fc.assert(
      fc.property(hostile, fc.constantFrom("", "contacts/", "/contacts/"), (id, prefix) => {
        let url: URL;
        try {
          url = new URL(href(`${prefix}${id}`));
        } catch (error) {
          expect((error as TrueupError).code).toBe("PATH_REFUSED");
          return;
        }
        expect(url.origin).toBe("https://crm.example");
        expect(url.pathname.startsWith("/v1/")).toBe(true);
        expect(/^[a-z]+:\/\//i.test(prefix + id) ? "" : url.search + url.hash).toBe("");
        expect(decodeURIComponent(url.pathname).split(/[/\\]/)).not.toContain("..");
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("urlPath", () => {
  test("should encode what it is given and nothing else", () => {
    expect(urlPath`contacts/${"a/b?c#d e"}/notes/${7}/${12345678901234567890n}`).toBe(
      "contacts/a%2Fb%3Fc%23d%20e/notes/7/12345678901234567890",
    );
  });

  test.each(["", ".", "..", "\ud800", null, undefined, {}])("should refuse %j", (value) => {
    expect(codeOf(() => urlPath`contacts/${value as string}`)).toBe("PATH_REFUSED");
  });

  test("should give back any id when it is decoded, as one segment", () => {
    const ids = fc.string({ unit: "grapheme", minLength: 1 }).filter((id) => id.isWellFormed());
    fc.assert(
      fc.property(ids, (id) => {
        let path: string;
        try {
          path = resolveTarget(base, urlPath`contacts/${id}`).wirePath;
        } catch (error) {
          // What some server on the way could decode to a dot segment is refused even so.
          expect((error as TrueupError).code).toBe("PATH_REFUSED");
          expect(id).toMatch(/\./);
          return;
        }
        expect(path.split("/")).toHaveLength(4);
        expect(decodeURIComponent(path.split("/").at(-1) ?? "")).toBe(id);
      }),
    );
  });
});

describe("a query", () => {
  test("should be written as documented", () => {
    const query = {
      ids: ["a,b", 2, null, undefined],
      none: [],
      since: new Date(Date.UTC(2026, 0, 2)),
      big: 12345678901234567890n,
      yes: true,
      skipped: undefined,
      also: null,
      "a b": "c&d=e+",
    };
    expect(href("contacts", query)).toBe(
      "https://crm.example/v1/contacts?ids=a%2Cb,2&none=&since=2026-01-02T00%3A00%3A00.000Z" +
        "&big=12345678901234567890&yes=true&a%20b=c%26d%3De%2B",
    );
  });

  test("should replace the same name in a link and leave the rest of it as it was", () => {
    expect(href("https://crm.example/v1/contacts?cursor=a%2Bb%20c&limit=5", { limit: 9 })).toBe(
      "https://crm.example/v1/contacts?cursor=a%2Bb%20c&limit=9",
    );
  });

  test.each([new Date(Number.NaN), Number.NaN, Number.POSITIVE_INFINITY, { a: 1 }, "\ud800"])(
    "should refuse %j",
    (value) => {
      expect(codeOf(() => href("contacts", { value: value as string }))).toBe("OPTION_INVALID");
    },
  );
});

describe("a base URL", () => {
  test.each([
    "crm.example",
    "/v1",
    "ftp://crm.example/",
    "https://user@crm.example/",
    "https://crm.example/?key=1",
    "https://crm.example/#x",
  ])("%j should be refused", (url) => {
    expect(codeOf(() => parseBase(url, "crm"))).toBe("OPTION_INVALID");
  });
});

describe("a redirect", () => {
  const from = resolveTarget(base, "contacts/1");
  test.each([
    ["/v1/people/1", "https://crm.example/v1/people/1"],
    ["2", "https://crm.example/v1/contacts/2"],
    ["../people/1?x=1#y", "https://crm.example/v1/people/1?x=1"],
    ["https://crm.example/v1/", "https://crm.example/v1/"],
  ])("to %s should lead to %s", (location, expected) => {
    expect(redirectTarget(base, from, location)?.href).toBe(expected);
  });

  test.each([
    "https://evil.example/v1/contacts/1",
    "http://crm.example/v1/contacts/1",
    "//evil.example/v1/",
    "/v2/contacts",
    "../../admin",
    "/v1/..%2fadmin",
    "https://a@crm.example/v1/",
    "http://[",
  ])("to %s should lead nowhere", (location) => {
    expect(redirectTarget(base, from, location)).toBeUndefined();
  });
});

describe("the message of a refusal (I12)", () => {
  const secret = parseBase("https://crm.example/botS3CR3T/", "crm");

  test.each([
    "http://crm.example/botS3CR3T/contacts?page=2",
    "https://crm.example:444/botS3CR3T/contacts",
    "https://crm.example/botS3CR3T",
    "https://crm.example/botS3CR3T/../x",
    "https://crm.example/botS3CR3T/x#y",
    "https://crm.example/botS3CR3T/x%",
    "https://crm.example/botS3CR3T/a\\b",
    "https://crm.example/botS3CR3T/a\tb",
    "https://user:S3CR3T@elsewhere.example/contacts",
    "https://S3CR3T:port/contacts",
    "contacts?token=S3CR3T",
  ])("should not repeat the secret of %j", (path) => {
    let message = "";
    try {
      resolveTarget(secret, path);
    } catch (error) {
      message = (error as TrueupError).message;
    }
    expect(message).toMatch(/is refused/);
    expect(message).not.toContain("S3CR3T");
  });
});
