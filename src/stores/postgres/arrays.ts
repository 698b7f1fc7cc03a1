/**
 * Columns as PostgreSQL's array literals. The driver writes arrays too, but looks at each element as if it could be
 * anything: of what a claim costs this process, that was the largest part.
 *
 * @module
 */

type Value<T> = T | null | undefined;

export function numbers<T>(items: readonly T[], of: (item: T) => Value<number>): string {
  return literal(items, (item) => {
    const value = of(item);
    return value === null || value === undefined ? "NULL" : String(value);
  });
}

export function booleans<T>(items: readonly T[], of: (item: T) => boolean): string {
  return literal(items, (item) => (of(item) ? "t" : "f"));
}

export function texts<T>(items: readonly T[], of: (item: T) => Value<string>): string {
  return literal(items, (item) => {
    const value = of(item);
    return value === null || value === undefined ? "NULL" : quoted(value);
  });
}

function literal<T>(items: readonly T[], element: (item: T) => string): string {
  let written = "";
  for (const item of items) written += written === "" ? element(item) : `,${element(item)}`;
  return `{${written}}`;
}

const SPECIAL = /["\\]/;
const ALL_SPECIAL = /["\\]/g;

function quoted(text: string): string {
  return `"${SPECIAL.test(text) ? text.replace(ALL_SPECIAL, "\\$&") : text}"`;
}
