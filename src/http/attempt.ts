/**
 * One attempt at a request: its headers and target, the hops of a redirect, what was kept from before, and what the
 * answer means.
 *
 * @module
 */

import type { ApiCall, ApiResponse, Headers, Query } from "../core/api.ts";
import { HttpError, RateLimitError, TrueupError } from "../core/errors.ts";
import type { ApiDefinition, Connection, ResponseClass } from "../core/provider.ts";
import { secretMembers, secretSegments } from "../core/secrets.ts";
import { abortable } from "../core/abortable.ts";
import type { ConnectionState, Prepared, Shared } from "./connection.ts";
import { type Answer, exchange, isRedirect, isTrueupError, named, provesUnsent } from "./exchange.ts";
import { DEFAULT_HEADERS, mergeHeaders, serverDate } from "./headers.ts";
import { type ApiBase, parseBase, redirectTarget, resolveTarget, type Target } from "./path.ts";
import { PermitSpent } from "./limiter.ts";
import type { Permit } from "./rate-gate.ts";
import { pauseOf, retryAfterMs } from "./rate-headers.ts";
import { decode } from "./response-body.ts";
import { Repeatable } from "./retries.ts";
import { asksForItself, type Kept, validatorKey } from "./validators.ts";
import { isIdempotent, verdictOf } from "./verdict.ts";

/** RFC 9110 §15.4 leaves the number to the client; a longer chain is a loop or a mistake. */
const MAX_REDIRECTS = 5;
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_MAX_BODY_BYTES = 10_485_760;

/** Thrown by an attempt whose credentials were refused. */
export class Refused extends Error {
  readonly error: HttpError;

  constructor(error: HttpError) {
    super(error.message);
    this.error = error;
  }

  /** What the caller gets when refreshed credentials were refused too. */
  final(): TrueupError<"UNAUTHORIZED"> {
    return new TrueupError("UNAUTHORIZED", `${this.error.message}, also with refreshed credentials`, {
      cause: this.error,
    });
  }
}

export interface AttemptOptions {
  readonly shared: Shared;
  readonly state: ConnectionState;
  readonly api: ApiDefinition<unknown>;
  readonly call: ApiCall;
  readonly prepared: Prepared;
  readonly connection: Connection;
}

export class Attempt {
  readonly #options: AttemptOptions;

  constructor(options: AttemptOptions) {
    this.#options = options;
  }

