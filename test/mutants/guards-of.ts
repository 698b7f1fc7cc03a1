import type { Mutant } from "./mutant.ts";

/** `[name, original, replacement, guards]`, and why nobody can tell, where nobody can. */
export type Row = readonly [
  name: string,
  original: string,
  replacement: string,
  guards: string,
  equivalent?: string,
];

/** The mutants of one file, which the same tests must notice. */
export function guardsOf(file: string, killedBy: readonly string[], rows: readonly Row[]): Mutant[] {
  return rows.map(([name, original, replacement, guards, equivalent]) => ({
    name,
    file: `src/${file}`,
    original,
    replacement,
    guards,
    killedBy: killedBy.map((test) => `test/${test}.test.ts`),
    ...(equivalent === undefined ? undefined : { equivalent }),
  }));
}
