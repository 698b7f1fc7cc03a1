/**
 * JSON from an API, without silently wrong numbers.
 *
 * @module
 */

/** Sixteen digits are the fewest that can pass 2^53. */
const LONG = 16;
/** So many digits as a whole integer literal, outside of a fraction or exponent. Inside a string it is a false alarm at worst. */
const LONG_INTEGER = /(?:^|[[:,\s])-?\d{16,}(?![\d.eE])/;
/** Longer ones are no ids, and some hundred thousand digits take long to convert. */
const INTEGER = /^-?\d{1,1000}$/;

/**
 * `JSON.parse`, except that an integer beyond ±(2^53 − 1) becomes a bigint, where `JSON.parse` would round it to another
 * number: such integers are nearly always ids. A schema that expects a number refuses it, which is seen; a rounded id
 * is not.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  if (!hasLongDigits(text) || !LONG_INTEGER.test(text)) return JSON.parse(text);
  return (JSON.parse as ParseWithSource)(text, (_key, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && INTEGER.test(context?.source ?? "")
      ? BigInt(context?.source ?? "")
      : value,
  );
}

/**
 * Whether so many digits stand in a row. Every webhook's body is asked, so only one character in sixteen is looked at:
 * each such row covers one of them.
 */
function hasLongDigits(text: string): boolean {
  for (let at = LONG - 1; at < text.length; at += LONG) {
    if (!isDigit(text, at)) continue;
    let first = at;
    while (at - first < LONG && isDigit(text, first - 1)) first -= 1;
    let last = at;
    while (last - first < LONG && isDigit(text, last + 1)) last += 1;
    if (last - first + 1 >= LONG) return true;
  }
  return false;
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

/** ECMAScript's "JSON.parse source text access", which Node 22 has and the compiler's library does not yet. */
type ParseWithSource = (
  text: string,
  reviver: (key: string, value: unknown, context?: { readonly source?: string }) => unknown,
) => unknown;
