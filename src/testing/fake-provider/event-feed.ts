/**
 * The feed of a fake provider's changes, for pollers.
 *
 * @module
 */

import { type FakeAnswer, jsonAnswer } from "./answer.ts";
import type { FakeChange } from "./objects.ts";

/** An event as the feed has it, and as the body of a webhook has it by default. */
export interface FakeEvent {
  readonly id: string;
  /** `contact.updated` */
  readonly type: string;
  /** The resource that the object belongs to. */
  readonly resource: string;
  readonly object_id: string;
  readonly version: number;
  /** ISO 8601, by the provider's clock. */
  readonly occurred_at: string;
}

const PAGE = 100;
/** Seconds that a poller should leave between two requests. */
const POLL_INTERVAL = "1";

export class EventFeed {
  readonly #kept: number;
  readonly #events: { readonly sequence: number; readonly event: FakeEvent }[] = [];
  #dropped = 0;

  /** @param kept how many events it remembers */
  constructor(kept: number) {
    this.#kept = kept;
  }

  add({ state }: FakeChange, event: FakeEvent): void {
    this.#events.push({ sequence: state.sequence, event });
    if (this.#events.length > this.#kept) this.#dropped = this.#events.shift()?.sequence ?? this.#dropped;
  }

  /**
   * `{ events, next, more }`. Without a cursor: none, and where to begin. One from before what is remembered is
   * answered 410.
   */
  answer(cursor: string | null): FakeAnswer & { kind: "answer" } {
    const headers = { "x-poll-interval": POLL_INTERVAL };
    const newest = this.#events.at(-1)?.sequence ?? 0;
    if (cursor === null) return jsonAnswer(200, { events: [], next: String(newest), more: false }, headers);
    const after = /^\d{1,15}$/.test(cursor) ? Number(cursor) : NaN;
    if (Number.isNaN(after)) return jsonAnswer(400, { error: "this is no cursor" }, headers);
    if (after < this.#dropped) return jsonAnswer(410, { error: "this cursor has expired" }, headers);
    const found = this.#events.filter(({ sequence }) => sequence > after);
    const page = found.slice(0, PAGE);
    const body = {
      events: page.map(({ event }) => event),
      next: String(page.at(-1)?.sequence ?? after),
      more: found.length > page.length,
    };
    return jsonAnswer(200, body, headers);
  }
}
