import assert from "node:assert/strict";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { lazyProperty } from "../../src/core/lazy-property.ts";

/** An object with a lazy property, the same as a plain one, and how often the property was made. */
function pair() {
  const made: string[] = [];
  const withTags = lazyProperty("tags", (source: string, { id }: { id: number }) => {
    made.push(`${id}: ${source}`);
    return source.split(" ");
  });
  return { lazy: withTags({ id: 1, name: "a" }, "x y"), made, plain: { id: 1, name: "a", tags: ["x", "y"] } };
}

describe("a lazy property", () => {
  test("should be made when it is first read, once, and be the same value from then on", () => {
    const { lazy, made } = pair();
    expect(made).toEqual([]);
    expect(lazy.tags).toEqual(["x", "y"]);
    expect(lazy.tags).toBe(lazy.tags);
    expect(made).toEqual(["1: x y"]);
  });

  test.each<[string, (object: { tags: readonly string[] }) => unknown]>([
    ["its keys", (object) => Object.keys(object)],
    ["its enumerable keys of any kind", (object) => Reflect.ownKeys({ ...object })],
    ["JSON", (object) => JSON.stringify(object)],
    ["a copy", (object) => ({ ...object })],
    ["a clone", (object) => structuredClone(object)],
    ["its entries", (object) => Object.entries(object)],
    ["console.log", (object) => inspect(object)],
    ["console.log of what holds it", (object) => inspect({ deep: { object } }, { depth: 4 })],
    ["console.log of what is too deep", (object) => inspect({ a: { b: { object } } }, { depth: 1 })],
    ["its prototype", (object) => Object.getPrototypeOf(object) as unknown],
  ])("should not be told from a plain one by %s", (_, look) => {
    const { lazy, plain } = pair();
    assert.deepStrictEqual(look(lazy), look(plain));
    assert.deepStrictEqual(look(lazy), look(plain), "and once it was made");
  });

  test("should equal a plain one, both ways, and differ where that differs", () => {
    const { lazy, plain } = pair();
    assert.deepStrictEqual(lazy, plain);
    assert.deepStrictEqual(plain, pair().lazy);
    expect(pair().lazy).toStrictEqual(plain);
    assert.notDeepStrictEqual(pair().lazy, { ...plain, tags: ["x"] });
  });

  test("should take a value as a plain one does, and refuse it where the object is frozen", () => {
    const { lazy, made } = pair();
    Object.assign(lazy, { tags: ["z"] });
    expect(lazy.tags).toEqual(["z"]);
    expect(made).toEqual([]);
    const frozen = Object.freeze(pair().lazy);
    expect(frozen.tags).toEqual(["x", "y"]);
    expect(() => Object.assign(frozen, { tags: [] })).toThrow(TypeError);
    expect(frozen.tags).toEqual(["x", "y"]);
  });

  test("should throw what making it throws, and be made when that works", () => {
    let broken = true;
    const withTag = lazyProperty("tag", (tag: string) => {
      if (broken) throw new Error("not yet");
      return tag;
    });
    const object = withTag({}, "x");
    expect(() => object.tag).toThrow("not yet");
    expect(() => JSON.stringify(object)).toThrow("not yet");
    broken = false;
    expect(object.tag).toBe("x");
  });
});
