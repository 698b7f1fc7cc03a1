/**
 * Gets authoritative objects: calls the adapter's `fetch` or `fetchMany`, checks what came, and says what it is
 * evidence of.
 *
 * @module
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { ApiClients, Context } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Deadlines } from "./deadline.ts";
import { HttpError, SchemaError, TrueupError } from "./errors.ts";
import { describeRef, objectIdText, type ObjectRef, type Scope } from "./event.ts";
import type { Hooks } from "./hooks.ts";
import { isPromise, type MaybePromise } from "./maybe-promise.ts";
import type { AnyResource } from "./resource.ts";
import { asError } from "./retry.ts";
import type { Semaphore } from "./semaphore.ts";
import type { LaneKind } from "./store.ts";
import { objectEvidence, type Evidence } from "./verdict.ts";

export interface FetcherOptions {
  readonly apis: ApiClients;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly deadlines: Deadlines;
  /** Bounds the calls under way, over all routes and whoever asks. */
  readonly slots: Semaphore;
  /** Limit for one call of `fetch` or `fetchMany`, waiting for the rate budget included. Milliseconds. */
  readonly fetchTimeoutMs: number;
}

/** One call of an adapter. */
interface Asked {
  readonly scope: Scope;
  readonly lane: LaneKind;
  readonly objects: number;
  /** For messages. */
  readonly what: () => string;
  /** Statuses that mean "it does not exist". */
  readonly gone: readonly number[];
  /** Hears that it has its slot and is asked. */
  readonly onRequest: () => void;
}

export type FetchResult = Evidence | { readonly kind: "error"; readonly error: Error };

export class Fetcher {
  readonly #options: FetcherOptions;

  constructor(options: FetcherOptions) {
    this.#options = options;
  }

  // Chains of `then`, here and in `#call`: an async function takes some 900 bytes for each object that comes by.
  /**
   * Reads one object. Never rejects: a failure is a result.
   * @param onRequest hears of each call that is made, once it has its slot
   */
  one(
    resource: AnyResource,
    ref: ObjectRef,
    lane: LaneKind,
    onRequest: () => void = () => {},
  ): Promise<FetchResult> {
    return this.#call(
      { scope: ref, lane, objects: 1, what: () => describeRef(ref), gone: resource.gone, onRequest },
      (context) => resource.fetch(ref.id, context),
    ).then((raw) => resultOf(resource, raw, ref), failed);
  }

  /**
   * Reads several objects of one scope with one `fetchMany`; what that leaves out is read singly, as is everything
   * when the API refuses the batch as such. Result i belongs to id i.
   */
  async many(
    resource: AnyResource,
    scope: Scope,
    ids: readonly string[],
    lane: LaneKind,
    onRequest: () => void = () => {},
  ): Promise<FetchResult[]> {
    const { fetchMany } = resource;
    const single = (id: string) => this.one(resource, { ...scope, id }, lane, onRequest);
    if (fetchMany === undefined || ids.length === 1) return Promise.all(ids.map(single));
    const found = new Map<string, Evidence>();
    try {
      const rows = await this.#call(
        { scope, lane, objects: ids.length, what: () => `${ids.length} objects`, gone: [], onRequest },
        (context) => fetchMany([...ids], context),
      );
      if (!Array.isArray(rows))
        throw new TrueupError("RESPONSE_INVALID", "`fetchMany` must return an array of objects");
      for (const row of rows as unknown[]) {
        const read = readRow(resource, row);
        const known = isPromise(read) ? await read : read;
        if (known !== undefined) found.set(...known);
      }
    } catch (thrown) {
      const error = asError(thrown);
      if (!refusedAsBatch(error)) return ids.map(() => ({ kind: "error", error }));
    }
    if (ids.every((id) => found.has(id))) return ids.map((id) => found.get(id) as Evidence);
    return Promise.all(ids.map(async (id) => found.get(id) ?? single(id)));
  }

  #call<T>(asked: Asked, call: (context: Context) => Promise<T>): Promise<T | undefined> {
    const { slots } = this.#options;
    return slots.tryAcquire() ? this.#ask(asked, call) : slots.acquire().then(() => this.#ask(asked, call));
  }

  /** With a slot, which it gives back. */
  #ask<T>(asked: Asked, call: (context: Context) => Promise<T>): Promise<T | undefined> {
    const { scope, lane, objects, what, gone } = asked;
    const { apis, clock, deadlines, fetchTimeoutMs, hooks, slots } = this.#options;
    asked.onRequest();
    const { provider, connection, resource } = scope;
    const isHeard = hooks.has("fetch");
    const startedAt = isHeard ? clock.monotonic() : 0;
    const tell = (error?: Error) => {
      if (!isHeard) return;
      const durationMs = clock.monotonic() - startedAt;
      hooks.emit("fetch", { provider, connection, resource, objects, durationMs, error });
    };
    const answer = deadlines.run(
      fetchTimeoutMs,
      "API_TIMEOUT",
      () => `fetching ${what()}`,
      (signal) => {
        const context = apis.of(provider, connection).context({ signal, lane });
        return isPromise(context) ? context.then(call) : call(context);
      },
    );
    return Promise.resolve(answer).then(
      (value) => {
        slots.release();
        tell();
        return value;
      },
      (thrown: unknown) => {
        slots.release();
        const isGone = thrown instanceof HttpError && gone.includes(thrown.status);
        const error = isGone ? undefined : asError(thrown);
        tell(error);
        if (error !== undefined) throw error;
        return undefined;
      },
    );
  }
}

