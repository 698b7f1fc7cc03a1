/**
 * Where a request goes: a path below the provider's base URL, and nowhere else.
 *
 * Paths are built by adapters from ids (`contacts/${id}`) and from links that a provider sent, so both are taken for
 * hostile: nothing may leave the base URL, and nothing may quietly become another request.
 *
 * @module
 */

import type { Query } from "../core/api.ts";
import { invalidOption, TrueupError } from "../core/errors.ts";
import { appendQuery } from "./query.ts";

/** A provider's base URL, taken apart once. */
export interface ApiBase {
  readonly origin: string;
  /** As it was written: what the empty path means (`/graphql` stays without a slash). */
  readonly path: string;
  /** What every other path begins with; ends with a slash. */
  readonly prefix: string;
}

/** One place below an {@link ApiBase}. */
export interface Target {
  readonly origin: string;
  /** Path and query, as they go on the wire. */
  readonly wirePath: string;
  readonly href: string;
  /**
   * For people: the path below the base, without its query. The base's own path is left out too, since some APIs carry
   * their secret there (`https://api.example/bot<token>/`).
   */
  readonly label: string;
}

/** @throws TrueupError `OPTION_INVALID` when it is no absolute http(s) URL, or has credentials, a query or a fragment */
export function parseBase(baseUrl: string, provider: string): ApiBase {
  const url = typeof baseUrl === "string" && URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw invalidOption(`provider "${provider}": \`api.baseUrl\` must be an absolute http(s) URL`);
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw invalidOption(
      `provider "${provider}": \`api.baseUrl\` must have no credentials, query or fragment; use \`api.headers\``,
    );
  }
  const path = url.pathname;
  return { origin: url.origin, path, prefix: path.endsWith("/") ? path : `${path}/` };
}

const ABSOLUTE = /^[a-z][a-z0-9+.-]*:\/\//i;

/**
 * Finds the target of a request.
 *
 * - A relative path goes below the base, with or without one leading slash. `?` and `#` in it are refused, since an id
 *   such as `a?role=admin` would become another request; queries belong in `query`.
 * - An absolute URL must have the base's origin and lie below its path. It may have a query: this is how a provider's
 *   `next` links are followed.
 * - Refused in both: dot segments however they are encoded, backslashes, control characters, broken escapes.
 *
 * @throws TrueupError `PATH_REFUSED`
 */
export function resolveTarget(base: ApiBase, path: string, query?: Query | string): Target {
  if (typeof path !== "string") throw refused("a path must be a string");
  const url = ABSOLUTE.test(path) ? absolute(base, path) : relative(base, path);
  if (url.origin !== base.origin || !isBelow(base, url)) throw refused("it leaves the base URL", path);
  return targetOf(
    base,
    url,
    typeof query === "string" ? url.search + linkQuery(query) : appendQuery(url.search, query),
  );
}

/** A query that a provider wrote: nothing in it may end it, nor vanish from it. */
function linkQuery(query: string): string {
  if (query === "") return "";
  if (!query.startsWith("?")) throw refused("a query as text begins with a `?`");
  if (query.includes("#") || CONTROL.test(query) || !query.isWellFormed())
    throw refused("its query has a `#`, or a character that no link can have");
  return new URL(query, "http://base.invalid").search;
}

/** Where a redirect leads, or `undefined` where it must not be followed: another origin, or outside the base. */
export function redirectTarget(base: ApiBase, from: Target, location: string): Target | undefined {
  if (!URL.canParse(location, from.href)) return undefined;
  const url = new URL(location, from.href);
  if (url.origin !== base.origin || url.username !== "" || url.password !== "") return undefined;
  if (!isBelow(base, url) || climbs(url.pathname)) return undefined;
  return targetOf(base, url, url.search);
}

/**
 * A path with its values encoded, each as one segment or a part of one: use it wherever an id may hold anything but
 * letters, digits, `-` and `_`.
 *
 * @example
 * fetch: (id, { api }) => api.get(urlPath`contacts/${id}/notes`)
 *
 * @throws TrueupError `PATH_REFUSED` for a value that is empty, `.` or `..`, or that is no text
 */
export function urlPath(
  literals: TemplateStringsArray,
  ...values: readonly (string | number | bigint)[]
): string {
  return literals.reduce((path, literal, index) => path + encodeSegment(values[index - 1]) + literal);
}

