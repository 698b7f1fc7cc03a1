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

/** Called right before a request is written; what it throws, the request ends with, unsent, and the connection stays. */
export type BeforeWriting = () => void;

const watching = new WeakMap<Dispatcher, Dispatcher>();

/** The same dispatcher, but a request whose `opaque` is a {@link BeforeWriting} calls it. */
export function watched(dispatcher: Dispatcher): Dispatcher {
  // A stand-in for the network writes nothing.
  if (typeof (dispatcher as Partial<Dispatcher>).compose !== "function") return dispatcher;
  let made = watching.get(dispatcher);
  if (made === undefined) {
    made = dispatcher.compose((dispatch) => (options, handler) => {
      const { opaque } = options as { readonly opaque?: BeforeWriting };
      return dispatch(options, opaque === undefined ? handler : new Watched(handler, opaque));
    });
    watching.set(dispatcher, made);
  }
  return made;
}

type Handler = Dispatcher.DispatchHandler;
type Told<Name extends keyof Handler> = Parameters<NonNullable<Handler[Name]>>;

/** Passes everything on. */
class Watched implements Handler {
  readonly #handler: Handler;
  readonly #beforeWriting: BeforeWriting;

  constructor(handler: Handler, beforeWriting: BeforeWriting) {
    this.#handler = handler;
    this.#beforeWriting = beforeWriting;
  }

  /** undici calls this when a connection is there and idle, and writes the request in the same breath. */
  onRequestStart(...told: Told<"onRequestStart">): void {
    this.#beforeWriting();
    this.#handler.onRequestStart?.(...told);
  }

  onRequestUpgrade(...told: Told<"onRequestUpgrade">): void {
    this.#handler.onRequestUpgrade?.(...told);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onResponseStart(...told: Told<"onResponseStart">): void {
    this.#handler.onResponseStart?.(...told);
  }

  onResponseData(...told: Told<"onResponseData">): void {
    this.#handler.onResponseData?.(...told);
  }

  onResponseEnd(...told: Told<"onResponseEnd">): void {
    this.#handler.onResponseEnd?.(...told);
  }

  onResponseError(...told: Told<"onResponseError">): void {
    this.#handler.onResponseError?.(...told);
  }
}
