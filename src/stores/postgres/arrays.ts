/**
 * Columns as PostgreSQL's arrays. The driver writes arrays too, but looks at each element as if it could be anything: of
 * what a claim costs this process, that was the largest part.
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

const TEXT_OID = 25;
const HEAD_BYTES = 20;
const NULL_LENGTH = -1;

/**
 * Texts that are long or full of quotes, in the format that is not text: neither here nor at the server each character is
 * looked at.
 */
export function longTexts<T>(items: readonly T[], of: (item: T) => Value<string>): Buffer {
  const values = items.map(of);
  const lengths = values.map((value) => (typeof value === "string" ? Buffer.byteLength(value) : NULL_LENGTH));
  const bytes = Buffer.allocUnsafe(
    lengths.reduce((sum, length) => sum + 4 + Math.max(0, length), HEAD_BYTES),
  );
  const [dimensions, mayBeNull, lowerBound] = [1, 1, 1];
  let at = 0;
  for (const head of [dimensions, mayBeNull, TEXT_OID, items.length, lowerBound])
    at = bytes.writeInt32BE(head, at);
  for (const [i, value] of values.entries()) {
    at = bytes.writeInt32BE(lengths[i] as number, at);
    if (typeof value === "string") at += bytes.write(value, at);
  }
  return bytes;
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
