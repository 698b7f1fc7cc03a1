/**
 * The API of a fake provider: what is asked, what is answered, and what goes wrong between the two.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { type FakeAnswer, type FakeRequest, jsonAnswer } from "./answer.ts";
import type { RateBudget } from "./budget.ts";
import type { EventFeed } from "./event-feed.ts";
import type { Chances } from "./faults.ts";
import type { FakeObject, Objects } from "./objects.ts";

export interface ApiParts {
  readonly objects: Objects;
  readonly feed: EventFeed;
  readonly chances: Chances;
  readonly budget: RateBudget;
  /** Resources, which are also the names of their paths. */
  readonly resources: readonly string[];
  readonly authorization: string | undefined;
  readonly now: () => number;
  /** The provider's own clock. */
  readonly providerNow: () => number;
}

/** What was asked of the API, and how it was answered. */
export interface FakeTraffic {
  /** Requests in all, those without an answer included. */
  requests: number;
  /** Requests for one object, or for several by their ids. */
  fetches: number;
  /** Requests for a page of a list. */
  pages: number;
  /** Answers 304. */
  notModified: number;
  /** Answers 429. */
  rateLimited: number;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
const EVENTS_PATH = "events";

export class FakeApi {
  readonly traffic: FakeTraffic = { requests: 0, fetches: 0, pages: 0, notModified: 0, rateLimited: 0 };
  readonly #parts: ApiParts;
  #outage: { readonly until: number; readonly refuses: boolean } | undefined;

  constructor(parts: ApiParts) {
    this.#parts = parts;
  }

  /** Begins an outage. */
  fail(ms: number): void {
    const { chances, now } = this.#parts;
    this.#outage = { until: now() + ms, refuses: chances.random() < 0.5 };
  }

  calm(): void {
    this.#outage = undefined;
  }

  answer(request: FakeRequest): FakeAnswer {
    this.traffic.requests += 1;
    const trouble = this.#trouble();
    if (trouble !== undefined) return trouble;
    const { budget, chances, now, providerNow } = this.#parts;
    const refusal = budget.take(now(), providerNow(), chances);
    if (refusal !== undefined) {
      this.traffic.rateLimited += 1;
      return this.#dated(jsonAnswer(429, { error: "too many requests" }, refusal));
    }
    const answer = this.#dated(this.#conditional(request, this.#route(request)));
    return this.#damaged(answer);
  }

  /** What happens instead of an answer. */
  #trouble(): FakeAnswer | undefined {
    const { chances, now } = this.#parts;
    if (chances.hits("outage")) this.fail(chances.upTo("outageMs"));
    if (this.#outage !== undefined && now() < this.#outage.until)
      return this.#outage.refuses ? { kind: "refused" } : this.#dated(jsonAnswer(503, { error: "outage" }));
    if (chances.hits("hang")) return { kind: "silent" };
    if (chances.hits("serverError"))
      return this.#dated(jsonAnswer(chances.pick([500, 502, 503, 504]), { error: "something broke" }));
    return undefined;
  }

  #damaged(answer: FakeAnswer & { kind: "answer" }): FakeAnswer {
    const { chances } = this.#parts;
    if (chances.hits("reset")) {
      const brokenAfter = Math.floor(chances.random() * answer.body.length);
      return brokenAfter === 0 ? { kind: "reset" } : { ...answer, brokenAfter };
    }
    if (answer.status === 200 && chances.hits("truncatedBody")) {
      return { ...answer, body: answer.body.slice(0, Math.floor(chances.random() * answer.body.length)) };
    }
    return answer;
  }

