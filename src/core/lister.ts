/**
 * Reads a resource's list page by page: asks the adapter, checks what came, and reads one page ahead.
 *
 * @module
 */

import type { ApiClients } from "./api.ts";
import type { Deadlines } from "./deadline.ts";
import { TrueupError } from "./errors.ts";
import { objectIdText, type Scope } from "./event.ts";
import { checkedEvidence, idOfObject } from "./fetcher.ts";
import { repeats, type CycleState } from "./pass.ts";
import type { AnyResource, Page, SummaryRow } from "./resource.ts";
import { asError } from "./retry.ts";
import type { Evidence } from "./verdict.ts";
import { encodeVersion, type EncodedVersion } from "./version.ts";

/** A row of a page: a whole object, a summary, or one that its schema refuses (then only a fetch can tell). */
export type Row =
  | { readonly id: string; readonly kind: "object"; readonly evidence: Evidence & { kind: "object" } }
  | { readonly id: string; readonly kind: "summary"; readonly version: EncodedVersion | null }
  | { readonly id: string; readonly kind: "refused"; readonly error: Error };

export interface ListedPage {
  /** The store's counter before the page was requested. */
  readonly mark: number;
  /** One per id: of rows that come twice on a page the last counts. */
  readonly rows: readonly Row[];
  /** Ids that the provider says are deleted. */
  readonly deleted: readonly string[];
  /** Rows whose id could not be read. */
  readonly unreadable: readonly Error[];
  readonly next: string | null;
  /** What is remembered of the cursors up to `next`. */
  readonly cycle: CycleState;
  /** When it was requested, by the provider's clock, in milliseconds since the epoch. */
  readonly asOf: number | undefined;
}

type ReadPage = Omit<ListedPage, "cycle">;

export interface ListerOptions {
  readonly apis: ApiClients;
  readonly deadlines: Deadlines;
  readonly fetchTimeoutMs: number;
}

export interface ListRequest {
  readonly scope: Scope;
  readonly resource: AnyResource;
  readonly since: number | null;
  readonly limit: number;
  readonly cursor: string | null;
  readonly cycle: CycleState;
  /** Reads the store's counter; before each request. */
  readonly mark: () => Promise<number>;
  /** Hears of each call of `list`. */
  readonly onRequest: () => void;
  /** Aborts a request that is under way. */
  readonly signal: AbortSignal;
}

/** Yields pages to the end of the list, requesting the next one while its caller works on the last. */
export async function* listPages(
  request: ListRequest,
  options: ListerOptions,
): AsyncGenerator<ListedPage, void, void> {
  const cycle = { ...request.cycle };
  let emptyPages = 0;
  let pending: Promise<ReadPage> | undefined = readPage(request, request.cursor, options);
  while (pending !== undefined) {
    const page: ReadPage = await pending;
    if (page.next !== null && repeats(cycle, page.next)) {
      throw new TrueupError(
        "CURSOR_REPEATED",
        `the list of ${request.scope.provider}.${request.scope.resource} repeats the cursor ${cursorText(page.next)}`,
      );
    }
    emptyPages = page.rows.length + page.deleted.length === 0 ? emptyPages + 1 : 0;
    if (emptyPages > MAX_EMPTY_PAGES) {
      throw new TrueupError(
        "LIST_INVALID",
        `the list of ${request.scope.provider}.${request.scope.resource} has had no row for ${MAX_EMPTY_PAGES} pages`,
      );
    }
    pending = page.next === null ? undefined : readPage(request, page.next, options);
    // A failure of the page ahead is its own turn's business, even if this generator is left before.
    pending?.catch(() => {});
    yield { ...page, cycle: { ...cycle } };
  }
}

/** Links, which some lists have for cursors, may hold a secret in path or query (I12). */
function cursorText(cursor: string): string {
  return cursor.includes("://") ? "(a URL)" : JSON.stringify(cursor.split("?", 1)[0]?.slice(0, 80));
}

