import { isDeepStrictEqual } from "node:util";

export interface Difference {
  /** As in `issue Codertocat/Hello-World 7`. */
  readonly object: string;
  /** `missing`: the copy lacks it. `stale`: the copy has another state of it. `extra`: it exists in the copy alone. */
  readonly kind: "missing" | "stale" | "extra";
  /** For `stale`: the fields that differ. */
  readonly fields: readonly string[];
}

type Fields = Readonly<Record<string, unknown>>;

/** Holds a copy against the truth, both by the object's name. No difference: they are equal. */
export function compareCopy(
  truth: ReadonlyMap<string, Fields>,
  copy: ReadonlyMap<string, Fields>,
): Difference[] {
  const differences: Difference[] = [];
  for (const [object, wanted] of truth) {
    const found = copy.get(object);
    if (found === undefined) {
      differences.push({ object, kind: "missing", fields: [] });
    } else if (!isDeepStrictEqual(found, wanted)) {
      differences.push({ object, kind: "stale", fields: differingFields(wanted, found) });
    }
  }
  for (const object of copy.keys()) {
    if (!truth.has(object)) differences.push({ object, kind: "extra", fields: [] });
  }
  return differences;
}

function differingFields(a: Fields, b: Fields): string[] {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].filter((name) => !isDeepStrictEqual(a[name], b[name]));
}