function encodeSegment(value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "bigint") {
    throw refused(
      `a value in a path must be a string or a number, not ${value === null ? "null" : typeof value}`,
    );
  }
  const text = String(value);
  if (text === "" || text === "." || text === "..")
    throw refused("a value in a path is empty or a dot segment", text);
  if (!text.isWellFormed()) throw refused("a value in a path is not valid Unicode");
  return encodeURIComponent(text);
}

function relative(base: ApiBase, path: string): URL {
  requireSafe(path, path);
  if (path.includes("#")) throw refused("it has a `#`; encode ids with urlPath", path);
  if (path.includes("?")) throw refused("it has a `?`; pass `query`, and encode ids with urlPath", path);
  if (path.startsWith("//")) throw refused("it names another host", path);
  // An empty id would turn one object's path into another endpoint's.
  if (path.includes("//")) throw refused("it has an empty segment", path);
  const rest = path.startsWith("/") ? path.slice(1) : path;
  // The URL parser would drop blanks at the end, and with them a part of an id.
  return new URL(base.origin + (rest === "" ? base.path : base.prefix + rest.replaceAll(" ", "%20")));
}

function absolute(base: ApiBase, text: string): URL {
  const afterScheme = text.slice(text.indexOf("://") + 3);
  const authority = /^[^/?#]*/.exec(afterScheme)?.[0] ?? "";
  const path = /^[^?#]*/.exec(afterScheme.slice(authority.length))?.[0] ?? "";
  requireSafe(path, text);
  // The parser drops some control characters wherever they are, so that the URL checked would not be the one written.
  if (CONTROL.test(text)) throw refused("it has a control character", text);
  if (/[@\\]/.test(authority) || authority === "") throw refused("its host is unclear", base.origin);
  if (text.includes("#")) throw refused("it has a fragment", text);
  if (!URL.canParse(text)) throw refused("it is no URL", text);
  return new URL(text);
}

// oxlint-disable-next-line no-control-regex -- they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;

function requireSafe(path: string, shown: string): void {
  if (CONTROL.test(path)) throw refused("it has a control character", shown);
  if (path.includes("\\")) throw refused("it has a backslash", shown);
  if (!path.isWellFormed()) throw refused("it is not valid Unicode", shown);
  if (/%(?![0-9a-f]{2})/i.test(path))
    throw refused("it has a `%` that begins no escape; encode ids with urlPath", shown);
  if (climbs(path)) throw refused("it has a dot segment", shown);
}

/** `..;x` counts: some servers cut parameters off a segment before they resolve it. */
const DOT_SEGMENT = /(?:^|[/\\])\.{1,2}(?:;[^/\\]*)?(?=[/\\]|$)/;
const ESCAPES: Readonly<Record<string, string>> = {
  "%2e": ".",
  "%2f": "/",
  "%5c": "\\",
  "%25": "%",
  "%3b": ";",
};
/** Nobody encodes more often for a good reason. */
const MAX_ENCODINGS = 5;

/** Whether any server on the way, however often it decodes, could see a `.` or `..` segment. */
function climbs(path: string): boolean {
  let text = path;
  for (let round = 0; round < MAX_ENCODINGS; round += 1) {
    if (DOT_SEGMENT.test(text)) return true;
    const decoded = text.replace(
      /%(?:2e|2f|5c|25|3b)/gi,
      (escape) => ESCAPES[escape.toLowerCase()] ?? escape,
    );
    if (decoded === text) return false;
    text = decoded;
  }
  return true;
}

function isBelow(base: ApiBase, url: URL): boolean {
  return url.pathname === base.path || url.pathname.startsWith(base.prefix);
}

function targetOf(base: ApiBase, url: URL, search: string): Target {
  const wirePath = url.pathname + search;
  return {
    origin: base.origin,
    wirePath,
    href: base.origin + wirePath,
    label: `/${url.pathname.slice(base.prefix.length)}`,
  };
}

/** Shows the path without what may hold a secret, and not at any length. */
function refused(why: string, path?: string): TrueupError<"PATH_REFUSED"> {
  const shown = path === undefined ? "" : ` ${JSON.stringify(presentable(path).slice(0, 120))}`;
  return new TrueupError("PATH_REFUSED", `the path${shown} is refused: ${why}`);
}

/** Without the query; of a URL only the origin, since its path may repeat the base's, where some APIs have their secret. */
function presentable(path: string): string {
  if (!ABSOLUTE.test(path)) return path.split("?", 1)[0] ?? "";
  return URL.canParse(path) ? `${new URL(path).origin}/…` : "(a URL)";
}
