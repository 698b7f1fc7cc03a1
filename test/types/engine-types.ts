/**
 * What the compiler must accept and refuse. Nothing here runs: `npm run typecheck` is the test. Each
 * `@ts-expect-error` fails it by itself as soon as the line below it compiles.
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import {
  defineProvider,
  defineResource,
  headerToken,
  keyvStore,
  SyncEngine,
  type AnyEngine,
  type BatchHandler,
  type Change,
  type ChangeOf,
  type HandlerOf,
  type ReconcileReport,
  type Store,
  type SyncEvent,
  type TxOf,
} from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { z } from "zod";

/** True where two types are the very same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function holds<_Fact extends true>(): void;

// A Standard Schema that no library made.
interface Deal {
  readonly id: number;
  readonly amount: bigint;
}
const dealSchema: StandardSchemaV1<unknown, Deal> = {
  "~standard": {
    version: 1,
    vendor: "by hand",
    validate: (value) =>
      typeof value === "object" && value !== null && "id" in value
        ? { value: { id: Number(value.id), amount: 0n } }
        : { issues: [{ message: "no deal" }] },
  },
};

const contact = defineResource({
  schema: z.object({
    id: z.string(),
    email: z.string(),
    joined: z.string().transform((text) => new Date(text)),
  }),
  idOf: (object) => {
    holds<Same<typeof object, { id: string; email: string; joined: Date }>>(); // the output, not the input
    return object.id;
  },
  versionOf: ({ joined }) => joined,
  contentOf: ({ email }) => email,
  fetch: (id, { api }) => api.get(`contacts/${id}`),
  fetchMany: (ids, { api }) => api.get("contacts", { query: { ids } }),
  list: async ({ since, cursor, limit }, { api }) => {
    holds<Same<typeof since, Date | undefined>>();
    holds<Same<typeof cursor, string | undefined>>();
    holds<Same<typeof limit, number>>();
    return api.get("contacts", { query: { since, cursor, limit } });
  },
});

const deal = defineResource({
  schema: dealSchema,
  idOf: (object) => object.id,
  // @ts-expect-error -- a boolean is no version
  versionOf: (object) => object.amount > 0n,
  fetch: (id) => Promise.resolve({ id }),
  list: () => Promise.resolve({ items: [], next: null }),
  incremental: false,
});

const crm = defineProvider({
  name: "crm",
  credentials: z.object({ token: z.string() }),
  api: {
    baseUrl: (connection) => {
      // @ts-expect-error -- the credentials are those of the schema
      return connection.credentials.secret as string;
    },
    headers: (connection) => {
      holds<Same<typeof connection.credentials, { token: string }>>();
      return { authorization: connection.credentials.token };
    },
    rateLimit: { requests: 10, perMs: undefined, concurrent: undefined, repairShare: undefined },
  },
  webhook: {
    verify: (connection) => headerToken({ header: "x-token", secret: connection.credentials.token }),
    events: (delivery) => [{ resource: "contact", objectId: delivery.header("x-id") }],
  },
  resources: { contact, deal },
});

const mail = defineProvider({ name: "mail", resources: { contact } });

defineProvider({
  name: "wrong",
  // @ts-expect-error -- a webhook cannot be without a signature scheme
  webhook: { events: () => [] },
  resources: {},
});

const volatile = new SyncEngine({ providers: [crm, mail], store: keyvStore() });
const transactional = new SyncEngine({ providers: [crm], store: sqliteStore({ path: "sync.db" }) });
const byDefault = new SyncEngine({ providers: [crm] });

/** Routes are those of the providers, and bring their object's type along. */
export function routes(): void {
  volatile.handle("crm.contact", (change) => {
    if (change.kind === "upsert") holds<Same<typeof change.object.joined, Date>>();
    else holds<Same<typeof change.object, undefined>>();
    // @ts-expect-error -- a deletion has no object
    return change.object.email;
  });
  volatile.handle("crm.deal", (change) => change.object?.amount);
  volatile.handle("mail.contact", (change) => change.object?.email);
  // @ts-expect-error -- no provider has it
  volatile.handle("crm.lead", () => {});
  // @ts-expect-error -- this engine's providers do not have it
  transactional.handle("mail.contact", () => {});
  // @ts-expect-error -- nor has the other resource's object this field
  volatile.handle("crm.deal", (change) => change.object?.email);
  volatile.webhook("crm");
  // @ts-expect-error -- no provider of this name
  volatile.webhook("crn");
  // @ts-expect-error -- nor here
  void volatile.pause({ provider: "crn" });
}

