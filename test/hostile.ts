/** Bytes and texts as an attacker, or a broken provider, would choose them. Shared by the fuzzing of all parsers. */

import * as fc from "fast-check";

/** Texts that parsers stumble over. */
export const HOSTILE_TEXTS = [
  "",
  "\0",
  "\uFEFF{}",
  "\ud800",
  "\udfff{}",
  "__proto__",
  '{"__proto__":{"admin":true}}',
  '{"\\u005f_proto_\\u005F":{"admin":true}}',
  '[{"id":"1","__proto__":null}]',
  '{"constructor":{"prototype":{"admin":true}}}',
  '{"id":"a","id":"b"}',
  '{"id":9007199254740993}',
  `{"id":${"9".repeat(5_000)}}`,
  '{"id":1e400}',
  '{"id":-0}',
  '{"id":"\\ud800"}',
  '{"id":"a\\u0000b"}',
  "[".repeat(50_000),
  `${"[".repeat(50_000)}${"]".repeat(50_000)}`,
  `{"a":${'{"a":'.repeat(20_000)}1${"}".repeat(20_001)}`,
  "null",
  "true",
  "1",
  '"text"',
  "a=1&a=2",
  "__proto__=1",
  "a=%E0%A4%A",
  "a=%",
  "\r\n\r\n",
  "{}\r\n",
  "a\r\nx-injected: 1",
  "é".repeat(100),
  "\u{1F600}",
  " ".repeat(10_000),
  "2026-02-30T00:00:00Z",
  "-1",
  "1e9",
  "0x10",
  "NaN",
  "Infinity",
] as const;

/** Bytes that are no UTF-8: a lone continuation, an overlong slash, a surrogate, what ends too early. */
export const HOSTILE_BYTES: readonly Uint8Array[] = [
  [0xff],
  [0x80],
  [0xc0, 0xaf],
  [0xed, 0xa0, 0x80],
  [0xf0, 0x9f, 0x98],
  [0xef, 0xbb, 0xbf],
  [0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d],
].map((bytes) => Uint8Array.from(bytes));

export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...HOSTILE_TEXTS),
  fc.string({ unit: "binary" }),
  fc.json(),
  fc
    .tuple(fc.constantFrom(...HOSTILE_TEXTS), fc.string({ unit: "binary" }))
    .map(([a, b]) => (a + b).slice(0, 200)),
);

export const hostileBytes: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array(),
  fc.constantFrom(...HOSTILE_BYTES),
  hostileText.map((text) => Buffer.from(text)),
);

/** Anything that JSON, a driver or a careless adapter can give. */
export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSet: true }),
  fc.constantFrom<unknown>(
    undefined,
    null,
    Number.NaN,
    Infinity,
    -0,
    2 ** 53 + 2,
    10n ** 2_000n,
    new Date(Number.NaN),
    Symbol("s"),
    () => "f",
    Object.create(null),
    JSON.parse('{"__proto__":1}'),
  ),
);

/**
 * Inputs of a size at which work that grows with its square would take minutes, and the test fail by its time limit.
 * Work in line with the input takes some milliseconds, on any machine.
 */
export function longOf(unit: string, length = 200_000): string {
  return unit.repeat(Math.ceil(length / unit.length));
}

/** Units that make backtracking parsers go back. */
export const LONG_UNITS = [
  "a",
  " ",
  "\t",
  "0",
  "9",
  "-",
  ".",
  ",",
  ";",
  "=",
  '"',
  "\\",
  "<",
  "<a>",
  "v1,",
  "sha256=",
  ", t=",
  "%25",
  "../",
  "?",
  "&a=",
  "{",
  "[",
  "é",
  "\0",
] as const;
