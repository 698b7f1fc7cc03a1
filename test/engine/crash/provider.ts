/** The provider of crash tests: its objects, its API, its webhooks, and the ledger by which the rest is judged. */
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";

export const SECRET = "a secret of both";
export const noteSchema = z.object({ id: z.string(), text: z.string(), rev: z.number() });
type Note = z.infer<typeof noteSchema>;

/** How long a sender waits for its answer. */
const ANSWER_MS = 2_000;
const FEED_PAGE = 5;

interface Event {
  readonly id: string;
  readonly objectId: string;
  readonly rev: number;
  readonly hint: "upsert" | "delete";
}

export class CrashProvider implements AsyncDisposable {
  readonly notes = new Map<string, Note>();
  /** By object: the highest revision of which the service has said that it will see to it. */
  readonly accepted = new Map<string, number>();
  /** Events that nobody answered for yet. */
  readonly open: Event[] = [];
  /** All events in their order, as the feed has them. */
  readonly history: Event[] = [];
  /** Sees each request before it is answered; what it gives back is the answer. */
  onRequest: (url: URL) => object | undefined | Promise<object | undefined> = () => undefined;
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  #rev = 0;
  #repeats = 0;

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => void this.#server.close(() => resolve()));
  }

  /** Changes an object, or removes it. @param told Whether it sends a webhook: some are never sent. */
  change(id: string, kind: "upsert" | "delete", told: boolean): void {
    this.#rev += 1;
    const rev = this.#rev;
    if (kind === "delete") this.notes.delete(id);
    else this.notes.set(id, { id, text: `state ${rev}`, rev });
    const event = { id: `evt_${rev}`, objectId: id, rev, hint: kind };
    this.history.push(event);
    if (told) this.open.push(event);
  }

  /** Sends a webhook of an object as it is. */
  tellAgain(id: string): void {
    this.#repeats += 1;
    const { rev } = this.notes.get(id)!;
    this.open.push({ id: `again_${this.#repeats}`, objectId: id, rev, hint: "upsert" });
  }

  /**
   * Sends what is open, all at once, some of it twice. What is not answered with 2xx stays open.
   * @param port where to, or who says it for each request
   */
  async deliver(port: number | (() => number)): Promise<void> {
    const post = (event: Event) => this.#post(typeof port === "number" ? port : port(), event);
    await Promise.all(
      this.open.map(async (event, i) => {
        const answers = await Promise.all(i % 4 === 0 ? [post(event), post(event)] : [post(event)]);
        if (!answers.includes(true)) return;
        this.open.splice(this.open.indexOf(event), 1);
        this.accepted.set(event.objectId, Math.max(event.rev, this.accepted.get(event.objectId) ?? 0));
      }),
    );
  }

  async #post(port: number, event: Event): Promise<boolean> {
    const body = JSON.stringify([eventBody(event)]);
    const signature = createHmac("sha256", SECRET).update(body).digest("hex");
    const headers = { "x-signature": signature, "content-type": "application/json" };
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body, headers, signal });
      await response.arrayBuffer();
      return response.ok;
    } catch {
      return false; // it died, or is not there yet
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", "http://provider.example");
    const body = (await this.onRequest(url)) ?? this.#bodyFor(url);
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(body ?? {}));
  }

  #bodyFor({ pathname, searchParams }: URL): object | undefined {
    const [, what, id] = pathname.split("/");
    if (id !== undefined) return this.notes.get(id);
    return what === "feed" ? this.#feed(searchParams) : this.#page(searchParams);
  }

  #feed(query: URLSearchParams): { events: object[]; next: string } {
    const from = Number(query.get("cursor") ?? 0);
    const events = this.history.slice(from, from + FEED_PAGE);
    return { events: events.map(eventBody), next: String(from + events.length) };
  }

  #page(query: URLSearchParams): { items: Note[]; next: string | null } {
    const from = Number(query.get("cursor") ?? 0);
    const limit = Number(query.get("limit"));
    const all = [...this.notes.values()]
      .filter(({ id }) => !isLetter(id))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return {
      items: all.slice(from, from + limit),
      next: from + limit < all.length ? String(from + limit) : null,
    };
  }
}

/** No list has letters: of them, events alone tell. */
export function isLetter(id: string): boolean {
  return id.startsWith("letter");
}

function eventBody({ hint, id, objectId, rev }: Event): object {
  return { id, resource: isLetter(objectId) ? "letter" : "note", objectId, hint, version: rev };
}
