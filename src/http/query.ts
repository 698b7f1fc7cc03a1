/**
 * Query strings.
 *
 * @module
 */

import type { Query, QueryValue } from "../core/api.ts";
import { invalidOption } from "../core/errors.ts";

/**
 * Adds a query to the one that a URL already has; a name that is in both has the new value. `undefined` and `null` are
 * left out. The values of an array are joined with commas (as `{?ids}` in RFC 6570 §3.2.8), and an empty array stays as
 * an empty value: leaving it out would ask for everything instead of for nothing.
 * @param search as `URL.search`: empty, or with its question mark
 * @throws TrueupError `OPTION_INVALID` for a value that has no text: an invalid Date, NaN, an object
 */
export function appendQuery(search: string, query: Query | undefined): string {
  if (query === undefined) return search;
  const given = Object.entries(query).flatMap(([name, value]) => {
    const text = queryText(name, value);
    return text === undefined ? [] : [{ name, pair: `${encode(name, name)}=${text}` }];
  });
  const names = new Set(given.map(({ name }) => name));
  const kept = search
    .slice(1)
    .split("&")
    .filter((pair) => pair !== "" && !names.has(nameOf(pair)));
  const pairs = [...kept, ...given.map(({ pair }) => pair)];
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}

function queryText(name: string, value: QueryValue | readonly QueryValue[]): string | undefined {
  if (value === undefined || value === null) return undefined;
  const values: readonly QueryValue[] = Array.isArray(value)
    ? (value as readonly QueryValue[])
    : [value as QueryValue];
  return values
    .filter((part) => part !== undefined && part !== null)
    .map((part) => encode(valueText(name, part), name))
    .join(",");
}

function valueText(name: string, value: Exclude<QueryValue, null | undefined>): string {
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw invalidOption(`query "${name}" is an invalid Date`);
    return value.toISOString();
  }
  if (typeof value === "object" || typeof value === "function" || typeof value === "symbol") {
    throw invalidOption(`query "${name}" must be a string, number, boolean, bigint or Date`);
  }
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw invalidOption(`query "${name}" is ${String(value)}`);
  }
  return String(value);
}

function encode(text: string, name: string): string {
  if (!text.isWellFormed()) throw invalidOption(`query ${JSON.stringify(name)} is not valid Unicode`);
  return encodeURIComponent(text);
}

function nameOf(pair: string): string {
  return new URLSearchParams(pair).keys().next().value ?? "";
}
