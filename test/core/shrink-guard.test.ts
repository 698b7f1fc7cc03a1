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

describe("objects that are gone and that nobody announced", () => {
  const resource = resourceOf({ shrinkGuard: { count: 3, share: 0.1 } });
  const askFor = (guard: ShrinkGuard, indexed: number, of = scope) =>
    guard.gone(resource, of, async () => indexed);

  /** How many in a row are let through before one is held. */
  async function letThrough(
    guard: ShrinkGuard,
    indexed: number,
    present: (nth: number) => boolean,
  ): Promise<number> {
    for (let nth = 1; nth <= 100; nth += 1) {
      if ((await askFor(guard, indexed)) !== undefined) return nth - 1;
      if (present(nth)) guard.present(scope);
    }
    return 100;
  }

  test("should be held when they are too many, and say of how many", async () => {
    const guard = new ShrinkGuard();
    for (let i = 0; i < 3; i += 1) expect(await askFor(guard, 10)).toBeUndefined();
    expect(await askFor(guard, 10)).toEqual({ gone: 4, indexed: 10, news: true });
  });

  test("should be measured by what there was, not by what they leave", async () => {
    const guard = new ShrinkGuard();
    let indexed = 1_000;
    let held = 0;
    for (let i = 0; i < 200; i += 1) {
      if ((await askFor(guard, indexed)) === undefined) indexed -= 1;
      else held += 1;
    }
    expect(held).toBe(200 - 99); // a tenth of the 997 that there were when it was first asked
  });

  test("should be believed where objects among them are still there", async () => {
    expect(await letThrough(new ShrinkGuard(), 10, (nth) => nth % 3 === 0)).toBe(100);
  });

  test("should not be believed for one in forty that is still there", async () => {
    expect(await letThrough(new ShrinkGuard(), 10, (nth) => nth % 40 === 0)).toBe(3);
  });

  test("should stay suspicious though one of them is there (I7)", async () => {
    const guard = new ShrinkGuard();
    for (let i = 0; i < 20; i += 1) await askFor(guard, 10);
    guard.present(scope);
    expect(await askFor(guard, 10)).toMatchObject({ gone: 18 });
  });

  test("should be counted for each scope by itself", async () => {
    const guard = new ShrinkGuard();
    for (let i = 0; i < 3; i += 1) await askFor(guard, 10);
    for (const other of [
      { ...scope, connection: "acme" },
      { ...scope, resource: "deal" },
      { ...scope, provider: "erp" },
    ]) {
      expect(await askFor(guard, 10, other)).toBeUndefined();
      guard.present(other);
    }
    expect(await askFor(guard, 10)).toMatchObject({ gone: 4 });
  });
});
