import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** A guard taken out of the sources by hand, and the tests that must notice. */
export interface Mutant {
  /** What is wrong with it, in a few words; unique. */
  readonly name: string;
  /** The source, from the root of the repository. */
  readonly file: string;
  /** The text that is replaced: exactly as it stands in the file, and there only once. */
  readonly original: string;
  readonly replacement: string;
  /** What depends on the guard: an invariant (`"I3"`), or a promise in few words. */
  readonly guards: string;
  /** Test files, from the root; one that fails is enough. */
  readonly killedBy: readonly string[];
  /** Why no test can tell it from the original. Only where that is so. */
  readonly equivalent?: string;
}

/** The lists beside this file that are named `….mutants.ts`. */
export async function allMutants(): Promise<Mutant[]> {
  const lists = globSync("*.mutants.ts", { cwd: fileURLToPath(new URL(".", import.meta.url)) }).toSorted();
  const modules = await Promise.all(
    lists.map(async (list) => (await import(new URL(list, import.meta.url).href)) as { mutants: Mutant[] }),
  );
  return modules.flatMap(({ mutants }) => mutants);
}

/** The file's text with the mutant in it. */
export function mutated({ name, file, original, replacement }: Mutant): string {
  const text = readFileSync(root + file, "utf8");
  const parts = text.split(original);
  if (parts.length !== 2) {
    throw new Error(
      `the mutant "${name}" finds its text ${parts.length - 1} times in ${file}: it must be there once`,
    );
  }
  return parts.join(replacement);
}
