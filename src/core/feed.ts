/**
 * One connection's feed: polls it, records what it tells, and moves its cursor behind what is recorded (I6).
 *
 * The cursor is written after the events are committed, and by whoever has recorded them. So two processes that poll
 * one feed by mistake, because a lock was lost in the middle of a page, repeat each other's pages and lose none.
 *
 * @module
 */

import { abortable } from "./abortable.ts";
import type { ApiCall, ApiClients } from "./api.ts";
import type { Clock, Random } from "./clock.ts";
import type { Deadlines } from "./deadline.ts";
import { TrueupError } from "./errors.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./options.ts";
import { nextInterval, pollIntervalMs, waitMs } from "./pace.ts";
import { newCycle, refusesCursor, repeats } from "./pass.ts";
import type { Pauses } from "./pauses.ts";
import {
  checkPage,
  feedKey,
  pageFingerprint,
  parseFeedRecord,
  type FeedRecord,
  type PollPage,
} from "./poll-page.ts";
import type { PollDefinition } from "./poll-source.ts";
import { afterFailure, asError, backoff, codeOf } from "./retry.ts";
import type { EventDelivery, Outcome } from "./source.ts";
import type { Store } from "./store.ts";

export interface FeedParts {
  readonly store: Store<unknown>;
  readonly apis: ApiClients;
  readonly pauses: Pauses;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly limits: Limits;
  /** Records a page's events, as those of any other source. */
  readonly accept: (delivery: EventDelivery) => Promise<Outcome>;
  /** Asks for full passes over all that the provider lists. */
  readonly askForPasses: (provider: string, connection: string) => Promise<void>;
}

/** A feed that always has more gives way to the interval after so many pages. */
const MOST_PAGES_A_TURN = 1_000;
/** A poll that failed is not tried again sooner: its backoff is drawn from zero on. */
const LEAST_RETRY_MS = 1_000;
/** How often a connection that is paused for longer is looked at, since it may be resumed before. */
const LOOK_MS = 60_000;

/** A page, and how it came. */
interface Answer extends PollPage {
  /** The API vouched that nothing has changed: each request was answered 304. */
  readonly notModified: boolean;
  /** What the API asked for with it. */
  readonly hintMs: number | undefined;
  readonly requestedAt: number;
}

/** What a turn found. */
interface Found {
  readonly events: boolean;
  readonly hintMs: number | undefined;
}

export class Feed {
  readonly #definition: PollDefinition;
  readonly #connection: string;
  readonly #parts: FeedParts;
  #nextAt = 0;
  #waitMs = 0;
  #intervalMs: number;
  #failures = 0;
  /** The page that was committed last, and the cursor that it was the answer to. */
  #committed: { readonly cursor: string | null; readonly fingerprint: string | undefined } | undefined;

  constructor(definition: PollDefinition, connection: string, parts: FeedParts) {
    this.#definition = definition;
    this.#connection = connection;
    this.#parts = parts;
    this.#intervalMs = definition.pace.everyMs;
  }