/** Without `since` there is no incremental pass. */
export async function modes(): Promise<void> {
  const report = await volatile.reconcile("crm.contact", { mode: "incremental" });
  holds<Same<typeof report, ReconcileReport>>();
  await volatile.reconcile("crm.deal", { mode: "full" });
  // @ts-expect-error -- `incremental: false`
  await volatile.reconcile("crm.deal", { mode: "incremental" });
  volatile.schedule("crm.contact", { every: "15m", mode: "incremental" });
  volatile.schedule("crm.deal", { every: 60_000, mode: "full" });
  // @ts-expect-error -- `incremental: false`
  volatile.schedule("crm.deal", { every: "15m", mode: "incremental" });
  // @ts-expect-error -- no such mode
  await volatile.reconcile("crm.contact", { mode: "half" });
  // @ts-expect-error -- the mode must be said
  await volatile.reconcile("crm.contact", {});
}

/** `commit` is there where the store has transactions, and hands over what the store's are. */
export function commits(): void {
  transactional.handle("crm.contact", async (change) => {
    const rows = await change.commit((tx) => {
      holds<Same<typeof tx, SqliteTx>>();
      return tx.all<{ n: number }>("SELECT 1 AS n");
    });
    holds<Same<typeof rows, { n: number }[]>>();
  });
  transactional.handleBatch("crm.deal", async (changes, batch) => {
    await batch.commit((tx, live) => {
      holds<Same<typeof live, readonly Change<Deal, SqliteTx>[]>>();
      for (const change of live) tx.run("INSERT INTO deal VALUES (?)", change.object?.amount);
    });
    for (const change of changes) batch.fail(change, new Error("no"));
  });
  // @ts-expect-error -- a Keyv has no transactions
  volatile.handle("crm.contact", (change) => change.commit(() => {}));
  // @ts-expect-error -- nor has the default store
  byDefault.handle("crm.contact", (change) => change.commit(() => {}));
  // @ts-expect-error -- nor in batches
  volatile.handleBatch("crm.contact", (_changes, batch) => batch.commit(() => {}));
}

/** Handlers can be written away from their engine. */
type ContactChange = ChangeOf<typeof transactional, "crm.contact">;
export function handlerTypes(): void {
  holds<Same<Extract<ContactChange, { kind: "upsert" }>["object"]["email"], string>>();
  holds<Same<Parameters<HandlerOf<typeof transactional, "crm.contact">>[0], ContactChange>>();
  holds<Same<TxOf<typeof transactional>, SqliteTx>>();
  holds<Same<TxOf<typeof volatile>, never>>();
  holds<Same<TxOf<typeof byDefault>, never>>();
  holds<Same<ChangeOf<typeof volatile, "crm.deal">, Change<Deal>>>();
}

export const onContact: HandlerOf<typeof transactional, "crm.contact"> = async (change) => {
  await change.commit((tx) => tx.run("DELETE FROM contact WHERE id = ?", change.ref.id));
};
export const onDeals: BatchHandler<Deal, SqliteTx> = (changes) => changes.length;
export function registered(): void {
  transactional.handle("crm.contact", onContact);
  transactional.handleBatch("crm.deal", onDeals, { size: 500, concurrency: undefined, timeoutMs: undefined });
  // @ts-expect-error -- it wants transactions, which this engine has not
  volatile.handle("crm.contact", onContact);
  // @ts-expect-error -- it is for deals
  transactional.handleBatch("crm.contact", onDeals);
}

