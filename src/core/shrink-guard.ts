/**
 * Tells deletions from lost access (I7): a revoked token makes every object look deleted, or every object of a kind.
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

/** How many gone objects one that is there makes up for: where one fetch in four finds its object, access is not lost. */
const PRESENT_WEIGHT = 3;

interface Suspicion {
  gone: number;
  /** How many objects the index held when it was first asked: it shrinks with every deletion that is let through. */
  indexed: number | undefined;
}

/**
 * Watches what fetches say: many objects that are gone without any word of it from the provider, and hardly one among
 * them that is still there, is what lost access looks like.
 */
export class ShrinkGuard {
  readonly #suspicions = new Map<string, Suspicion>();

  /** A fetch found an object. */
  present(scope: Scope): void {
    if (this.#suspicions.size === 0) return;
    const key = keyOf(scope);
    const suspicion = this.#suspicions.get(key);
    if (suspicion === undefined) return;
    suspicion.gone -= PRESENT_WEIGHT;
    if (suspicion.gone <= 0) this.#suspicions.delete(key);
  }

  /**
   * A fetch found an object gone, unannounced.
   * @param countIndexed asked once for each suspicion, and only when it grows
   * @returns how many there are, and of how many, where that is too much (`news`: for the first of each hundred);
   *   `undefined` where it is not
   */
  async gone(
    resource: AnyResource,
    scope: Scope,
    countIndexed: () => Promise<number>,
  ): Promise<{ readonly gone: number; readonly indexed: number; readonly news: boolean } | undefined> {
    const key = keyOf(scope);
    const suspicion = this.#suspicions.get(key) ?? { gone: 0, indexed: undefined };
    this.#suspicions.set(key, suspicion);
    suspicion.gone += 1;
    if (suspicion.gone <= deletesAllowed(resource, 0)) return undefined;
    suspicion.indexed ??= await countIndexed();
    const { gone, indexed } = suspicion;
    const tooMany = gone - deletesAllowed(resource, indexed);
    return tooMany > 0 ? { gone, indexed, news: tooMany % 100 === 1 } : undefined;
  }
}

function keyOf(scope: Scope): string {
  return `${routeOf(scope)} ${scope.connection}`;
}
