/**
 * Tells deletions from lost access (I7): a revoked token makes every object look deleted.
 *
 * @module
 */

import { routeOf, type Scope } from "./event.ts";
import type { AnyResource } from "./resource.ts";

/** How many deletions a resource lets through where `indexed` objects are known; above it they are suspicious. */
export function deletesAllowed(resource: AnyResource, indexed: number): number {
  if (resource.shrinkGuard === false) return Infinity;
  return Math.max(resource.shrinkGuard.count, Math.floor(resource.shrinkGuard.share * indexed));
}

/**
 * Watches what fetches say: many objects in a row that are gone without any word of it from the provider, and not one
 * that is still there, is what lost access looks like. One object that is there ends the suspicion.
 */
export class ShrinkGuard {
  readonly #goneInRow = new Map<string, number>();

  /** A fetch found an object. */
  present(scope: Scope): void {
    if (this.#goneInRow.size > 0) this.#goneInRow.delete(keyOf(scope));
  }

  /** A fetch found an object gone, unannounced. @returns how many in a row that makes */
  gone(scope: Scope): number {
    const key = keyOf(scope);
    const count = (this.#goneInRow.get(key) ?? 0) + 1;
    this.#goneInRow.set(key, count);
    return count;
  }
}

function keyOf(scope: Scope): string {
  return `${routeOf(scope)} ${scope.connection}`;
}
