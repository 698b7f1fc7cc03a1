/**
 * Objects and the events that hint at their change.
 *
 * @module
 */

import { hash } from "node:crypto";
import { TrueupError } from "./errors.ts";
import { encodeVersion, type EncodedVersion, type Version } from "./version.ts";

/** One kind of object of one connection: an {@link ObjectRef} without its id. */
export interface Scope {
  readonly provider: string;
  readonly connection: string;
  readonly resource: string;
}

/** The key of everything: one object of one connection at one provider. */
export interface ObjectRef extends Scope {
  readonly id: string;
}

/**
 * The id that stands for "this resource as a whole" in the work queue: an event without `objectId` marks it dirty, and
 * a worker that claims it runs a pass over the list; a full one where the claim is forced. No object can have it, since ids are never empty.
 */
export const WHOLE_RESOURCE = "";

export type Hint = "upsert" | "delete";

/** What first made a piece of work necessary. */
export type Origin = "webhook" | "queue" | "poll" | "reconcile" | "trigger";

/** A hint, from a source, that an object may have changed. Never the truth. */
export interface SyncEvent<Resource extends string = string> {
  /** The provider's id of this event, for dropping duplicates. Without one, the delivery's id; without that, none. */
  readonly id?: string | number | undefined;
  /** The provider's name for what happened; only handed on. */
  readonly type?: string | undefined;
  /** A resource of the provider, or `"*"` for all of them. One that is not declared is ignored and counted. */
  readonly resource: Resource | "*";
  /** The object. Without one the event says "something of this resource changed" and brings the next pass forward. */
  readonly objectId?: string | number | bigint | null | undefined;
  /** What the provider says happened. Decides only how long a contradicting API is given to catch up (I13). */
  readonly hint?: Hint | undefined;
  /** The version that the provider announced; a fetch that is older is retried for a while before it is believed. */
  readonly version?: Version | null | undefined;
  /** When it happened, by the provider's clock; only handed on. */
  readonly occurredAt?: Date | string | number | null | undefined;
  /** Anything small that the handler should see. JSON; left out when it is over `maxEventDataBytes`. */
  readonly data?: unknown;
}

/** An event as the store keeps it and as a handler receives it (there as {@link ReceivedEvent}). JSON throughout. */
export interface StoredEvent {
  readonly id?: string;
  readonly type?: string;
  readonly hint?: Hint;
  readonly version?: EncodedVersion;
  /** ISO 8601. */
  readonly occurredAt?: string;
  readonly data?: unknown;
  /** True when `data` was over its cap and therefore left out. */
  readonly dataDropped?: true;
  readonly origin: Origin;
  /** Milliseconds since the epoch. */
  readonly receivedAt: number;
}

/** An event as a handler sees it in `change.events`. */
export interface ReceivedEvent {
  readonly id: string | undefined;
  readonly type: string | undefined;
  readonly hint: Hint | undefined;
  readonly version: Version | undefined;
  readonly occurredAt: Date | undefined;
  readonly data: unknown;
  readonly dataDropped: boolean;
  readonly origin: Origin;
  readonly receivedAt: Date;
}

/** A SyncEvent after validation: everything is a string, or absent. */
export interface ValidEvent {
  readonly id: string | undefined;
  readonly resource: string;
  /** {@link WHOLE_RESOURCE} where the event named no object. */
  readonly objectId: string;
  readonly stored: StoredEvent;
}

/** Limits on what an event may bring in (I10). */
export interface EventLimits {
  /** Most bytes of an event's `data` as JSON; over it, `data` is left out. */
  readonly maxEventDataBytes: number;
}

type Draft = { -readonly [Name in keyof StoredEvent]?: StoredEvent[Name] };

const MAX_ID_LENGTH = 1_024;
const MAX_TYPE_LENGTH = 256;

/**
 * Checks what an adapter's `events` (or `poll`) returned.
 * @throws TrueupError `EVENT_INVALID`, naming the field.
 */
export function validateEvent(
  event: SyncEvent,
  context: { readonly origin: Origin; readonly receivedAt: number; readonly deliveryId: string | undefined },
  limits: EventLimits,
): ValidEvent {
  if (typeof event !== "object" || event === null) throw invalidEvent("an event must be an object");
  if (typeof event.resource !== "string" || event.resource === "") {
    throw invalidEvent('an event\'s `resource` must be a resource of the provider, or "*"');
  }
  if (event.hint !== undefined && event.hint !== "upsert" && event.hint !== "delete") {
    throw invalidEvent('an event\'s `hint` must be "upsert" or "delete"');
  }
  const id = event.id === undefined || event.id === null ? context.deliveryId : idText(event.id, "id");
  const objectId =
    event.objectId === undefined || event.objectId === null ? WHOLE_RESOURCE : objectIdText(event.objectId);
  const version = encodeEventVersion(event.version);
  const occurredAt = instant(event.occurredAt);
  // Member by member rather than by spreading, which would take longer than all of the above.
  const stored: Draft = {};
  if (id !== undefined) stored.id = id;
  if (typeof event.type === "string") stored.type = event.type.slice(0, MAX_TYPE_LENGTH);
  if (event.hint !== undefined) stored.hint = event.hint;
  if (version !== null) stored.version = version;
  if (occurredAt !== undefined) stored.occurredAt = occurredAt;
  if (event.data !== undefined) addData(stored, event.data, limits.maxEventDataBytes);
  stored.origin = context.origin;
  stored.receivedAt = context.receivedAt;
  return { id, resource: event.resource, objectId, stored: stored as StoredEvent };
}