async function readPage(
  request: ListRequest,
  cursor: string | null,
  options: ListerOptions,
): Promise<ReadPage> {
  const { resource, scope } = request;
  const { list } = resource;
  if (list === undefined)
    throw new TrueupError("NOT_SUPPORTED", `${scope.provider}.${scope.resource} has no \`list\``);
  const mark = await request.mark();
  let serverDate: number | undefined;
  request.onRequest();
  const page: unknown = await options.deadlines.run(
    options.fetchTimeoutMs,
    "API_TIMEOUT",
    () => `listing ${scope.provider}.${scope.resource}`,
    async (deadline) => {
      const api = options.apis.of(scope.provider, scope.connection);
      const signal = AbortSignal.any([deadline, request.signal]);
      const context = await api.context({
        signal,
        lane: "repair",
        onServerDate: (date) => (serverDate ??= date),
      });
      const since = request.since === null ? undefined : new Date(request.since);
      return list({ since, cursor: cursor ?? undefined, limit: request.limit }, context);
    },
  );
  const checked = checkPage(page, `${scope.provider}.${scope.resource}`);
  const rows = new Map<string, Row>();
  const unreadable: Error[] = [];
  for (const [i, item] of checked.items.entries()) {
    if (i % ROWS_A_TURN === ROWS_A_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
    const read = resource.listItems === "summary" ? summaryRow(item) : objectRow(resource, item);
    const row = read instanceof Promise ? await read : read;
    if (row instanceof Error) unreadable.push(row);
    else rows.set(row.id, row);
  }
  if (rows.size === 0 && unreadable.length > 0) {
    const why = `no row of the list of ${scope.provider}.${scope.resource} has an id that can be read`;
    throw new TrueupError("LIST_INVALID", why, { cause: unreadable[0] });
  }
  return {
    mark,
    rows: [...rows.values()],
    deleted: checked.deleted,
    unreadable,
    next: checked.next ?? null,
    asOf: checked.asOf?.getTime() ?? serverDate,
  };
}

/** Rows that are checked before others get their turn of the event loop. */
const ROWS_A_TURN = 1_000;

/** So many pages in a row without a row are no list: a cursor that is always new would go on for ever. */
const MAX_EMPTY_PAGES = 1_000;

/** Each page's checkpoint has the cursor, twice at times. */
const MAX_CURSOR_LENGTH = 65_536;

function checkPage(page: unknown, route: string): Page & { readonly deleted: readonly string[] } {
  const fail = (what: string) =>
    new TrueupError("LIST_INVALID", `the list of ${route} must return { items, next? }: ${what}`);
  if (typeof page !== "object" || page === null)
    throw fail(`it returned ${page === null ? "null" : typeof page}`);
  const { items, next, deleted, asOf } = page as Partial<Page>;
  if (!Array.isArray(items)) throw fail("`items` is no array");
  if (next !== undefined && next !== null && (typeof next !== "string" || next === "")) {
    throw fail("`next` must be a non-empty string, or undefined or null at the end");
  }
  if (typeof next === "string" && next.length > MAX_CURSOR_LENGTH) {
    throw fail(`\`next\` is longer than ${MAX_CURSOR_LENGTH} characters`);
  }
  if (deleted !== undefined && !Array.isArray(deleted)) throw fail("`deleted` is no array of ids");
  if (asOf !== undefined && (!(asOf instanceof Date) || Number.isNaN(asOf.getTime())))
    throw fail("`asOf` is no valid Date");
  try {
    return { items, next, deleted: (deleted ?? []).map(objectIdText), asOf };
  } catch (thrown) {
    throw fail(`\`deleted\`: ${asError(thrown).message}`);
  }
}

function summaryRow(item: unknown): Row | Error {
  try {
    const { id, version } = item as SummaryRow;
    return { id: objectIdText(id), kind: "summary", version: encodeVersion(version) };
  } catch (thrown) {
    return asError(thrown);
  }
}

/** A promise only where the schema needs one. */
function objectRow(resource: AnyResource, item: unknown): Row | Error | Promise<Row | Error> {
  try {
    const evidence = checkedEvidence(resource, item, "row");
    if (!(evidence instanceof Promise)) return acceptedRow(resource, evidence);
    return evidence
      .then((made) => acceptedRow(resource, made))
      .catch((thrown: unknown) => refusedRow(resource, item, thrown));
  } catch (thrown) {
    return refusedRow(resource, item, thrown);
  }
}

function acceptedRow(resource: AnyResource, evidence: Evidence & { kind: "object" }): Row {
  return { id: idOfObject(resource, evidence.object), kind: "object", evidence };
}

function refusedRow(resource: AnyResource, item: unknown, thrown: unknown): Row | Error {
  const error = asError(thrown);
  try {
    return { id: objectIdText(resource.idOf(item)), kind: "refused", error };
  } catch {
    return error;
  }
}