const GONE: FetchResult = { kind: "gone" };

function failed(thrown: unknown): FetchResult {
  return { kind: "error", error: asError(thrown) };
}

function resultOf(resource: AnyResource, raw: unknown, ref: ObjectRef): MaybePromise<FetchResult> {
  if (raw === undefined) return GONE;
  try {
    const evidence = checkedEvidence(resource, raw, "fetch", ref);
    return isPromise(evidence) ? evidence.then((made) => made, failed) : evidence;
  } catch (thrown) {
    return failed(thrown);
  }
}

/** A row by its id; `undefined`: it cannot be read. Then it is read singly, where the failure gets its id. */
function readRow(
  resource: AnyResource,
  raw: unknown,
): MaybePromise<readonly [id: string, evidence: Evidence] | undefined> {
  const withId = (evidence: Evidence & { kind: "object" }) =>
    [idOfObject(resource, evidence.object), evidence] as const;
  try {
    const evidence = checkedEvidence(resource, raw, "fetch");
    return isPromise(evidence) ? evidence.then(withId).catch(() => undefined) : withId(evidence);
  } catch {
    return undefined;
  }
}

/** A batch can be refused for one bad id in it (400, 404, 414, 422); then each object is asked for by itself. */
function refusedAsBatch(error: Error): boolean {
  return error instanceof HttpError && error.status >= 400 && error.status < 500;
}

/**
 * What an object from outside is evidence of. A promise only where its schema needs one: a list has a million rows.
 * @throws SchemaError, or TrueupError `ID_MISMATCH`
 */
export function checkedEvidence(
  resource: AnyResource,
  raw: unknown,
  shape: "fetch" | "row",
  expected?: ObjectRef,
): (Evidence & { kind: "object" }) | Promise<Evidence & { kind: "object" }> {
  const object: unknown = validate(resource.schema, raw);
  return object instanceof Promise
    ? object.then((output: unknown) => acceptedEvidence(resource, output, shape, expected))
    : acceptedEvidence(resource, object, shape, expected);
}

function acceptedEvidence(
  resource: AnyResource,
  object: unknown,
  shape: "fetch" | "row",
  expected: ObjectRef | undefined,
): Evidence & { kind: "object" } {
  const evidence = objectEvidence(resource, object, shape);
  if (expected !== undefined) {
    const id = idOfObject(resource, object);
    if (id !== expected.id) {
      throw new TrueupError(
        "ID_MISMATCH",
        `asked for ${describeRef(expected)}, the API returned an object with the id ${JSON.stringify(id)}`,
      );
    }
  }
  return evidence;
}

/** @throws SchemaError where the object has no id that can name it */
export function idOfObject(resource: AnyResource, object: unknown): string {
  const id: unknown = resource.idOf(object);
  try {
    return objectIdText(id);
  } catch (cause) {
    throw new SchemaError("", "the object: `idOf` gives no usable id", { cause });
  }
}

/** Keys come from outside too, and both path and message of an issue may repeat them. */
const MAX_TEXT_LENGTH = 500;

/**
 * The schema's output; a promise only where the schema needs one.
 * @throws SchemaError with the path of the first issue
 */
export function validate<Schema extends StandardSchemaV1>(
  schema: Schema,
  value: unknown,
): StandardSchemaV1.InferOutput<Schema> | Promise<StandardSchemaV1.InferOutput<Schema>> {
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(outputOf) : outputOf(result);
}

/** @throws SchemaError */
function outputOf<Output>(result: StandardSchemaV1.Result<Output>): Output {
  if (result.issues === undefined) return result.value;
  const [first] = result.issues;
  const path = pathText(first?.path ?? []).slice(0, MAX_TEXT_LENGTH);
  const why = (first?.message ?? "refused by its schema").slice(0, MAX_TEXT_LENGTH);
  throw new SchemaError(path, `${path === "" ? "the object" : path}: ${why}`);
}

function pathText(path: readonly (PropertyKey | StandardSchemaV1.PathSegment)[]): string {
  return path
    .map((segment) => (typeof segment === "object" ? segment.key : segment))
    .map((key, i) => (typeof key === "number" ? `[${key}]` : i === 0 ? String(key) : `.${String(key)}`))
    .join("");
}
