/**
 * Knows whether the code that runs was called from inside a commit callback. There the store's transaction is open and
 * the engine's own writes wait behind it: a write of the engine that was awaited inside would wait for itself.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { TrueupError } from "./errors.ts";

const scope = new AsyncLocalStorage<true>();

export function insideCommit<T>(run: () => T): T {
  return scope.run(true, run);
}

/** @throws TrueupError `NESTED_COMMIT` inside a commit callback */
export function refuseInsideCommit(what: string): void {
  if (scope.getStore() === true) {
    throw new TrueupError(
      "NESTED_COMMIT",
      `${what} was called inside a commit callback, where it would wait for itself: call it before or after`,
    );
  }
}
