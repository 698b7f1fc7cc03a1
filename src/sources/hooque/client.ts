/**
 * Requests to Hooque: each with the token, none to anywhere but the queue's own origin.
 *
 * @module
 */

import type { Dispatcher } from "undici";
import { sleep, type Clock } from "../../core/clock.ts";
import { HttpError, TrueupError } from "../../core/errors.ts";
import { type Answer, exchange } from "../../http/exchange.ts";
import type { Target } from "../../http/path.ts";
import { clampPause, retryAfterMs } from "../../http/rate-headers.ts";
import type { Nack } from "../queue/driver.ts";
import { type HooqueMessage, payloadHeaders, readMetaHeaders } from "./message.ts";

const SETTLE_TIMEOUT_MS = 10_000;
const NEXT_TIMEOUT_MS = 60_000;
/** Its own answers to a settling are short, and nobody reads them. */
const MAX_SETTLE_BYTES = 65_536;
const MAX_RATE_PAUSE_MS = 60_000;
/** Statuses that say that the delivery is no longer ours. */
const LOST: ReadonlySet<number> = new Set([404, 409, 410]);

export interface HooqueClientOptions {
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  /** The queue's `…/next`, or its `…/stream`. */
  readonly url: URL;
  readonly token: string;
  readonly maxBodyBytes: number;
}

export class HooqueClient {
  readonly options: HooqueClientOptions;

  constructor(options: HooqueClientOptions) {
    this.options = options;
  }

  get headers(): Record<string, string> {
    return { authorization: `Bearer ${this.options.token}`, "user-agent": "trueup" };
  }

  /** The next message, or `undefined` where there is none now. */
  async next(signal: AbortSignal): Promise<HooqueMessage | undefined> {
    const { clock, maxBodyBytes, url } = this.options;
    const answer = await this.#request("GET", url, {
      timeoutMs: NEXT_TIMEOUT_MS,
      maxBodyBytes,
      signal,
      accept: "*/*",
    });
    const takenAt = clock.monotonic();
    if (answer.status === 204) return undefined;
    if (answer.status === 429) {
      const pauseMs = clampPause(retryAfterMs(answer.headers, clock.now()) ?? 0);
      await sleep(clock, Math.min(pauseMs, MAX_RATE_PAUSE_MS), signal).catch(() => {});
      return undefined;
    }
    if (answer.status !== 200) throw refusal(answer.status, "GET", url);
    const meta = readMetaHeaders(answer.headers, url);
    return {
      id: meta.messageId,
      attempt: meta.attempts,
      meta,
      takenAt,
      headers: payloadHeaders(answer.headers),
      body: answer.bytes,
      unreadable: answer.unreadable,
    };
  }

  async ack({ meta }: HooqueMessage): Promise<void> {
    await this.#settle(meta.ackUrl, undefined);
  }

  async nack({ meta }: HooqueMessage, { reason }: Nack): Promise<void> {
    await this.#settle(meta.nackUrl, reason);
  }

  async reject({ meta }: HooqueMessage, reason: string): Promise<void> {
    await this.#settle(meta.rejectUrl, reason);
  }

  /** @throws TrueupError `LEASE_LOST`, `UNAUTHORIZED`, `HTTP_STATUS`, `NETWORK`, `API_TIMEOUT` */
  async #settle(url: URL, reason: string | undefined): Promise<void> {
    const { status } = await this.#request("POST", url, {
      timeoutMs: SETTLE_TIMEOUT_MS,
      maxBodyBytes: MAX_SETTLE_BYTES,
      // What became of a message is told also while the source stops.
      signal: new AbortController().signal,
      accept: "application/json",
      body: reason === undefined ? undefined : JSON.stringify({ reason }),
    });
    if (status >= 200 && status < 300) return;
    if (LOST.has(status)) {
      throw new TrueupError("LEASE_LOST", `Hooque says ${status}: the delivery is no longer ours`);
    }
    throw refusal(status, "POST", url);
  }

  async #request(
    method: string,
    url: URL,
    request: {
      readonly timeoutMs: number;
      readonly maxBodyBytes: number;
      readonly signal: AbortSignal;
      readonly accept: string;
      readonly body?: string | undefined;
    },
  ): Promise<Answer> {
    const { accept, body, ...rest } = request;
    return await exchange(this.options.dispatcher, this.options.clock, {
      ...rest,
      method,
      target: targetOf(url),
      headers: {
        ...this.headers,
        accept,
        ...(body === undefined ? undefined : { "content-type": "application/json" }),
      },
      body,
      name: nameOf(method, url),
    });
  }
}

export function targetOf(url: URL): Target {
  return { origin: url.origin, wirePath: url.pathname + url.search, href: url.href, label: url.pathname };
}

/** Without the query, which may hold a token. */
export function nameOf(method: string, url: URL): string {
  return `Hooque ${method} ${url.pathname}`;
}

export function refusal(status: number, method: string, url: URL): TrueupError {
  if (status === 401 || status === 403) {
    return new TrueupError(
      "UNAUTHORIZED",
      `Hooque refuses the token (${status}): check \`token\`, or HOOQUE_TOKEN, and that it is the one of this queue`,
    );
  }
  const hint = status === 404 ? ": is `url` the queue's `…/next`?" : "";
  return new HttpError(status, `${nameOf(method, url)} was answered with ${status}${hint}`);
}
