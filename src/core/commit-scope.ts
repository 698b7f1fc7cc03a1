/**
 * Knows whether the code that runs was called from inside a commit callback. There the store's transaction is open and
 * the engine's own writes wait behind it: a write of the engine that was awaited inside would wait for itself.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { TrueupError } from "./errors.ts";

/** What a callback starts and does not wait for keeps its scope, which is therefore closed when the callback ends. */
const scope = new AsyncLocalStorage<{ open: boolean }>();

export async function insideCommit<T>(run: () => T | Promise<T>): Promise<T> {
  const inside = { open: true };
  try {
    return await scope.run(inside, run);
  } finally {
    inside.open = false;
  }
}

/** @throws TrueupError `NESTED_COMMIT` inside a commit callback */
export function refuseInsideCommit(what: string): void {
  if (scope.getStore()?.open === true) {
    throw new TrueupError(
      "NESTED_COMMIT",
      `${what} was called inside a commit callback, where it would wait for itself: call it before or after`,
    );
  }
}
