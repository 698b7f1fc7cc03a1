import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { allMutants, mutated, root } from "./mutants/mutant.ts";

const mutants = await allMutants();

// Whether tests notice them, `npm run test:mutants` shows; here, that there is something to notice.
describe("the mutants", () => {
  it("have names of their own", () => {
    const names = mutants.map(({ name }) => name);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(mutants)("find their text once: $name", (mutant) => {
    expect(mutated(mutant)).not.toBe(mutated({ ...mutant, replacement: mutant.original }));
  });

  it.each(mutants)("name tests that exist: $name", ({ killedBy }) => {
    expect(killedBy.length).toBeGreaterThan(0);
    expect(killedBy.filter((file) => !existsSync(root + file))).toEqual([]);
  });
});
