/**
 * JSON from an API, without silently wrong numbers.
 *
 * @module
 */

/** Sixteen digits are the fewest that can pass 2^53. */
const LONG = 16;
/** So many digits as a whole integer literal, outside of a fraction or exponent. Inside a string it is a false alarm at worst. */
const LONG_INTEGER = /(?:^|[[:,\s])-?\d{16,}(?![\d.eE])/;
/**
 * The same where it may become a string without making good JSON of bad: a value, not a key, and without leading zeros.
 * Of at most 1,000 digits: longer ones are no ids, and some hundred thousand digits take long to convert.
 */
const LONG_VALUE = /(?<=^|[[:,\s])-?[1-9]\d{15,999}(?=\s*(?:[,\]}]|$))/g;

/**
 * `JSON.parse`, except that an integer beyond ±(2^53 − 1) becomes a bigint, where `JSON.parse` would round it to another
 * number: such integers are nearly always ids. A schema that expects a number refuses it, which is seen; a rounded id
 * is not.
 *
 * A reviver could see the digits too; but asked about each of half a million numbers, it takes sixty times as long as
 * the parsing, and one long number, from anybody, is enough for that.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  if (!hasLongDigits(text) || !LONG_INTEGER.test(text)) return JSON.parse(text);
  const mark = markFor(text);
  return withBigints(JSON.parse(withMarks(text, mark)), mark);
}

const FIRST_PRIVATE = 0xe0_00;
const LAST_PRIVATE = 0xf8_ff;
/** As they are, or escaped; what only looks like an escape is counted too. */
const PRIVATE = /[\ue000-\uf8ff]|\\u[ef][\da-f]{3}/gi;

/** A text that is in no string of the document: a character of private use, once more in a row than it is in all of it. */
function markFor(text: string): string {
  if (!text.includes("\ue000") && !/\\ue000/i.test(text)) return "\ue000"; // nearly always
  const counts = new Uint32Array(LAST_PRIVATE - FIRST_PRIVATE + 1);
  for (const [found] of text.matchAll(PRIVATE)) {
    const code = found.length === 1 ? found.charCodeAt(0) : Number.parseInt(found.slice(2), 16);
    const at = code - FIRST_PRIVATE;
    counts[at] = (counts[at] ?? 0) + 1; // beyond the array, this does nothing
  }
  const least = Math.min(...counts);
  return String.fromCharCode(FIRST_PRIVATE + counts.indexOf(least)).repeat(least + 1);
}

/** The document with its long integers as marked strings. */
function withMarks(text: string, mark: string): string {
  const pieces: string[] = [];
  let copied = 0;
  for (let at = 0; at < text.length;) {
    const quote = text.indexOf('"', at);
    const end = quote < 0 ? text.length : quote;
    const between = end - at < LONG ? "" : text.slice(at, end);
    const marked = between.replace(LONG_VALUE, (digits) =>
      Number.isSafeInteger(Number(digits)) ? digits : `"${mark}${digits}"`,
    );
    if (marked !== between) {
      pieces.push(text.slice(copied, at), marked);
      copied = end;
    }
    at = quote < 0 ? end : endOfString(text, quote + 1);
  }
  return pieces.join("") + text.slice(copied);
}

/** Behind the quote that ends a string. */
function endOfString(text: string, from: number): number {
  for (let at = from; ;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return text.length;
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

/** Puts the integers where their marks are. By a list of what is to be seen, since a document may be as deep as it is long. */
function withBigints(value: unknown, mark: string): unknown {
  const root = [value];
  const waiting: object[] = [root];
  for (let container = waiting.pop(); container !== undefined; container = waiting.pop()) {
    const members = container as Record<string, unknown>;
    for (const name of Object.keys(members)) {
      const member = members[name];
      if (typeof member === "string") {
        if (member.startsWith(mark)) members[name] = BigInt(member.slice(mark.length));
      } else if (typeof member === "object" && member !== null) waiting.push(member);
    }
  }
  return root[0];
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
