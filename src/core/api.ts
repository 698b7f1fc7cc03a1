/**
 * The provider's API as an adapter sees it. `http/` implements it; core only hands it on.
 *
 * @module
 */

import type { MaybePromise } from "./maybe-promise.ts";
import type { Connection } from "./provider.ts";
import type { LaneKind } from "./store.ts";

export type QueryValue = string | number | boolean | bigint | Date | null | undefined;
/** `undefined` and `null` are left out; an array is joined with commas; a Date is written as ISO 8601. */
export type Query = Readonly<Record<string, QueryValue | readonly QueryValue[]>>;
export type Headers = Readonly<Record<string, string>>;

export interface ApiRequest {
  /** @default "GET" */
  readonly method?: string | undefined;
  /** Relative to the provider's `baseUrl`, with or without a leading slash; or an absolute URL below it. */
  readonly path: string;
  /** Text is a query as it stands in a link, with its question mark. */
  readonly query?: Query | string | undefined;
  readonly headers?: Headers | undefined;
  /** An object is sent as JSON, a string or bytes as they are. */
  readonly body?: unknown;
}

export interface ApiResponse<T> {
  readonly status: number;
  /** Lower-case names; a header that came twice is joined with `", "`. */
  readonly headers: Headers;
  /** The decoded body: JSON where the response says so, text otherwise, `undefined` when empty. */
  readonly data: T;
  /** What answered, after redirects; relative links are relative to it. */
  readonly url: string;
}

/**
 * Requests under the connection's credentials and rate budget. Network errors and 5xx are retried for some seconds.
 * @throws HttpError, RateLimitError, or TrueupError with `UNAUTHORIZED`, `NETWORK`, `API_TIMEOUT`, `BODY_TOO_LARGE`,
 *   `RESPONSE_INVALID`, `REDIRECT_REFUSED`, `PATH_REFUSED`, `OPTION_INVALID` (the request itself is wrong) or `STOPPED`
 */
export interface ApiClient {
  /**
   * GET, and the decoded body. Conditional where an earlier answer had a validator; a 304 gives the earlier body. An
   * answer without a body is `RESPONSE_INVALID`: from a `fetch`, it would read as "this object is gone".
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON from outside; a schema checks it next
  readonly get: <T = any>(
    path: string,
    options?: { readonly query?: Query; readonly headers?: Headers },
  ) => Promise<T>;
  // oxlint-disable-next-line typescript/no-explicit-any -- see above
  readonly request: <T = any>(request: ApiRequest) => Promise<ApiResponse<T>>;
}

/** What `fetch`, `fetchMany`, `list` and `poll` receive beside their arguments. */
// oxlint-disable-next-line typescript/no-explicit-any -- a resource does not know which provider it will belong to
export interface Context<Credentials = any> {
  readonly api: ApiClient;
  readonly connection: Connection<Credentials>;
  /** Aborts when the result is not wanted any more. */
  readonly signal: AbortSignal;
  /** Runs a vendor SDK's call under the connection's rate budget. */
  readonly limited: <T>(call: () => Promise<T>) => Promise<T>;
}

/** What a call of `fetch`, `list`, … brings to each of its requests. */
export interface ApiCall {
  readonly signal: AbortSignal;
  /** Under a rate limit, live work goes first, and repair work has its share. */
  readonly lane: LaneKind;
  /** Hears the `Date` header of each answer, in milliseconds since the epoch. */
  readonly onServerDate?: ((epochMs: number) => void) | undefined;
  /** Hears of each answer as it came: 304 where the caller is given what was kept. */
  readonly onAnswer?: ((answer: { readonly status: number; readonly headers: Headers }) => void) | undefined;
}

/** One connection's side of the API client, as the worker and the reconciler use it. */
export interface ConnectionApi {
  /** A context for one call. */
  context(call: ApiCall): MaybePromise<Context>;
  /** True while more calls wait for the rate budget than it is worth leasing work for. */
  saturated(): boolean;
}

/** Finds or makes the client of a connection. */
export interface ApiClients {
  of(provider: string, connection: string): ConnectionApi;
  /** Forgets what is cached for a connection (its limiter, its validators). */
  forget(provider: string, connection: string): void;
  close(): Promise<void>;
}
