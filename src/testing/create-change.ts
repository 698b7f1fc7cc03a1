/**
 * Makes changes, to test a handler without an engine.
 *
 * @module
 */

import type { Change } from "../core/change.ts";
import { TrueupError } from "../core/errors.ts";
import type { ObjectRef, Origin, ReceivedEvent } from "../core/event.ts";
import type { Version } from "../core/version.ts";

/** What the change should say; everything has a default. */
export interface ChangeParts<T, Tx> {
  /** The object of an upsert. Without one, the change is a deletion. */
  readonly object?: T | undefined;
  /** @default { provider: "test", connection: "default", resource: "object", id: "1" } */
  readonly ref?: Partial<ObjectRef> | undefined;
  readonly version?: Version | undefined;
  /** @default "webhook" */
  readonly origin?: Origin | undefined;
  readonly regressed?: boolean | undefined;
  readonly events?: readonly Partial<ReceivedEvent>[] | undefined;
  /** @default 1 */
  readonly attempt?: number | undefined;
  /** @default 1 */
  readonly fence?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** What `commit` hands to its callback. Without one, `commit` throws `NOT_TRANSACTIONAL`, as such a store does. */
  readonly tx?: Tx | undefined;
}

/**
 * A change as an engine would hand it over. Its `commit` calls back at once, with `tx`, and only once.
 *
 * @example
 * await onContact(createChange({ object: { id: "c_1", email: "a@b.example" }, tx: fakeTx }));
 * await onContact(createChange({ ref: { id: "c_1" } })); // a deletion
 */
export function createChange<T = unknown, Tx = never>(parts: ChangeParts<T, Tx> = {}): Change<T, Tx> {
  const { attempt = 1, fence = 1, object, origin = "webhook", regressed = false, tx, version } = parts;
  const events = (parts.events ?? []).map((event) => receivedEvent(event, origin));
  let committed = false;
  const base = {
    ref: { provider: "test", connection: "default", resource: "object", id: "1", ...parts.ref },
    version,
    origin,
    regressed,
    events,
    eventCount: events.length,
    attempt,
    fence,
    signal: parts.signal ?? new AbortController().signal,
    commit: async <Result>(write: (tx: Tx) => Result | Promise<Result>): Promise<Result> => {
      if (tx === undefined) throw new TrueupError("NOT_TRANSACTIONAL", "createChange was given no `tx`");
      if (committed)
        throw new TrueupError("COMMIT_TWICE", "commit was called a second time for the same work");
      committed = true;
      return write(tx);
    },
  };
  const change = object === undefined ? { ...base, kind: "delete" } : { ...base, kind: "upsert", object };
  // `commit` is there or not by the type of `Tx`, which no value can show.
  return change as unknown as Change<T, Tx>;
}

function receivedEvent(event: Partial<ReceivedEvent>, origin: Origin): ReceivedEvent {
  return {
    id: undefined,
    type: undefined,
    hint: undefined,
    version: undefined,
    occurredAt: undefined,
    data: undefined,
    dataDropped: false,
    origin,
    receivedAt: new Date(0),
    ...event,
  };
}
