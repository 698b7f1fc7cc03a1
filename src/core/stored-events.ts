/**
 * Events as stores and handlers are given them: made of what is stored when somebody looks at them, and not before.
 *
 * @module
 */

import { TrueupError } from "./errors.ts";
import { describeRef, receivedEvent, type ObjectRef, type ReceivedEvent, type StoredEvent } from "./event.ts";
import { lazyProperty } from "./lazy-property.ts";
import { decodeVersion } from "./version.ts";

interface OfObject {
  readonly ref: ObjectRef;
}

const parsedLater = lazyProperty("events", (texts: readonly string[], { ref }: OfObject) => {
  try {
    return texts.flatMap((text) => JSON.parse(text) as StoredEvent | StoredEvent[]);
  } catch (cause) {
    throw new TrueupError("STORE_FAILED", `the events of ${describeRef(ref)} cannot be read`, { cause });
  }
});

/**
 * For stores: gives a claim or a dead letter its events.
 * @param texts JSON, each of one event or of a list of them. One that cannot be read fails whoever looks at the events
 *   (`STORE_FAILED`), and nothing else: a handler that needs them ends as a dead letter, and holds up no other object.
 */
export function withStoredEvents<T extends OfObject>(
  object: T,
  texts: readonly string[],
): T & { readonly events: readonly StoredEvent[] } {
  return texts.length === 0 ? Object.assign(object, { events: [] }) : parsedLater(object, texts);
}

const receivedLater = lazyProperty(
  "events",
  ({ events }: { readonly events: readonly StoredEvent[] }): readonly ReceivedEvent[] =>
    events.map((event) => receivedEvent(event, decodeVersion)),
);

/** Gives a change or a dead letter the events of a claim or a record, as users see them. */
export function withReceivedEvents<T extends object>(
  object: T,
  of: { readonly events: readonly StoredEvent[]; readonly eventCount: number },
): T & { readonly events: readonly ReceivedEvent[] } {
  return of.eventCount === 0 ? Object.assign(object, { events: [] }) : receivedLater(object, of);
}
