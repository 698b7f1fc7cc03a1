/** The provider of crash tests: its objects, its API, its webhooks, and the ledger by which the rest is judged. */
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";

export const SECRET = "a secret of both";
export const noteSchema = z.object({ id: z.string(), text: z.string(), rev: z.number() });
type Note = z.infer<typeof noteSchema>;

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
  readonly #server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://provider.example");
    const id = url.pathname.split("/")[2];
    const body = id === undefined ? this.#page(url.searchParams) : this.notes.get(id);
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(body ?? {}));
  });
  #rev = 0;

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
    if (told) this.open.push({ id: `evt_${rev}`, objectId: id, rev, hint: kind });
  }

  /** Sends what is open, all at once, some of it twice. What is not answered with 2xx stays open. */
  async deliver(port: number): Promise<void> {
    await Promise.all(
      this.open.map(async (event, i) => {
        const repeated =
          i % 4 === 0 ? [this.#post(port, event), this.#post(port, event)] : [this.#post(port, event)];
        const answers = await Promise.all(repeated);
        if (!answers.includes(true)) return;
        this.open.splice(this.open.indexOf(event), 1);
        this.accepted.set(event.objectId, Math.max(event.rev, this.accepted.get(event.objectId) ?? 0));
      }),
    );
  }

  async #post(port: number, { id, objectId, hint, rev }: Event): Promise<boolean> {
    const body = JSON.stringify([{ id, resource: "note", objectId, hint, version: rev }]);
    const signature = createHmac("sha256", SECRET).update(body).digest("hex");
    const headers = { "x-signature": signature, "content-type": "application/json" };
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body, headers });
      await response.arrayBuffer();
      return response.ok;
    } catch {
      return false; // it died, or is not there yet
    }
  }

  #page(query: URLSearchParams): { items: Note[]; next: string | null } {
    const from = Number(query.get("cursor") ?? 0);
    const limit = Number(query.get("limit"));
    const all = [...this.notes.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return {
      items: all.slice(from, from + limit),
      next: from + limit < all.length ? String(from + limit) : null,
    };
  }
}
