import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeHints, type MergedHint, NO_HINT } from "../../src/core/hint.ts";
import { versionOrder } from "../../src/core/version.ts";

const hint = (kind: MergedHint["hint"], version: string | null = null): MergedHint => ({
  hint: kind,
  version,
  order: versionOrder(version),
});

const merged = (...hints: MergedHint[]) => hints.reduce(mergeHints, NO_HINT);

describe("what the events of an object announce together", () => {
  test("should be the hint of the highest version, in whatever order they came", () => {
    const hints = [hint("upsert", "n:1"), hint("delete", "n:3"), hint("upsert", "n:2")];
    fc.assert(
      fc.property(fc.shuffledSubarray(hints, { minLength: 3 }), (order) => {
        expect(merged(...order)).toEqual(hint("delete", "n:3"));
      }),
    );
  });

  test("should be the latest where nothing orders them", () => {
    expect(merged(hint("upsert"), hint("delete"))).toEqual(hint("delete"));
    expect(merged(hint("upsert", "s:a"), hint("delete", "s:b"))).toEqual(hint("delete", "s:b"));
    expect(merged(hint("upsert", "n:5"), hint("delete", "s:2024-01-01T00:00:00Z")).version).toBe(
      "s:2024-01-01T00:00:00Z",
    );
    expect(merged(hint("upsert", "n:5"), hint("delete", "n:5"))).toEqual(hint("delete", "n:5"));
  });

  test("should keep a version that a later event does not mention", () => {
    expect(merged(hint("upsert", "n:5"), hint("delete"))).toEqual({ ...hint("delete", "n:5") });
  });

  test("should not lose anything to an event that says nothing", () => {
    expect(merged(hint("upsert", "n:5"), NO_HINT)).toEqual(hint("upsert", "n:5"));
    expect(merged(NO_HINT, hint("upsert", "n:5"))).toEqual(hint("upsert", "n:5"));
    expect(merged(NO_HINT)).toEqual(NO_HINT);
  });
});
