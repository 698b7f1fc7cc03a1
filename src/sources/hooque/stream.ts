/**
 * Hooque's stream of server-sent events, as messages that wait to be taken.
 *
 * @module
 */

import { createParser, type EventSourceParser } from "eventsource-parser";
import type { Readable } from "node:stream";
import { sleep, type Random } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import { asError, backoff } from "../../core/retry.ts";
import { Mailbox } from "../queue/mailbox.ts";
import { type HooqueClient, nameOf, refusal, targetOf } from "./client.ts";
import { type HooqueMessage, readStreamed } from "./message.ts";

export interface StreamOptions {
  readonly client: HooqueClient;
  readonly random: Random;
  /** Most messages that wait; the stream is not read on while there are so many. */
  readonly prefetch: number;
  /** A stream that is silent for this long is dead: Hooque sends keep-alives. */
  readonly idleTimeoutMs: number;
}

/** A stream that ends is opened again after a pause: random up to this, doubled while nothing comes. */
const REOPEN = { attempts: Infinity, minDelayMs: 500, maxDelayMs: 30_000 };
/** A stream that lasted this long was a good one, whatever came. */
const HEALTHY_MS = 30_000;
/** An event is a payload, escaped as JSON, and its metadata: an event of this many characters is none. */
const CHARACTERS_PER_BYTE = 6;
const MAX_META_CHARACTERS = 65_536;

/** Reads one stream after the other until it is closed. Its failures are those of who takes messages. */
export class HooqueStream {
  readonly #options: StreamOptions;
  readonly #waiting = new Mailbox<HooqueMessage>();
  readonly #closed = new AbortController();
  #reading: Promise<void> | undefined;
  /** Since when nobody took what is there: what lies in sockets and parsers may have come right then. */
  #stalledSince: number | undefined;
  #barren = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  /** @throws what the stream could not be opened for */
  take(limit: number, signal: AbortSignal): Promise<readonly HooqueMessage[]> {
    this.#reading ??= this.#readOn();
    return this.#waiting.take(limit, signal);
  }

  /** @returns what nobody took */
  async close(): Promise<readonly HooqueMessage[]> {
    this.#closed.abort(new TrueupError("STOPPED", "the source stops"));
    await this.#reading;
    return this.#waiting.empty();
  }

  /** Never rejects. */
  async #readOn(): Promise<void> {
    const { client, random } = this.#options;
    const { signal } = this.#closed;
    const { clock } = client.options;
    while (!signal.aborted) {
      const openedAt = clock.monotonic();
      try {
        await this.#readOnce(await this.#open());
      } catch (thrown) {
        if (signal.aborted) return;
        this.#waiting.fail(asError(thrown));
        return;
      }
      // Servers end streams now and then; that alone is no failure.
      this.#barren = clock.monotonic() - openedAt > HEALTHY_MS ? 1 : this.#barren + 1;
      await sleep(clock, backoff(this.#barren, REOPEN, random), signal).catch(() => {});
    }
  }

  async #open(): Promise<Readable> {
    const { client } = this.#options;
    const { dispatcher, url } = client.options;
    const target = targetOf(url);
    const response = await this.#inTime(
      dispatcher.request({
        origin: target.origin,
        path: target.wirePath,
        method: "GET",
        headers: { ...client.headers, accept: "text/event-stream", "accept-encoding": "identity" },
        signal: this.#closed.signal,
        headersTimeout: 0,
        bodyTimeout: 0,
      }),
    );
    const type = String(response.headers["content-type"] ?? "");
    if (response.statusCode === 200 && /^text\/event-stream\b/i.test(type)) return response.body;
    response.body.on("error", () => {}).destroy();
    if (response.statusCode !== 200) throw refusal(response.statusCode, "GET", url);
    throw new TrueupError("RESPONSE_INVALID", `${nameOf("GET", url)} is no event stream`);
  }

  /** @throws TrueupError `NETWORK`, `API_TIMEOUT` */
  async #inTime<T extends { readonly body: Readable }>(response: Promise<T>): Promise<T> {
    const { client, idleTimeoutMs } = this.#options;
    const { clock, url } = client.options;
    const over = new AbortController();
    const late = sleep(clock, idleTimeoutMs, AbortSignal.any([over.signal, this.#closed.signal]));
    try {
      return await Promise.race([
        response,
        late.then(() => {
          // Should it come after all, nobody reads it.
          response.then(
            ({ body }) => body.on("error", () => {}).destroy(),
            () => {},
          );
          throw new TrueupError(
            "API_TIMEOUT",
            `${nameOf("GET", url)} was not answered in ${idleTimeoutMs} ms`,
          );
        }),
      ]);
    } catch (cause) {
      if (cause instanceof TrueupError) throw cause;
      throw new TrueupError("NETWORK", `${nameOf("GET", url)} failed`, { cause });
    } finally {
      over.abort();
      late.catch(() => {});
    }
  }

  /**
   * Reads a stream to its end. That it broke off is the same as an end.
   * @throws what the server did wrong
   */
  async #readOnce(body: Readable): Promise<void> {
    const { clock } = this.#options.client.options;
    const parser = this.#parser();
    const decoder = new TextDecoder();
    let cancel = this.#watch(body);
    try {
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        cancel();
        parser.feed(decoder.decode(chunk, { stream: true }));
        if (this.#waiting.size >= this.#options.prefetch) {
          this.#stalledSince ??= clock.monotonic();
          await this.#untilTaken();
        } else {
          this.#stalledSince = undefined;
        }
        if (this.#closed.signal.aborted) return;
        cancel = this.#watch(body);
      }
    } catch (error) {
      if (error instanceof TrueupError) throw error;
    } finally {
      cancel();
      body.on("error", () => {}).destroy();
    }
  }

  #watch(body: Readable): () => void {
    const { client, idleTimeoutMs } = this.#options;
    return client.options.clock.setTimer(() => body.destroy(), idleTimeoutMs);
  }

  #parser(): EventSourceParser {
    const { clock, maxBodyBytes, url } = this.#options.client.options;
    return createParser({
      maxBufferSize: maxBodyBytes * CHARACTERS_PER_BYTE + MAX_META_CHARACTERS,
      onEvent: ({ data, event = "message" }) => {
        if (event !== "message") return;
        this.#barren = 0;
        this.#waiting.put(readStreamed(data, url, this.#stalledSince ?? clock.monotonic()));
      },
      onError: (error) => {
        if (error.type !== "max-buffer-size-exceeded") return;
        throw new TrueupError(
          "BODY_TOO_LARGE",
          `${nameOf("GET", url)} sent an event beyond any allowed payload`,
        );
      },
    });
  }

  async #untilTaken(): Promise<void> {
    while (this.#waiting.size >= this.#options.prefetch && !this.#closed.signal.aborted) {
      await this.#waiting.changed(this.#closed.signal);
    }
  }
}