  /** Milliseconds until its next turn. */
  get dueInMs(): number {
    return Math.max(0, this.#nextAt - this.#parts.clock.monotonic());
  }

  /** Takes up what the store remembers of it. Where that cannot be read, its turn will tell. */
  async load(): Promise<void> {
    const { clock } = this.#parts;
    const record = await this.#record().catch(() => undefined);
    if (record === undefined) return;
    const { maxMs, minMs } = this.#definition.pace;
    this.#intervalMs = Math.min(maxMs, Math.max(minMs, record.intervalMs));
    this.#failures = record.failures;
    // By the wall clock, which may have been set back: then no wait is longer than it was meant to be.
    const leftMs = Math.min(record.nextAt - clock.now(), record.waitMs);
    this.#nextAt = clock.monotonic() + leftMs;
  }

  /**
   * Polls until it has caught up, and says when the next turn is. Rejects when the signal aborts, and never otherwise.
   * @param options `remember` writes that down also where the cursor did not move, for a process that will be gone
   */
  async turn(signal: AbortSignal, options: { readonly remember: boolean }): Promise<void> {
    try {
      const pausedMs = await this.#pausedMs();
      if (pausedMs > 0) {
        this.#wait(pausedMs);
        return;
      }
      const found = await this.#catchUp(signal);
      this.#parts.pauses.answered(this.#definition.provider, this.#connection);
      this.#failures = 0;
      this.#intervalMs = nextInterval(this.#intervalMs, found.events, this.#definition.pace);
      this.#wait(waitMs(this.#intervalMs, found.hintMs, this.#definition.pace, this.#parts.random));
    } catch (thrown) {
      signal.throwIfAborted();
      await this.#failed(asError(thrown));
    }
    if (options.remember) await this.#remember().catch(() => {}); // then it is polled sooner than it need be
  }

  async #catchUp(signal: AbortSignal): Promise<Found> {
    const cycle = newCycle();
    let events = false;
    for (let page = 1; ; page += 1) {
      const cursor = (await this.#record())?.cursor ?? null;
      const answer = await this.#ask(cursor, signal);
      const isNews = await this.#commit(cursor, answer, signal);
      events ||= isNews;
      const { hintMs, next } = answer;
      const moved = next !== undefined && next !== null && next !== cursor;
      if (answer.more === true && !moved && next !== null) throw this.#circle();
      const more = answer.more ?? (moved && answer.events.length > 0);
      if (!more || next === null || page === MOST_PAGES_A_TURN) return { events, hintMs };
      if (repeats(cycle, next as string)) throw this.#circle();
    }
  }

  /** Asks for the page behind a cursor; without one, if that is what the feed refuses. */
  async #ask(cursor: string | null, signal: AbortSignal): Promise<Answer> {
    let refused: unknown;
    try {
      const answer = await this.#poll(cursor, signal);
      if (cursor === null) return { ...answer, expired: false }; // there was nothing to expire
      if (!answer.expired || answer.next !== undefined) return answer;
    } catch (thrown) {
      if (cursor === null || !refusesCursor(thrown)) throw thrown;
      refused = thrown;
    }
    try {
      // The present end of the feed comes first, and the passes that are asked for then begin after it.
      const answer = await this.#poll(null, signal);
      return { ...answer, next: answer.next ?? null, expired: true };
    } catch (thrown) {
      // It is not the cursor that the API refuses, which therefore stays.
      throw refusesCursor(thrown) ? (refused ?? thrown) : thrown;
    }
  }