  #dated(answer: FakeAnswer & { kind: "answer" }): FakeAnswer & { kind: "answer" } {
    const { budget, now, providerNow } = this.#parts;
    const date = new Date(providerNow()).toUTCString();
    return { ...answer, headers: { date, ...budget.headers(now(), providerNow()), ...answer.headers } };
  }

  #conditional(
    request: FakeRequest,
    answer: FakeAnswer & { kind: "answer" },
  ): FakeAnswer & { kind: "answer" } {
    if (answer.status !== 200) return answer;
    const etag = `W/"${createHash("sha256").update(answer.body).digest("base64url")}"`;
    const headers = { ...answer.headers, etag };
    if (request.headers["if-none-match"] !== etag) return { ...answer, headers };
    this.traffic.notModified += 1;
    return { ...answer, status: 304, headers, body: "" };
  }

  #route({ method, url, headers }: FakeRequest): FakeAnswer & { kind: "answer" } {
    const { authorization, feed, resources } = this.#parts;
    if (authorization !== undefined && headers["authorization"] !== authorization)
      return jsonAnswer(401, { error: "who are you?" });
    if (method !== "GET") return jsonAnswer(405, { error: "GET alone" });
    const parts = url.pathname.split("/").filter((part) => part !== "");
    const [last, before] = [parts.at(-1) ?? "", parts.at(-2) ?? ""];
    if (resources.includes(before)) return this.#one(before, decodeURIComponent(last));
    if (last === EVENTS_PATH && !resources.includes(last)) {
      const cursor = url.searchParams.get("cursor");
      if (cursor !== null && this.#parts.chances.hits("expiredCursor"))
        return jsonAnswer(410, { error: "this cursor has expired" });
      return feed.answer(cursor);
    }
    if (!resources.includes(last)) return jsonAnswer(404, { error: "there is no such path" });
    const ids = url.searchParams.get("ids");
    return ids === null ? this.#page(last, url.searchParams) : this.#several(last, ids.split(","));
  }

  #one(resource: string, id: string): FakeAnswer & { kind: "answer" } {
    this.traffic.fetches += 1;
    const object = this.#shown(resource, id);
    return object === undefined ? jsonAnswer(404, { error: "not found" }) : jsonAnswer(200, object);
  }

  #several(resource: string, ids: readonly string[]): FakeAnswer & { kind: "answer" } {
    this.traffic.fetches += 1;
    return jsonAnswer(200, { items: ids.flatMap((id) => this.#shown(resource, id) ?? []) });
  }

  /** `{ items, next, deleted? }`, by id, or, with `since`, by the order of changes. */
  #page(resource: string, query: URLSearchParams): FakeAnswer & { kind: "answer" } {
    this.traffic.pages += 1;
    const { chances } = this.#parts;
    const cursor = query.get("cursor");
    if (cursor !== null && chances.hits("expiredCursor"))
      return jsonAnswer(chances.pick([400, 404, 410]), { error: "this cursor has expired" });
    const asked = query.get("since");
    const after = cursor === null ? "" : Buffer.from(cursor, "base64url").toString("utf8");
    // A cursor goes on with the list that it is of: one that ignored its filter ignores it to its end.
    const ignores = asked !== null && chances.hits("ignoredFilter");
    const filters = cursor === null ? !ignores : after.startsWith(FILTERED);
    const since = asked === null || !filters ? null : Date.parse(asked);
    if (since !== null && Number.isNaN(since)) return jsonAnswer(400, { error: "`since` is no date" });
    const limit = Math.min(MAX_LIMIT, Number(query.get("limit") ?? DEFAULT_LIMIT));
    const rows = this.#rows(resource, since).filter((row) => row.key > after);
    const page = rows.slice(0, limit);
    const last = page.at(-1);
    const next = last === undefined || rows.length <= limit ? null : cursorOf(last.key);
    const repeated = next !== null && cursor !== null && chances.hits("repeatedCursor");
    const items = page.flatMap(({ object }) =>
      object === undefined || chances.hits("missingRows") ? [] : [object],
    );
    const deleted = page.flatMap(({ id, object }) => (object === undefined ? [id] : []));
    return jsonAnswer(200, {
      items,
      next: repeated ? cursor : next,
      ...(since === null ? undefined : { deleted }),
    });
  }

  /** What a list has to show, in its order. A row without an object was deleted since. */
  #rows(
    resource: string,
    since: number | null,
  ): { key: string; id: string; object: FakeObject | undefined }[] {
    const { chances, now, objects } = this.#parts;
    const rows = objects.ids(resource).flatMap((id) => {
      const state = objects.visible(resource, id, now(), chances.hits("staleRead") ? 1 : 0);
      if (state === undefined) return [];
      const { object, version } = state;
      if (since === null) return object === undefined ? [] : [{ key: `${WHOLE}${id}`, id, object }];
      const changedAt = object === undefined ? state.changedAt : Date.parse(object.updated_at);
      // The id after the version: with `keepsVersion` several objects may well have the same.
      const key = `${FILTERED}${String(version).padStart(15, "0")} ${id}`;
      return changedAt < since ? [] : [{ key, id, object }];
    });
    return rows.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  }

  #shown(resource: string, id: string): FakeObject | undefined {
    const { chances, now, objects } = this.#parts;
    return objects.visible(resource, id, now(), chances.hits("staleRead") ? 1 : 0)?.object;
  }
}

/** With what the places in a list begin: one with a filter is in another order than one without. */
const FILTERED = "since ";
const WHOLE = "all ";

function cursorOf(key: string): string {
  return Buffer.from(key, "utf8").toString("base64url");
}
