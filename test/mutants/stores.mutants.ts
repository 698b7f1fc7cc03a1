import type { Mutant } from "./mutant.ts";

const SQLITE = ["test/stores/sqlite.test.ts"];

/** Guards of the stores. */
export const mutants: readonly Mutant[] = [
  {
    name: "a stale fence ends a lease",
    file: "src/stores/sqlite/leases.ts",
    original: `if (lease?.fence !== claim.fence) return undefined;`,
    replacement: `if (lease === undefined) return undefined;`,
    guards: "I3",
    killedBy: SQLITE,
  },
  {
    name: "a page is recorded under a lost lock",
    file: "src/stores/sqlite/passes.ts",
    original: `    named.requireLock(page.lock);
    const scope = scopes.demand(turn, page.scope);`,
    replacement: `    const scope = scopes.demand(turn, page.scope);`,
    guards: "I6",
    killedBy: SQLITE,
  },
];
