/**
 * Versions: how a provider says which of two states of an object is the later one.
 *
 * Providers give numbers, instants, counters or opaque tags. The store keeps a version as text that remembers its
 * type; comparing is done here, and nowhere else.
 *
 * @module
 */

import { invalidOption } from "./errors.ts";

/** What `versionOf` and events may give. Two versions of different kinds are never ordered. */
export type Version = string | number | bigint | Date;

/** A version as the store keeps it: a letter for the type, a colon, the value. Any store can keep it. */
export type EncodedVersion = string;

/** A user's own order: negative when `a` is older, positive when newer, 0 when equal, undefined when unknown. */
export type CompareVersions = (a: Version, b: Version) => number | undefined;

/** A version is kept with every object. Longer texts are contents rather than versions. */
const MAX_VERSION_LENGTH = 1_024;

export function encodeVersion(version: Version | null | undefined): EncodedVersion | null {
  if (version === null || version === undefined) return null;
  switch (typeof version) {
    case "string":
    case "bigint": {
      const text = version.toString();
      if (text.length > MAX_VERSION_LENGTH) {
        throw invalidOption(`a version must have at most ${MAX_VERSION_LENGTH} characters`);
      }
      if (typeof version === "bigint") return `b:${text}`;
      return isStorable(text) ? `s:${text}` : `u:${JSON.stringify(text)}`;
    }
    case "number":
      if (!Number.isFinite(version)) throw invalidOption(`a version must be finite, not ${version}`);
      return `n:${version}`;
    default:
      if (!(version instanceof Date) || Number.isNaN(version.getTime())) {
        throw invalidOption("a version must be a string, a number, a bigint or a valid Date");
      }
      return `d:${version.toISOString()}`;
  }
}

/**
 * Whether every store can keep a text as it is. PostgreSQL takes no NUL, no encoding has lone surrogates, and JSON from an
 * API may bring either: one such object must not keep a store from settling the others.
 */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

/** Gives the version back as the type it had. */
export function decodeVersion(encoded: EncodedVersion | null): Version | undefined {
  if (encoded === null) return undefined;
  const value = encoded.slice(2);
  switch (encoded[0]) {
    case "n":
      return Number(value);
    case "b":
      return BigInt(value);
    case "d":
      return new Date(value);
    case "u":
      return JSON.parse(value) as string;
    default:
      return value;
  }
}

/**
 * Orders two versions: negative when `a` is older than `b`, 0 when equal, positive when newer, `undefined` when
 * nothing orders them. Strings compare as instants when both are RFC 3339 (to the last digit of the fraction), as
 * integers when both are digits, otherwise only for equality.
 */
export function compareEncoded(
  a: EncodedVersion | null,
  b: EncodedVersion | null,
  custom?: CompareVersions,
): number | undefined {
  if (a === null || b === null) return undefined;
  if (a === b) return 0;
  if (custom) {
    const order = custom(decodeVersion(a) as Version, decodeVersion(b) as Version);
    return order === undefined || Number.isNaN(order) ? undefined : order;
  }
  const left = versionOrder(a);
  const right = versionOrder(b);
  if (left === null || right === null || left[0] !== right[0]) return undefined;
  return left < right ? -1 : left > right ? 1 : 0;
}

/**
 * A text that sorts (byte by byte) as the version does among versions of its kind, the first letter being the kind;
 * `null` for a version that has no order. Stores use it to keep the highest version of an object's events.
 */
export function versionOrder(encoded: EncodedVersion | null): string | null {
  if (encoded === null) return null;
  const value = encoded.slice(2);
  switch (encoded[0]) {
    case "b":
      return INTEGER.test(value) ? integerOrder(value) : null;
    case "n":
      return Number.isInteger(Number(value))
        ? integerOrder(BigInt(Number(value)).toString())
        : fractionOrder(Number(value));
    default:
      return INTEGER.test(value) ? integerOrder(value) : instantOrder(value);
  }
}

/** Few enough for the three digits in which {@link integerOrder} writes how many there are. */
const INTEGER = /^-?\d{1,999}$/;

// Digits sort by length, then by value; a negative number by the complement of both.
function integerOrder(text: string): string {
  const negative = text.startsWith("-");
  const digits = text.slice(negative ? 1 : 0).replace(/^0+(?=\d)/, "");
  if (digits === "0") return "i1000";
  const length = digits.length.toString().padStart(3, "0");
  if (!negative) return `i1${length}${digits}`;
  return `i0${complement(length)}${complement(digits)}~`;
}

// A number with a fraction sorts after the integer below it: the integer's text is a prefix of its own.
function fractionOrder(value: number): string | null {
  const floor = Math.floor(value);
  if (value < 0 || !Number.isSafeInteger(floor)) return null;
  const fraction = value.toString().split(".")[1];
  return fraction === undefined || /e/i.test(fraction)
    ? null
    : `${integerOrder(floor.toString())}.${fraction}`;
}

function complement(digits: string): string {
  return digits.replace(/\d/g, (digit) => String(9 - Number(digit)));
}

/** RFC 3339 section 5.6, with up to 30 fraction digits. */
const RFC_3339 =
  /^(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):\d\d):(\d\d)(?:\.(\d{1,30}))?([Zz]|[+-]\d\d:\d\d)$/;

/** Seconds from the last day before the year 0, which offsets can reach, to the epoch: no instant is negative. */
const FROM_YEAR_0 = 62_167_305_600;

function instantOrder(text: string): string | null {
  const match = RFC_3339.exec(text);
  if (match === null) return null;
  const [, date = "", minutes, seconds, fraction = "", zone = "Z"] = match;
  // `Date` takes the 30th of February for a day of March.
  if (new Date(date).getUTCDate() !== Number(date.slice(8))) return null;
  // A leap second belongs to the second before it as far as order goes, behind all fractions of that one.
  const leap = seconds === "60";
  const epochMs = Date.parse(`${date}T${minutes}:${leap ? "59" : seconds}${zone.toUpperCase()}`);
  if (Number.isNaN(epochMs)) return null;
  const whole = (Math.floor(epochMs / 1000) + FROM_YEAR_0).toString().padStart(12, "0");
  const digits = `${leap ? "~" : ""}${fraction.replace(/0+$/, "")}`;
  return `t${whole}${digits === "" ? "" : `.${digits}`}`;
}
