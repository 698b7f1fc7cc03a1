/**
 * `list` for the usual ways of paging, one line each.
 *
 * In all of them `query` says what a page is asked for by, `items` finds the rows in the body (a body that is an array is
 * its rows), and a page's `next` is a string that only the helper itself understands.
 *
 * @module
 */

import type { ApiResponse, Context, Headers, Query } from "../core/api.ts";
import { TrueupError } from "../core/errors.ts";
import type { IdValue, ListArguments, Page } from "../core/resource.ts";
import { isSecretName, textsIn } from "../core/secrets.ts";
import { nextTarget } from "./link-header.ts";
import { appendQuery } from "./query.ts";

/** A resource's `list`. */
export type ListFunction = (args: ListArguments, context: Context) => Promise<Page>;

// oxlint-disable-next-line typescript/no-explicit-any -- JSON from outside
type Data = any;

export interface PagesOptions<Args extends ListArguments> {
  /** What is listed, below the provider's `baseUrl`. */
  readonly path: string | ((args: Args, context: Context) => string);
  /** What `undefined` and `null` mean here: left out, so `since` and `cursor` need no condition. */
  readonly query?: ((args: Args) => Query) | undefined;
  readonly headers?: Headers | undefined;
  /** The rows of a body. @default the body itself */
  readonly items?: ((data: Data) => readonly unknown[]) | undefined;
  /** Ids that the page says are deleted. @default none */
  readonly deleted?: ((data: Data) => readonly IdValue[] | undefined) | undefined;
  /** The moment that the page is true of. @default unknown */
  readonly asOf?: ((data: Data) => Date | undefined) | undefined;
}

export interface LinkPagesOptions extends PagesOptions<ListArguments> {
  /** The next page's URL, where it is in the body and not in a `Link` header. `undefined` or `null`: the list is complete. */
  readonly next?: ((data: Data) => string | null | undefined) | undefined;
}

/**
 * Follows links: the `Link` header's `rel="next"` (RFC 8288), or one in the body. The link carries the query of the next
 * page. It must lead below the provider's `baseUrl`, or the next page is refused with `PATH_REFUSED`.
 *
 * A cursor is stored. So of a link that leads to the list's own path only the query is kept, and no parameter that is a
 * credential: what `query` gives for it is sent again with each page.
 *
 * @example
 * list: linkPages({ path: "issues", query: ({ since, limit }) => ({ since, per_page: limit }) })
 * @example
 * list: linkPages({ path: "contacts", items: (data) => data.results, next: (data) => data.paging.next })
 */
export function linkPages(options: LinkPagesOptions): ListFunction {
  return async (args, context) => {
    const response = await requestLinked(options, args, context);
    const link =
      options.next === undefined ? nextTarget(response.headers["link"]) : options.next(response.data);
    const next =
      link == null || link === ""
        ? undefined
        : linkCursor(absoluteLink(link, response), response.url, options, args, context);
    return pageOf(options, response, next);
  };
}

export interface CursorPagesOptions extends PagesOptions<ListArguments> {
  /** The next page's cursor. `undefined`, `null` or `""`: the list is complete. */
  readonly next: (data: Data, headers: Headers) => string | number | bigint | null | undefined;
}

/**
 * Passes on a cursor that each page gives for the next, such as a token or the last id. `query` is asked for the first
 * page with `cursor: undefined`.
 *
 * @example
 * list: cursorPages({
 *   path: "customers",
 *   query: ({ cursor, limit }) => ({ starting_after: cursor, limit }),
 *   items: (data) => data.data,
 *   next: (data) => (data.has_more ? data.data.at(-1)?.id : undefined),
 * })
 */
export function cursorPages(options: CursorPagesOptions): ListFunction {
  return async (args, context) => {
    const response = await requestPage(options, args, context);
    const next = options.next(response.data, response.headers) ?? "";
    return pageOf(options, response, next === "" ? undefined : String(next));
  };
}

export interface PageNumberArguments extends ListArguments {
  /** Which page is asked for. */
  readonly page: number;
}

export interface PageNumbersOptions extends PagesOptions<PageNumberArguments> {
  readonly query: (args: PageNumberArguments) => Query;
  /** The number of the first page. @default 1 */
  readonly first?: number | undefined;
  /**
   * How many pages there are, where the provider says.
   * @default unknown: the list ends with its first empty page. Not with a short one, since providers cut `limit` silently.
   */
  readonly pages?: ((data: Data, headers: Headers) => number | undefined) | undefined;
}

/**
 * Counts pages. Rows that are created or deleted meanwhile shift the rest from page to page, so that a pass may miss
 * some: prefer cursors or links where the provider has them.
 *
 * @example
 * list: pageNumbers({ path: "projects", query: ({ since, page, limit }) => ({ updated_after: since, page, per_page: limit }) })
 */
export function pageNumbers(options: PageNumbersOptions): ListFunction {
  return async (args, context) => {
    const first = options.first ?? 1;
    const page = wholeCursor(args.cursor, first);
    const response = await requestPage(options, { ...args, page }, context);
    const found = pageOf(options, response, String(page + 1));
    const pages = options.pages?.(response.data, response.headers);
    const complete = pages === undefined ? found.items.length === 0 : page - first + 1 >= pages;
    return complete ? { ...found, next: undefined } : found;
  };
}

