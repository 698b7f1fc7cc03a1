import { describe, expect, test } from "vitest";
import { deletesAllowed, ShrinkGuard } from "../../src/core/shrink-guard.ts";
import { resourceOf, scope } from "./fakes.ts";

describe("how many deletions are let through (I7)", () => {
  test("should be 50, or a fifth of what is indexed, by default", () => {
    const resource = resourceOf();
    expect([0, 100, 250, 255, 1_000].map((indexed) => deletesAllowed(resource, indexed))).toEqual([
      50, 50, 50, 51, 200,
    ]);
  });

  test("should be what the resource says", () => {
    const strict = resourceOf({ shrinkGuard: { count: 0, share: 0 } });
    expect([0, 1_000_000].map((indexed) => deletesAllowed(strict, indexed))).toEqual([0, 0]);
    expect(deletesAllowed(resourceOf({ shrinkGuard: { share: 1 } }), 1_000)).toBe(1_000);
    expect(deletesAllowed(resourceOf({ shrinkGuard: false }), 0)).toBe(Infinity);
  });
});

describe("objects that are gone in a row", () => {
  test("should be counted until one is there", () => {
    const guard = new ShrinkGuard();
    expect([guard.gone(scope), guard.gone(scope), guard.gone(scope)]).toEqual([1, 2, 3]);
    guard.present(scope);
    expect(guard.gone(scope)).toBe(1);
  });

  test("should be counted for each scope by itself", () => {
    const guard = new ShrinkGuard();
    const others = [
      { ...scope, connection: "acme" },
      { ...scope, resource: "deal" },
      { ...scope, provider: "erp" },
    ];
    guard.gone(scope);
    for (const other of others) {
      expect(guard.gone(other)).toBe(1);
      guard.present(other);
    }
    expect(guard.gone(scope)).toBe(2);
  });
});
