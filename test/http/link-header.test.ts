import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nextTarget, parseLinkHeader } from "../../src/http/link-header.ts";

describe("a Link header", () => {
  test.each([
    [
      '<https://a.example/x?page=2>; rel="next", <https://a.example/x?page=9>; rel="last"',
      "https://a.example/x?page=2",
    ],
    ['<https://a.example/x?page=1>; rel="prev", </x?page=3>; rel=next', "/x?page=3"],
    ["<x,y;z>; rel=next", "x,y;z"],
    ['<x>; title="a, \\"b\\"; rel=prev"; rel="NEXT last"', "x"],
    ["  <x>  ;  rel  =  next  ", "x"],
    ['<x>; rel="prev"; rel="next"', undefined],
    ['<x>; rel="next"; anchor="#other", <y>; rel="next"', "y"],
    ['broken, <y>; rel="next"', "y"],
    ['<x; rel="next"', undefined],
    ["<x>; next", undefined],
    ["<>; rel=next", ""],
    ["", undefined],
    [undefined, undefined],
  ])("%s should lead to %s", (value, expected) => {
    expect(nextTarget(value)).toBe(expected);
  });

  test("should give every link in order", () => {
    expect(parseLinkHeader("<a>; rel=x;;, <b>;rel='y', <c>").map(({ target }) => target)).toEqual([
      "a",
      "b",
      "c",
    ]);
  });

  test("should never throw, and never take long", () => {
    const parts = fc.array(
      fc.constantFrom("<", ">", ";", ",", "=", '"', "\\", " ", "rel", "next", "anchor", "\t", "é"),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary" }),
          parts.map((all) => all.join("")),
        ),
        (value) => {
          expect(Array.isArray(parseLinkHeader(value))).toBe(true);
        },
      ),
      { numRuns: 3_000 },
    );
    for (const unit of ["<", "<>", ";", ",", '"', '"\\', "<a>;rel=", "=", " "]) {
      expect(parseLinkHeader(unit.repeat(200_000)).length).toBeLessThanOrEqual(200_000);
    }
  });
});
