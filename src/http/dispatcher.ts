/**
 * The pool of connections: undici's Agent, loaded when the first request needs it.
 *
 * @module
 */

import type { Dispatcher } from "undici";

/** Where undici 6, undici 7 and the fetch of Node 22 keep the dispatcher of the whole process. */
const LEGACY_GLOBAL = Symbol.for("undici.globalDispatcher.1");

/**
 * Makes an Agent, and leaves the process as it was.
 *
 * undici 8 puts its own dispatcher in the place of an older undici's when it is loaded: the application's `fetch` would
 * lose a proxy or a mock that was set up for it. What was there is put back; undici 8 keeps its own elsewhere.
 */
export async function createAgent(): Promise<Dispatcher> {
  const globals = globalThis as { [LEGACY_GLOBAL]?: unknown };
  const before = globals[LEGACY_GLOBAL];
  const { Agent, Dispatcher1Wrapper } = await import("undici");
  if (globals[LEGACY_GLOBAL] instanceof Dispatcher1Wrapper && !(before instanceof Dispatcher1Wrapper)) {
    globals[LEGACY_GLOBAL] = before;
  }
  // One connection a request: when it breaks, it takes no other request with it, as an HTTP/2 session would.
  return new Agent({ allowH2: false });
}
