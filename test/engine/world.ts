import { createHmac } from "node:crypto";
import { z } from "zod";
import {
  defineProvider,
  defineResource,
  HttpError,
  hmacSignature,
  type Page,
  type ResourceDefinition,
  type SyncEvent,
  type WebhookDefinition,
} from "trueup";

export const noteSchema = z.object({ id: z.string(), text: z.string(), rev: z.number() });
export type Note = z.infer<typeof noteSchema>;

export const SECRET = "a secret of the world";

/** A provider without a network: its objects, what it was asked, and ways to make it misbehave. */
export class World {
  readonly notes = new Map<string, Note>();
  readonly calls: {
    kind: "fetch" | "fetchMany" | "list";
    ids: readonly string[];
    since?: Date | undefined;
    cursor?: string | undefined;
  }[] = [];
  /** Called before each answer; may wait or throw. */
  before: (call: World["calls"][number]) => void | Promise<void> = () => {};
  #rev = 0;

  put(id: string, text: string): Note {
    this.#rev += 1;
    const note = { id, text, rev: this.#rev };
    this.notes.set(id, note);
    return note;
  }

  remove(id: string): void {
    this.#rev += 1;
    this.notes.delete(id);
  }

  fetches(): number {
    return this.calls.filter((call) => call.kind !== "list").length;
  }

  readonly fetch = async (id: string): Promise<unknown> => {
    await this.#asked({ kind: "fetch", ids: [id] });
    const note = this.notes.get(id);
    if (note === undefined) throw new HttpError(404, `no note ${id}`);
    return { ...note };
  };

  readonly fetchMany = async (ids: string[]): Promise<unknown[]> => {
    await this.#asked({ kind: "fetchMany", ids });
    return ids.flatMap((id) => this.notes.get(id) ?? []);
  };

  readonly list = async ({
    since,
    cursor,
    limit,
  }: {
    since: Date | undefined;
    cursor: string | undefined;
    limit: number;
  }): Promise<Page> => {
    await this.#asked({ kind: "list", ids: [], since, cursor });
    const from = Number(cursor ?? 0);
    const all = [...this.notes.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const items = all.slice(from, from + limit).map((note) => ({ ...note }));
    return { items, next: from + limit < all.length ? String(from + limit) : undefined };
  };

  async #asked(call: World["calls"][number]): Promise<void> {
    this.calls.push(call);
    await this.before(call);
  }
}

/** What a test may want otherwise of the provider "notes". */
export interface NotesDefinition {
  readonly webhook?: Partial<WebhookDefinition<unknown>>;
  readonly ackTimeoutMs?: number;
}

/** The provider "notes" of a world. */
export function notesProvider(
  world: World,
  resource: Partial<ResourceDefinition<Note>> = {},
  { webhook, ...definition }: NotesDefinition = {},
) {
  return defineProvider({
    name: "notes",
    ...definition,
    webhook: {
      verify: hmacSignature({ secret: SECRET, header: "x-signature", algorithm: "sha256", encoding: "hex" }),
      events: (delivery) => delivery.json as SyncEvent[],
      ...webhook,
    },
    resources: {
      note: defineResource({
        schema: noteSchema,
        idOf: (note) => note.id,
        versionOf: (note) => note.rev,
        fetch: world.fetch,
        list: world.list,
        freshness: { firstRetryMs: 20, believeAfterMs: 60 },
        ...resource,
      }),
    },
  });
}

/** A signed request, as the provider sends it. */
export function signedRequest(events: readonly SyncEvent[], secret = SECRET): Request {
  const body = JSON.stringify(events);
  const signature = createHmac("sha256", secret).update(body).digest("hex");
  return new Request("http://receiver.example/hooks/notes", {
    method: "POST",
    body,
    headers: { "x-signature": signature, "content-type": "application/json" },
  });
}

/** A promise that somebody else resolves. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}
