/**
 * JSON from an API, without silently wrong numbers.
 *
 * @module
 */

/** Sixteen digits are the fewest that can pass 2^53. Finds out quickly that nearly every body has nothing of the sort. */
const LONG_DIGITS = /\d{16}/;
/** The same as a whole integer literal, outside of a fraction or exponent. Inside a string it is a false alarm at worst. */
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
  if (!LONG_DIGITS.test(text) || !LONG_INTEGER.test(text)) return JSON.parse(text);
  return (JSON.parse as ParseWithSource)(text, (_key, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && INTEGER.test(context?.source ?? "")
      ? BigInt(context?.source ?? "")
      : value,
  );
}

/** ECMAScript's "JSON.parse source text access", which Node 22 has and the compiler's library does not yet. */
type ParseWithSource = (
  text: string,
  reviver: (key: string, value: unknown, context?: { readonly source?: string }) => unknown,
) => unknown;
