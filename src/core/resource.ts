/**
 * A resource: one kind of object at a provider, and how to get it.
 *
 * @module
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Context } from "./api.ts";
import { invalidOption } from "./errors.ts";
import type { CompareVersions, Version } from "./version.ts";

export type { StandardSchemaV1 };

/** An id as an adapter may give it; it becomes a string. */
export type IdValue = string | number | bigint;

export interface ListArguments {
  /** A lower bound for what to list; only in incremental passes, and there only after a first complete one. */
  readonly since: Date | undefined;
  /** What the page before gave as `next`; `undefined` for the first page. */
  readonly cursor: string | undefined;
  /** How many rows a page should have: the resource's `pageSize`, or the call's. */
  readonly limit: number;
}

/** A row of a list whose `listItems` is `"summary"`. */
export interface SummaryRow {
  readonly id: IdValue;
  readonly version?: Version | null | undefined;
}

export interface Page {
  /** Objects, or {@link SummaryRow}s, as the resource's `listItems` says. */
  readonly items: readonly unknown[];
  /** Ids that the provider's feed says are deleted. Each is fetched before it is believed. */
  readonly deleted?: readonly IdValue[] | undefined;
  /** The moment that this page is true of, where the provider says; the next pass's `since` starts from the first. */
  readonly asOf?: Date | undefined;
  /** The cursor of the next page; `undefined` or `null` says that the list is complete. */
  readonly next?: string | null | undefined;
}

/** How long an API that contradicts an event, or itself, is given to catch up (I4, I13). */
export interface Freshness {
  /** Delay before the first retry, in milliseconds; it doubles from there. @default 500 */
  readonly firstRetryMs?: number | undefined;
  /** How long after the first fetch the last one is made and believed, in milliseconds. 0: at once. @default 30_000 */
  readonly believeAfterMs?: number | undefined;
}

/** What stops a mass deletion that is none (I7). */
export interface ShrinkGuard {
  /** Deletions of one connection's resource up to this number are always let through. @default 50 */
  readonly count?: number | undefined;
  /** Above `count`: up to this share of the objects that the index holds. @default 0.2 */
  readonly share?: number | undefined;
}

export interface ResourceDefinition<T, Incremental extends boolean = boolean> {
  /** Any Standard Schema (zod, valibot, arktype, …). Its output is what handlers receive. */
  // oxlint-disable-next-line typescript/no-explicit-any -- what a schema takes in is nobody's business here
  readonly schema: StandardSchemaV1<any, T>;
  /** The object's id. */
  readonly idOf: (object: T) => IdValue;
  /** The object's version, where the provider has one. Omitted, or `null`: content alone decides what is a change. */
  readonly versionOf?: ((object: T) => Version | null | undefined) | undefined;
  /** Orders versions that are neither instants nor integers. */
  readonly compareVersions?: CompareVersions | undefined;
  /** Reads one object. `undefined`, or an HttpError with a status in `gone`, says that it does not exist. */
  readonly fetch: (id: string, context: Context) => Promise<unknown>;
  /** Reads several objects. Ids that it leaves out are fetched singly. */
  readonly fetchMany?: ((ids: string[], context: Context) => Promise<readonly unknown[]>) | undefined;
  /** Most ids of one `fetchMany`. @default 100 */
  readonly batchSize?: number | undefined;
  /** Lists the resource page by page, oldest change first where the API lets one choose. */
  readonly list?: ((args: ListArguments, context: Context) => Promise<Page>) | undefined;
  /**
   * `"full"`: rows are whole objects, and differing ones go to the handler without a fetch. `"summary"`: rows are
   * `{ id, version? }`, and differing ones are fetched. @default "full"
   */
  readonly listItems?: "full" | "summary" | undefined;
  /** What of an object counts as a change. @default the schema's output */
  readonly contentOf?: ((object: T) => unknown) | undefined;
  /** Whether `list` understands `since`. @default true where there is a `list` */
  readonly incremental?: Incremental | undefined;
  /** What a full pass compares where rows are full: `"version"` where equal versions are known to mean equal content. @default "content" */
  readonly compare?: "content" | "version" | undefined;
  /** Raise it when `schema` or `contentOf` change. @default 1 */
  readonly revision?: number | undefined;
  /** After `revision` was raised: take over the new hashes quietly, or hand everything to the handler again. @default "adopt" */
  readonly onRevision?: "adopt" | "handle" | undefined;
  /** Statuses by which the API says that an object does not exist. @default [404, 410] */
  readonly gone?: readonly number[] | undefined;
  /** Rows a page. @default 100 */
  readonly pageSize?: number | undefined;
  /** Least time between two fetches of one object, in milliseconds. @default 0 */
  readonly coalesceMs?: number | undefined;
  /** Which pass an event without `objectId` brings forward. @default "incremental", or "full" where that is impossible */
  readonly onHint?: "incremental" | "full" | undefined;
  readonly freshness?: Freshness | undefined;
  /** `false`: any number of deletions is let through. */
  readonly shrinkGuard?: ShrinkGuard | false | undefined;
  /** How far `since` reaches back behind the last complete pass, in milliseconds. @default 300_000 */
  readonly overlapMs?: number | undefined;
}