  /** @throws {@link Repeatable} and {@link Refused} for its callers; otherwise as `ApiClient` promises */
  async perform(): Promise<ApiResponse<unknown>> {
    const { api, connection, prepared, shared, state } = this.#options;
    const { request } = prepared;
    const baseUrl = typeof api.baseUrl === "function" ? api.baseUrl(connection) : api.baseUrl;
    const base = parseBase(baseUrl, state.provider);
    const headers = await this.#headers();
    shared.learn(state, "api.baseUrl", secretSegments(base.path));
    let target = resolveTarget(base, request.path, request.query);
    for (let hops = 0; ; hops += 1) {
      const hop = this.#conditionally(target, headers);
      const answer = await this.#exchange(
        target,
        { ...headers, ...hop.kept?.condition },
        hop.kept !== undefined,
      );
      if (answer.status === 304) return this.#notModified(answer, target, hop);
      if (!isRedirect(answer.status)) return this.#settle(answer, target, hop);
      target = this.#follow(base, target, answer, hops);
    }
  }

  /** Made for each attempt, since some are signed with the time. */
  async #headers(): Promise<Headers> {
    const { api, call, connection, prepared, shared, state } = this.#options;
    const fromProvider =
      typeof api.headers === "function"
        ? await abortable(Promise.resolve(api.headers(connection)), call.signal)
        : api.headers;
    const contentType = prepared.body?.contentType;
    const fromBody = contentType === undefined ? undefined : { "content-type": contentType };
    const headers = mergeHeaders(DEFAULT_HEADERS, fromBody, fromProvider, prepared.request.headers);
    shared.learn(state, "api.headers", secretMembers(headers));
    shared.learn(state, "api.query", secretMembers(queryMembers(prepared.request.query)));
    return headers;
  }

  #conditionally(target: Target, headers: Headers): Hop {
    const { prepared, shared, state } = this.#options;
    const own = asksForItself(headers);
    if (prepared.method !== "GET" || prepared.body !== undefined || own)
      return { key: undefined, kept: undefined, own };
    // By the hop's own URL: what a redirect leads to today may be another object with the same ETag.
    const key = validatorKey(state.key, target.href, headers);
    return { key, kept: shared.validators.find(key), own };
  }

  /** One exchange, in its turn and in everybody's sight. */
  async #exchange(target: Target, headers: Headers, conditional: boolean): Promise<Answer> {
    const { api, call, prepared, shared, state } = this.#options;
    const { method } = prepared;
    const dispatcher = await shared.dispatcher();
    const request = {
      method,
      target,
      headers,
      body: prepared.body?.content,
      timeoutMs: api.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxBodyBytes: api.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES,
      signal: call.signal,
      name: this.#name(target),
    };
    const observed = async (permit?: Permit): Promise<Answer> => {
      const beganAt = shared.clock.monotonic();
      const ended = (status: number) =>
        shared.hooks.emit("api.response", {
          provider: state.provider,
          connection: state.id,
          method,
          path: target.label,
          status,
          notModified: conditional && status === 304,
          durationMs: shared.clock.monotonic() - beganAt,
        });
      try {
        const answer = await exchange(dispatcher, shared.clock, { ...request, mayLeave: permit?.leave });
        ended(answer.status);
        return answer;
      } catch (error) {
        if (!(error instanceof PermitSpent)) ended(0); // else it has not begun
        throw error;
      }
    };
    try {
      const answer = await state.limiter.run(observed, call);
      const date = serverDate(answer.headers);
      if (date !== undefined) call.onServerDate?.(date);
      call.onAnswer?.({ status: answer.status, headers: answer.headers });
      return answer;
    } catch (error) {
      if (!isTrueupError(error) || (error.code !== "NETWORK" && error.code !== "API_TIMEOUT")) throw error;
      throw isIdempotent(method) || provesUnsent(error) ? new Repeatable(error) : error;
    }
  }

  #follow(base: ApiBase, from: Target, answer: Answer, hops: number): Target {
    const { method } = this.#options.prepared;
    const refuse = (why: string) =>
      new TrueupError("REDIRECT_REFUSED", `${this.#name(from)} redirects: ${why}`);
    if (method !== "GET" && method !== "HEAD") throw refuse(`a ${method} is not sent again elsewhere`);
    if (hops >= MAX_REDIRECTS) throw refuse(`more than ${MAX_REDIRECTS} in a row`);
    const location = answer.headers["location"];
    const target = location === undefined ? undefined : redirectTarget(base, from, location);
    if (target === undefined)
      throw refuse("not to a place below the provider's `api.baseUrl`, so credentials may not go there");
    return target;
  }

  #notModified(answer: Answer, target: Target, { kept, own }: Hop): ApiResponse<unknown> {
    const { status } = answer;
    if (kept !== undefined) {
      // What was kept, with the headers brought up to date (RFC 9111 §3.2); decoded again, so that the caller owns it.
      const newer = Object.entries(answer.headers).filter(([name]) => !name.startsWith("content-"));
      const headers = { ...kept.headers, ...Object.fromEntries(newer) };
      return { status: 200, headers, data: decode(kept.bytes, kept.headers), url: target.href };
    }
    if (own) return { status, headers: answer.headers, data: undefined, url: target.href };
    throw new TrueupError(
      "RESPONSE_INVALID",
      `${this.#name(target)} answered 304 though nothing conditional was asked`,
    );
  }

  #settle(answer: Answer, target: Target, { key }: Hop): ApiResponse<unknown> {
    const { api, prepared, shared, state } = this.#options;
    const { status, headers, bytes } = answer;
    const { data, undecodable } = this.#decode(answer, target);
    const override = api.classify?.({ status, headers, data });
    const verdict = override ?? verdictOf(status, headers);
    if (verdict !== "success") {
      const error = new HttpError(status, `${this.#name(target)} answered ${status}`, { data });
      // Where the adapter itself says "retry", it answers for it.
      throw this.#failure(verdict, error, headers, override === "retry" || isIdempotent(prepared.method));
    }
    if (undecodable !== undefined) throw undecodable;
    // An empty body is kept by nobody: it was cut off, most likely, and each 304 would bring it back.
    if (key !== undefined && status === 200 && data !== undefined)
      shared.validators.keep(key, state.key, headers, bytes);
    return { status, headers, data, url: target.href };
  }

  #failure(verdict: ResponseClass, error: HttpError, headers: Headers, mayRepeat: boolean): Error {
    if (verdict === "fail") return error;
    if (verdict === "auth") return new Refused(error);
    const now = this.#options.shared.clock.now();
    if (verdict === "rate-limit") {
      const pauseMs = pauseOf(headers, now);
      return new RateLimitError(pauseMs, `${error.message}: wait ${pauseMs} ms`, { cause: error });
    }
    const repeatable = new Repeatable(error, error.status === 503 ? retryAfterMs(headers, now) : undefined);
    return mayRepeat ? repeatable : repeatable.final();
  }

  #decode(
    answer: Answer,
    target: Target,
  ): { readonly data: unknown; readonly undecodable: TrueupError | undefined } {
    if (answer.unreadable !== undefined) return { data: undefined, undecodable: answer.unreadable };
    try {
      return { data: decode(answer.bytes, answer.headers), undecodable: undefined };
    } catch (error) {
      if (!isTrueupError(error)) throw error;
      return { data: undefined, undecodable: named(error, this.#name(target)) };
    }
  }

  /** What the request is called in messages. Neither query nor headers: both may hold secrets. */
  #name(target: Target): string {
    return `${this.#options.state.provider}: ${this.#options.prepared.method} ${target.label}`;
  }
}

function queryMembers(query: Query | string | undefined): Query {
  return typeof query === "string" ? Object.fromEntries(new URLSearchParams(query)) : (query ?? {});
}

/** How one hop is asked for. */
interface Hop {
  /** Under which its answer may be kept. */
  readonly key: string | undefined;
  readonly kept: Kept | undefined;
  /** Whether the caller asks conditionally by itself. */
  readonly own: boolean;
}