  async #poll(cursor: string | null, signal: AbortSignal): Promise<Answer> {
    const { clock, hooks } = this.#parts;
    const { name, provider } = this.#definition;
    const [startedAt, requestedAt] = [clock.monotonic(), clock.now()];
    let [exchanges, unmodified, events] = [0, 0, 0];
    let hintMs: number | undefined;
    let error: Error | undefined;
    const notModified = () => exchanges > 0 && exchanges === unmodified;
    try {
      const result = await this.#call(cursor, signal, (answer) => {
        exchanges += 1;
        if (answer.status === 304) unmodified += 1;
        hintMs = pollIntervalMs(answer.headers) ?? hintMs;
      });
      const page = checkPage(result);
      events = page.events.length;
      return {
        ...page,
        notModified: notModified(),
        hintMs: page.pollAfterMs ?? hintMs,
        requestedAt,
      };
    } catch (thrown) {
      error = asError(thrown);
      throw error;
    } finally {
      hooks.emit("poll", {
        provider,
        connection: this.#connection,
        source: name,
        events,
        notModified: notModified(),
        durationMs: clock.monotonic() - startedAt,
        error,
      });
    }
  }

  async #call(
    cursor: string | null,
    signal: AbortSignal,
    onAnswer: NonNullable<ApiCall["onAnswer"]>,
  ): Promise<unknown> {
    const { apis, deadlines, limits } = this.#parts;
    const { name, poll, provider } = this.#definition;
    const what = () => `polling ${name}`;
    return deadlines.run(limits.fetchTimeoutMs, "API_TIMEOUT", what, async (deadline) => {
      const both = AbortSignal.any([deadline, signal]);
      const context = await apis
        .of(provider, this.#connection)
        .context({ signal: both, lane: "live", onAnswer });
      return abortable(Promise.resolve(poll(context, { cursor: cursor ?? undefined })), signal);
    });
  }

  /** Records a page, and then how far that is. @returns whether it told anything new */
  async #commit(cursor: string | null, answer: Answer, signal: AbortSignal): Promise<boolean> {
    const { accept, askForPasses, hooks } = this.#parts;
    const { name, provider } = this.#definition;
    const connection = this.#connection;
    const fingerprint = pageFingerprint(answer);
    // What nobody has changed since this feed recorded it need not be recorded again. That the answer is one that
    // *this* feed has recorded is not the API's to know: another caller may have been given it first.
    if (answer.notModified && !answer.expired && this.#isCommitted(cursor, fingerprint)) return false;
    signal.throwIfAborted();
    let accepted = 0;
    if (answer.events.length > 0) {
      const outcome = await accept({
        provider,
        connection,
        origin: "poll",
        receivedAt: answer.requestedAt,
        events: answer.events,
      });
      if (outcome.status === "rejected" || outcome.status === "retry")
        throw outcome.error ?? new TrueupError("EVENT_INVALID", `the events of ${name} were not taken`);
      ({ accepted } = outcome);
    }
    if (answer.expired) {
      hooks.emit("warning", {
        code: "CURSOR_EXPIRED",
        message: `${name}: the feed does not know its cursor any more, so events may be lost; full passes are asked for, over all that ${provider} lists`,
        scope: { provider, connection },
      });
      await askForPasses(provider, connection);
    }
    signal.throwIfAborted();
    if (answer.next !== undefined && answer.next !== cursor) await this.#remember(answer.next);
    this.#committed = { cursor, fingerprint };
    return accepted > 0;
  }

  #isCommitted(cursor: string | null, fingerprint: string | undefined): boolean {
    const { cursor: asked, fingerprint: known } = this.#committed ?? {};
    return fingerprint !== undefined && fingerprint === known && asked === cursor;
  }

  async #failed(error: Error): Promise<void> {
    const { hooks, limits, pauses, random } = this.#parts;
    const { name, provider } = this.#definition;
    const scope = { provider, connection: this.#connection };
    this.#failures += 1;
    const policy = { ...limits.retry, attempts: Infinity };
    const after = afterFailure(error, this.#failures, policy, random);
    let retryInMs = LEAST_RETRY_MS;
    if (after.kind === "pause") {
      try {
        await pauses.obey(scope, after, codeOf(error));
        retryInMs = Math.max(retryInMs, await this.#pausedMs());
      } catch (thrown) {
        hooks.emit("error", { error: asError(thrown), during: "pausing a connection" });
      }
    } else if (after.kind === "retry") retryInMs = Math.max(retryInMs, after.delayMs);
    // What would be a dead letter is none here: the feed may be mended, and nothing is lost while it waits. Nor is
    // "release" an end: were this engine stopping, the signal would have said so.
    else retryInMs = Math.max(retryInMs, backoff(this.#failures, policy, random));
    this.#wait(retryInMs);
    hooks.emit("poll.failed", { ...scope, source: name, error, retryInMs });
  }

  /** How long the connection is paused, as far as it is worth waiting; 0 where it is not. */
  async #pausedMs(): Promise<number> {
    const { clock, store } = this.#parts;
    const pause = (await store.pauses()).find(
      ({ connection, provider }) => provider === this.#definition.provider && connection === this.#connection,
    );
    if (pause === undefined) return 0;
    return Math.max(0, Math.min(LOOK_MS, (pause.until ?? Infinity) - clock.now()));
  }

  #wait(delayMs: number): void {
    this.#waitMs = delayMs;
    this.#nextAt = this.#parts.clock.monotonic() + delayMs;
  }

  async #record(): Promise<FeedRecord | undefined> {
    return parseFeedRecord(await this.#parts.store.getCheckpoint(this.#key));
  }

  /** @param next where the cursor moves to; otherwise it stays, and only when the next turn is gets written */
  async #remember(next?: string | null): Promise<void> {
    const { clock, store } = this.#parts;
    const cursor = next === undefined ? ((await this.#record())?.cursor ?? null) : next;
    const record: FeedRecord = {
      cursor,
      nextAt: clock.now() + this.dueInMs,
      waitMs: this.#waitMs,
      intervalMs: this.#intervalMs,
      failures: this.#failures,
    };
    await store.setCheckpoint(this.#key, JSON.stringify(record));
  }

  get #key(): string {
    const { name, provider } = this.#definition;
    return feedKey(provider, this.#connection, name);
  }

  #circle(): TrueupError<"CURSOR_REPEATED"> {
    return new TrueupError(
      "CURSOR_REPEATED",
      `${this.#definition.name}: the feed says that there is more, and leads back to where it was`,
    );
  }
}
