/**
 * The provider's accounts, a connection each. What belongs to one the fake provider keeps as a resource of its own; by
 * its id an object can be told everywhere, since no two accounts have one in common.
 *
 * @module
 */

import type { Scenario } from "./scenario.ts";

/** What adapters call the objects of every account. */
export const RESOURCE = "thing";

export interface Account {
  readonly connection: string;
  /** As which the fake provider keeps its objects. */
  readonly resource: string;
  /** What the ids of its objects begin with. */
  readonly letter: string;
}

const FIRST: Account = { connection: "default", resource: RESOURCE, letter: "t" };
const ALL: readonly Account[] = [FIRST, { connection: "acme", resource: "acme_thing", letter: "a" }];

export function accountsOf({ accounts }: Scenario): readonly Account[] {
  return ALL.slice(0, accounts);
}

/** Whose an object is. */
export function ownerOf(id: string): Account {
  return ALL.find(({ letter }) => id.startsWith(letter)) ?? FIRST;
}

export function accountOf(connection: string): Account {
  return ALL.find((one) => one.connection === connection) ?? FIRST;
}

/** Whose the fake provider's events of a resource are. */
export function holderOf(resource: string): Account {
  return ALL.find((one) => one.resource === resource) ?? FIRST;
}
