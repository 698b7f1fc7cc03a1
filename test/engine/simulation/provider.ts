import { z } from "zod";
import {
  defineProvider,
  defineResource,
  pollSource,
  standardWebhooks,
  type AnyProvider,
  type Context,
  type ListArguments,
  type ResourceDefinition,
  type Source,
  type SyncEvent,
} from "trueup";
import { FAKE_SECRET, type FakeEvent } from "trueup/testing";
import { accountOf, holderOf, RESOURCE } from "./accounts.ts";
import type { Scenario } from "./scenario.ts";

export const thingSchema = z.object({
  id: z.string(),
  /** Unique for each state of any object: by it the ledger finds the state again. */
  mark: z.string(),
  version: z.number(),
  updated_at: z.string(),
});
export type Thing = z.infer<typeof thingSchema>;

export const ROUTE = "fake.thing";
export const BASE_URL = "http://fake.example/v1/";
/** In which each request says for whom it is. */
export const ACCOUNT_HEADER = "x-account";
/** The type of events that name no object. */
export const TOUCHED = "thing.touched";
export const ATTEMPTS = 4;
/** The connection's secret, which nobody must ever be told (I12). */
export const CANARY = "canary-5f0c2e8b91d74a36";
export const MOST_EVENTS = 5;

/** What a broken variant says wrong of the provider. */
export interface AdapterMistake {
  readonly resource?: Partial<Pick<ResourceDefinition<Thing>, "fetch" | "freshness" | "gone" | "idOf">>;
  /** What it tells of a page of the feed. */
  readonly told?: (events: SyncEvent[]) => SyncEvent[];
}

/** The adapter for the fake provider, as the scenario wants it. */
export function thingProvider(scenario: Scenario, { resource: mistake }: AdapterMistake = {}): AnyProvider {
  const { versions } = scenario;
  const asListed = (thing: Thing): unknown =>
    scenario.listItems === "full" ? thing : { id: thing.id, ...summaryVersion(scenario, thing) };
  const thing = defineResource({
    schema: thingSchema,
    idOf: (object) => object.id,
    ...(versions === "none"
      ? undefined
      : { versionOf: (object: Thing) => (versions === "number" ? object.version : object.updated_at) }),
    fetch: (id, { api, connection }) => api.get(`${accountOf(connection.id).resource}/${id}`),
    ...(scenario.fetchMany
      ? {
          fetchMany: async (ids: string[], { api, connection }: Context) =>
            (await api.get<{ items: unknown[] }>(accountOf(connection.id).resource, { query: { ids } }))
              .items,
          batchSize: 3,
        }
      : undefined),
    list: async ({ cursor, limit, since }: ListArguments, { api, connection }) => {
      const { resource } = accountOf(connection.id);
      const page: { items: Thing[]; next: string | null; deleted?: string[] } = await api.get(resource, {
        query: { cursor, limit, since },
      });
      return { items: page.items.map(asListed), next: page.next, deleted: page.deleted };
    },
    listItems: scenario.listItems,
    incremental: scenario.incremental,
    coalesceMs: scenario.coalesceMs,
    pageSize: scenario.pageSize,
    ...mistake,
  });
  return defineProvider({
    name: "fake",
    credentials: z.object({ token: z.string() }),
    api: {
      baseUrl: BASE_URL,
      headers: ({ credentials, id }) => ({
        authorization: `Bearer ${credentials.token}`,
        [ACCOUNT_HEADER]: id,
      }),
      rateLimit: scenario.rateLimit,
    },
    webhook: {
      verify: standardWebhooks({ secret: FAKE_SECRET }),
      connection: ({ json }) => holderOf((json as FakeEvent).resource).connection,
      events: ({ json }) => [eventOf(scenario, json as FakeEvent)],
    },
    resources: { [RESOURCE]: thing },
  }) as AnyProvider;
}

/** Polls the provider's feed, which tells of the same events as its webhooks. */
export function thingFeed(scenario: Scenario, { told = (events) => events }: AdapterMistake = {}): Source {
  return pollSource({
    provider: "fake",
    every: "20s",
    poll: async ({ api, connection }, { cursor }) => {
      const page: { events: FakeEvent[]; next: string; more: boolean } = await api.get("events", {
        query: { cursor },
      });
      // Each account is shown the feed of all, and takes from it what is its own.
      const own = page.events.filter(({ resource }) => holderOf(resource).connection === connection.id);
      return {
        events: told(own.map((event) => eventOf(scenario, event))),
        next: page.next,
        more: page.more,
      };
    },
  });
}

function summaryVersion({ versions }: Scenario, thing: Thing): { version?: string | number } {
  if (versions === "none") return {};
  return { version: versions === "number" ? thing.version : thing.updated_at };
}

function eventOf({ hinted, versions }: Scenario, event: FakeEvent): SyncEvent {
  if (event.type === TOUCHED) return { id: event.id, resource: RESOURCE, type: event.type };
  const bare = { id: event.id, resource: RESOURCE, objectId: event.object_id, type: event.type };
  if (!hinted) return bare;
  const hint = event.type.endsWith(".deleted") ? "delete" : "upsert";
  if (versions === "none") return { ...bare, hint };
  return { ...bare, hint, version: versions === "number" ? event.version : event.occurred_at };
}