/** Optional fields admit `undefined`, so that options can be passed on under `exactOptionalPropertyTypes`. */
export async function undefinedEverywhere(nothing: undefined): Promise<void> {
  const event: SyncEvent<"contact"> = {
    id: nothing,
    type: nothing,
    resource: "contact",
    objectId: nothing,
    hint: nothing,
    version: nothing,
    occurredAt: nothing,
    data: nothing,
  };
  defineResource({
    schema: dealSchema,
    idOf: ({ id }) => id,
    fetch: () => Promise.resolve(event),
    versionOf: nothing,
    compareVersions: nothing,
    fetchMany: nothing,
    batchSize: nothing,
    list: nothing,
    listItems: nothing,
    contentOf: nothing,
    compare: nothing,
    revision: nothing,
    onRevision: nothing,
    gone: nothing,
    pageSize: nothing,
    coalesceMs: nothing,
    onHint: nothing,
    freshness: { firstRetryMs: nothing, believeAfterMs: nothing },
    shrinkGuard: { count: nothing, share: nothing },
    overlapMs: nothing,
  });
  const engine = new SyncEngine({
    providers: [
      defineProvider({
        name: "crm",
        credentials: nothing,
        api: nothing,
        webhook: nothing,
        resources: { contact },
      }),
    ],
    store: nothing,
    sources: nothing,
    connections: nothing,
    leaseMs: nothing,
    concurrency: nothing,
    retry: { attempts: nothing, minDelayMs: nothing, maxDelayMs: nothing },
    logger: nothing,
    clock: nothing,
    random: nothing,
    commitTimeoutMs: nothing,
    fetchTimeoutMs: nothing,
    eventTtlMs: nothing,
    maxEventsPerChange: nothing,
    pollMs: nothing,
  });
  engine.handle("crm.contact", () => {}, { concurrency: nothing, timeoutMs: nothing });
  engine.webhook("crm", { connection: nothing, waitUntil: nothing });
  await engine.start({ work: nothing, sources: nothing, schedules: nothing });
  await engine.reconcile("crm.contact", {
    mode: "full",
    connection: nothing,
    since: nothing,
    pageSize: nothing,
    handle: nothing,
    signal: nothing,
    timeoutMs: nothing,
    onProgress: nothing,
  });
  await engine.verify("crm.contact", { connection: nothing, signal: nothing, timeoutMs: nothing });
  await engine.adopt("crm.contact", [{ id: 1n, version: nothing, object: nothing }], { connection: nothing });
  await engine.trigger("crm.contact", ["c_1", 2, 3n], { connection: nothing });
  await engine.drain({ timeoutMs: nothing });
  await engine.tick({ timeoutMs: nothing });
  await engine.pause({ provider: "crm", connection: nothing });
  await engine.deadLetters.list(
    { route: nothing, connection: nothing, ids: nothing },
    { cursor: nothing, limit: nothing },
  );
  await engine.stop({ timeoutMs: nothing });
}

/** Events of `engine.on` are typed by their name. */
export function events(): void {
  const off = volatile.on("change.handled", (event) => {
    holds<Same<typeof event.kind, "upsert" | "delete">>();
    // @ts-expect-error -- that is another event's
    return event.error;
  });
  holds<Same<typeof off, () => void>>();
  // @ts-expect-error -- no such event
  volatile.on("change.handed", () => {});
}

/** A store of one's own is typed by what its commit callbacks receive. */
export function ownStore(store: Store<{ readonly query: (sql: string) => Promise<void> }>): void {
  const engine = new SyncEngine({ providers: [crm], store });
  engine.handle("crm.contact", (change) => change.commit((tx) => tx.query("SELECT 1")));
}

/** What takes any engine, whatever its providers and its store. */
export function anyEngine(engine: AnyEngine): Promise<unknown> {
  return engine.status();
}
void anyEngine(volatile);
void anyEngine(transactional);
void anyEngine(byDefault);