/**
 * An object's id as text. Numbers are accepted because providers write `"1"` in one place and `1` in another.
 * @throws TrueupError `EVENT_INVALID` for anything that cannot name an object.
 */
export function objectIdText(id: unknown): string {
  return idText(id, "objectId");
}

function idText(id: unknown, field: string): string {
  if (typeof id === "number" && !Number.isSafeInteger(id)) {
    throw invalidEvent(`\`${field}\` is a number beyond 2^53 and has lost digits: take it as a string`);
  }
  const text = typeof id === "number" || typeof id === "bigint" ? id.toString() : id;
  if (typeof text !== "string" || text === "" || text.length > MAX_ID_LENGTH) {
    throw invalidEvent(
      `\`${field}\` must be a non-empty string of at most ${MAX_ID_LENGTH} characters, or an integer`,
    );
  }
  if (!text.isWellFormed() || text.includes("\0")) {
    throw invalidEvent(`\`${field}\` has characters that no id can have (a NUL or a lone surrogate)`);
  }
  return text;
}

function encodeEventVersion(version: Version | null | undefined): EncodedVersion | null {
  try {
    return encodeVersion(version);
  } catch (cause) {
    throw new TrueupError(
      "EVENT_INVALID",
      "an event's `version` must be a number, a bigint, a Date, or a string that is not too long",
      { cause },
    );
  }
}

// When it happened is only handed on: a date that cannot be read is left out rather than refused.
function instant(value: unknown): string | undefined {
  if (typeof value !== "string" && typeof value !== "number" && !(value instanceof Date)) return undefined;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

function addData(stored: Draft, data: unknown, maxBytes: number): void {
  let json: string | undefined;
  try {
    // A long id, which a delivery's `json` has as a bigint, is kept as its digits.
    json = JSON.stringify(data, (_key, value: unknown) =>
      typeof value === "bigint" ? value.toString() : value,
    );
  } catch (cause) {
    throw new TrueupError("EVENT_INVALID", "an event's `data` must be JSON", { cause });
  }
  if (json === undefined) return;
  if (Buffer.byteLength(json) > maxBytes) stored.dataDropped = true;
  else stored.data = JSON.parse(json) as unknown;
}

function invalidEvent(message: string): TrueupError<"EVENT_INVALID"> {
  return new TrueupError("EVENT_INVALID", message);
}

export function receivedEvent(
  stored: StoredEvent,
  decode: (v: EncodedVersion | null) => Version | undefined,
): ReceivedEvent {
  return {
    id: stored.id,
    type: stored.type,
    hint: stored.hint,
    version: decode(stored.version ?? null),
    occurredAt: stored.occurredAt === undefined ? undefined : new Date(stored.occurredAt),
    data: stored.data,
    dataDropped: stored.dataDropped === true,
    origin: stored.origin,
    receivedAt: new Date(stored.receivedAt),
  };
}

/** Bytes of a {@link dedupeKey}. */
export const DEDUPE_KEY_BYTES = 16;

/**
 * The key under which an event is remembered (I9): 128 bits of SHA-256 over provider, connection, resource, object and
 * event id, each with its length in front so that no two lists of parts read alike.
 */
export function dedupeKey(ref: ObjectRef, eventId: string): Uint8Array {
  const { provider, connection, resource, id } = ref;
  const text =
    `${provider.length}:${provider}${connection.length}:${connection}${resource.length}:${resource}` +
    `${id.length}:${id}${eventId.length}:${eventId}`;
  // By way of hex, because a digest as a buffer is memory of its own outside the heap, and slow to get and to collect.
  return Buffer.from(hash("sha256", text, "hex").slice(0, 2 * DEDUPE_KEY_BYTES), "hex");
}

export function routeOf(scope: Pick<Scope, "provider" | "resource">): string {
  return `${scope.provider}.${scope.resource}`;
}

/** A short text for messages: `crm.contact/c_1`, with the connection where it is not the default one. */
export function describeRef(ref: ObjectRef): string {
  const connection = ref.connection === "default" ? "" : `@${ref.connection}`;
  return ref.id === WHOLE_RESOURCE
    ? `${routeOf(ref)}${connection}`
    : `${routeOf(ref)}${connection}/${ref.id}`;
}