/** A resource with its defaults filled in. Made by {@link defineResource}. */
export interface Resource<T, Incremental extends boolean = boolean> extends ResourceDefinition<
  T,
  Incremental
> {
  readonly batchSize: number;
  readonly listItems: "full" | "summary";
  readonly incremental: Incremental;
  readonly compare: "content" | "version";
  readonly revision: number;
  readonly onRevision: "adopt" | "handle";
  readonly gone: readonly number[];
  readonly pageSize: number;
  readonly coalesceMs: number;
  readonly onHint: "incremental" | "full";
  readonly freshness: Readonly<Record<keyof Freshness, number>>;
  readonly shrinkGuard: Readonly<Record<keyof ShrinkGuard, number>> | false;
  readonly overlapMs: number;
}

/** A resource of any shape, where only the path's own needs matter. */
// oxlint-disable-next-line typescript/no-explicit-any -- the object's type is erased here; the schema checks it at run time
export type AnyResource = Resource<any, boolean>;

/** The type of a resource's objects; `any` where the resource's own type is not known. */
// oxlint-disable-next-line typescript/no-explicit-any -- an engine whose providers' types are not known hands over anything
export type ObjectOf<R> = [R] extends [never] ? any : R extends Resource<infer T, boolean> ? T : never;

/**
 * Defines a resource.
 * @throws TrueupError `OPTION_INVALID`, naming the field
 */
export function defineResource<Schema extends StandardSchemaV1, const Incremental extends boolean = true>(
  definition: Omit<ResourceDefinition<StandardSchemaV1.InferOutput<Schema>, Incremental>, "schema"> & {
    readonly schema: Schema;
  },
): Resource<StandardSchemaV1.InferOutput<Schema>, Incremental> {
  requireSchema(definition.schema);
  requireFunction(definition.fetch, "fetch");
  requireFunction(definition.idOf, "idOf");
  for (const name of ["list", "fetchMany", "versionOf", "contentOf", "compareVersions"] as const) {
    if (definition[name] !== undefined) requireFunction(definition[name], name);
  }
  const incremental = (definition.incremental ?? definition.list !== undefined) as Incremental;
  return Object.freeze({
    ...definition,
    batchSize: wholeNumber(definition.batchSize ?? 100, "batchSize", 1),
    listItems: definition.listItems ?? "full",
    incremental,
    compare: definition.compare ?? "content",
    revision: wholeNumber(definition.revision ?? 1, "revision", 0),
    onRevision: definition.onRevision ?? "adopt",
    gone: definition.gone ?? [404, 410],
    pageSize: wholeNumber(definition.pageSize ?? 100, "pageSize", 1),
    coalesceMs: wholeNumber(definition.coalesceMs ?? 0, "coalesceMs", 0),
    onHint: incremental ? (definition.onHint ?? "incremental") : "full",
    freshness: {
      firstRetryMs: wholeNumber(definition.freshness?.firstRetryMs ?? 500, "freshness.firstRetryMs", 1),
      believeAfterMs: wholeNumber(
        definition.freshness?.believeAfterMs ?? 30_000,
        "freshness.believeAfterMs",
        0,
      ),
    },
    shrinkGuard: shrinkGuard(definition.shrinkGuard),
    overlapMs: wholeNumber(definition.overlapMs ?? 300_000, "overlapMs", 0),
  });
}

function shrinkGuard(
  guard: ShrinkGuard | false | undefined,
): Readonly<Record<keyof ShrinkGuard, number>> | false {
  if (guard === false) return false;
  const share = guard?.share ?? 0.2;
  if (!(share >= 0 && share <= 1))
    throw invalidOption("a resource's `shrinkGuard.share` must be from 0 to 1");
  return { count: wholeNumber(guard?.count ?? 50, "shrinkGuard.count", 0), share };
}

function requireSchema(schema: unknown): void {
  const standard = (schema as StandardSchemaV1 | undefined)?.["~standard"];
  if (typeof standard?.validate !== "function") {
    throw invalidOption(
      "a resource's `schema` must be a Standard Schema (zod 3.24 or later, valibot 1, arktype 2, …)",
    );
  }
}

function requireFunction(value: unknown, name: string): void {
  if (typeof value !== "function") throw invalidOption(`a resource's \`${name}\` must be a function`);
}

function wholeNumber(value: number, name: string, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw invalidOption(
      `a resource's \`${name}\` must be a whole number of at least ${least}, not ${String(value)}`,
    );
  }
  return value;
}