export interface OffsetArguments extends ListArguments {
  /** How many rows come before the page. */
  readonly offset: number;
}

export interface OffsetPagesOptions extends PagesOptions<OffsetArguments> {
  readonly query: (args: OffsetArguments) => Query;
  /** How many rows there are in all, where the provider says. @default unknown: the list ends with its first empty page */
  readonly total?: ((data: Data, headers: Headers) => number | undefined) | undefined;
}

/**
 * Counts rows, by what each page really held. Shifts as {@link pageNumbers} does.
 *
 * @example
 * list: offsetPages({
 *   path: "deals",
 *   query: ({ offset, limit }) => ({ start: offset, limit }),
 *   items: (data) => data.items,
 *   total: (data) => data.total,
 * })
 */
export function offsetPages(options: OffsetPagesOptions): ListFunction {
  return async (args, context) => {
    const offset = wholeCursor(args.cursor, 0);
    const response = await requestPage(options, { ...args, offset }, context);
    const found = pageOf(options, response, undefined);
    const next = offset + found.items.length;
    const total = options.total?.(response.data, response.headers);
    const complete = found.items.length === 0 || (total !== undefined && next >= total);
    return complete ? found : { ...found, next: String(next) };
  };
}

function requestPage<Args extends ListArguments>(
  options: PagesOptions<Args>,
  args: Args,
  context: Context,
): Promise<ApiResponse<Data>> {
  const { query, headers } = options;
  return context.api.request<Data>({ path: pathOf(options, args, context), query: query?.(args), headers });
}

function pageOf<Args extends ListArguments>(
  { items, deleted, asOf }: PagesOptions<Args>,
  { data }: ApiResponse<Data>,
  next: string | undefined,
): Page {
  const rows: unknown = items === undefined ? data : items(data);
  if (!Array.isArray(rows)) {
    throw new TrueupError(
      "LIST_INVALID",
      items === undefined
        ? "the body is not an array; say with `items` where its rows are"
        : "`items` found no array",
    );
  }
  return { items: rows as unknown[], deleted: deleted?.(data), asOf: asOf?.(data), next };
}

function requestLinked(
  options: LinkPagesOptions,
  args: ListArguments,
  context: Context,
): Promise<ApiResponse<Data>> {
  const { cursor } = args;
  if (cursor === undefined) return requestPage(options, args, context);
  const { headers } = options;
  const secret = secretQuery(options, args, context);
  if (!cursor.startsWith("?")) return context.api.request({ path: cursor, query: secret, headers });
  const query = appendQuery(cursor, secret);
  return context.api.request({ path: pathOf(options, firstOf(args), context), query, headers });
}

/** What the next page is asked for by, as it is stored: without secrets as far as they can be told (I12). */
function linkCursor(
  link: string,
  page: string,
  options: LinkPagesOptions,
  args: ListArguments,
  context: Context,
): string {
  const [target = "", ...rest] = link.split("?");
  const given = secretQuery(options, args, context);
  const credentials = textsIn(context.connection.credentials);
  const pairs = rest
    .join("?")
    .split("&")
    .filter((pair) => {
      const [name = "", value = ""] = [...new URLSearchParams(pair)][0] ?? [];
      return !Object.hasOwn(given, name) && !(value !== "" && credentials.has(value));
    });
  const query = rest.length === 0 ? "" : `?${pairs.join("&")}`;
  // After a redirect the page's own path is not the one that was asked for: then the link has to stand for itself.
  const asked = pathOf(options, firstOf(args), context).replace(/^\/+/, "");
  const own = query !== "" && target === page.split("?", 1)[0] && target.endsWith(`/${asked}`);
  return own ? query : `${target}${query}`;
}

/** The parameters of `query` that are secret by their name, or that are credentials. */
function secretQuery(options: LinkPagesOptions, args: ListArguments, context: Context): Query {
  const credentials = textsIn(context.connection.credentials);
  const query = Object.entries(options.query?.(firstOf(args)) ?? {});
  return Object.fromEntries(
    query.filter(
      ([name, value]) =>
        value !== undefined && value !== null && (isSecretName(name) || credentials.has(String(value))),
    ),
  );
}

/** The arguments of the first page, which has no cursor. */
function firstOf(args: ListArguments): ListArguments {
  return { ...args, cursor: undefined };
}

function pathOf<Args extends ListArguments>(
  { path }: PagesOptions<Args>,
  args: Args,
  context: Context,
): string {
  return typeof path === "function" ? path(args, context) : path;
}

function absoluteLink(link: string, response: ApiResponse<unknown>): string {
  const { url } = response;
  if (URL.canParse(link)) return link;
  if (!URL.canParse(link, url)) {
    throw new TrueupError("LIST_INVALID", "the link to the next page is no URL");
  }
  return new URL(link, url).href;
}

function wholeCursor(cursor: string | undefined, first: number): number {
  if (cursor === undefined) return first;
  if (!/^\d{1,15}$/.test(cursor)) {
    throw new TrueupError("LIST_INVALID", `${JSON.stringify(cursor.slice(0, 60))} is no cursor of this list`);
  }
  return Number(cursor);
}
