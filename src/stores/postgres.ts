/**
 * The store for several processes on several machines: a schema of a PostgreSQL database.
 *
 * @module
 */

import { type ClientConfig, Pool } from "pg";
import { invalidOption, TrueupError } from "../core/errors.ts";
import { DEDUPE_KEY_BYTES, type Scope } from "../core/event.ts";
import { keepSecrets, urlPasswords } from "../core/secrets.ts";
import {
  type AppendEntry,
  type AppendResult,
  connectionKey,
  type DeadLetterFilter,
  type DeadRecord,
  type IndexEntry,
  type Lock,
  type Lookup,
  type Pause,
  type Pending,
  type PermitGrant,
  type RateBudget,
  type RouteCounts,
  type Store,
  type StoreEnvironment,
  type StoreGuarantees,
  type WorkSession,
} from "../core/store.ts";
import { Database } from "./postgres/database.ts";
import type { PgPool, PgPoolClient, PgTx } from "./postgres/driver.ts";
import { Listener } from "./postgres/listener.ts";
import { channelOf, migrate } from "./postgres/migrate.ts";
import { Named } from "./postgres/named.ts";
import { ObjectIndex } from "./postgres/object-index.ts";
import { inspectServer } from "./postgres/server.ts";
import { appendColumns, toAppendResults } from "./postgres/rows.ts";
import { Scopes } from "./postgres/scopes.ts";
import { Session } from "./postgres/session.ts";
import { Status } from "./postgres/status.ts";
import { StoreTime } from "./postgres/time.ts";

export type { PgPool, PgPoolClient, PgResult, PgStatement, PgTx } from "./postgres/driver.ts";

export interface PostgresStoreOptions {
  /** Where the database is, as `postgres://user:password@host:5432/database`. The store makes a pool of its own. */
  readonly url?: string | undefined;
  /** Instead of `url`: a `pg.Pool` of yours. It stays yours: closing the store does not end it. */
  readonly pool?: PgPool | undefined;
  /** The schema that the store has to itself: `[a-z_][a-z0-9_]{0,62}`. Its tables are no place for yours. */
  readonly schema: string;
  /**
   * `"auto"`: opening creates the schema and brings it up to date, safely from many processes at once. `"check"`: it only
   * looks, and says what is missing; for roles that may not create. @default "auto"
   */
  readonly migrate?: "auto" | "check" | undefined;
  /**
   * Whether idle workers are told of work (LISTEN, on a connection beside the pool) and statements are prepared once.
   * `false`: they poll, and nothing is left on a connection between transactions, as a pooler in transaction mode needs;
   * where one is noticed, that is the default. @default true
   */
  readonly listen?: boolean | undefined;
}

const SCHEMA_NAME = /^[a-z_][a-z0-9_]{0,62}$/;

/** Connections of a pool of the store's own. */
const POOL_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Keeps everything in a schema of a PostgreSQL database, for any number of processes at once. What a call
 * resolved survives a loss of power, as far as the server keeps its word: with `synchronous_commit` and `fsync` on, its
 * default. `change.commit` runs your writes, to your own tables, in the transaction that settles the work.
 *
 * Connects to nothing until the engine opens it.
 *
 * @throws TrueupError `OPTION_INVALID`.
 */
export function postgresStore(options: PostgresStoreOptions): Store<PgTx> {
  const { url, pool, schema, migrate: mode = "auto", listen } = options;
  if ((url === undefined) === (pool === undefined)) {
    throw invalidOption("postgresStore takes either a `url` or a `pool`");
  }
  if (url !== undefined && (typeof url !== "string" || !/^postgres(ql)?:\/\//.test(url))) {
    throw invalidOption("postgresStore's `url` begins with postgres://"); // which may have a password: it is not shown
  }
  if (typeof schema !== "string" || !SCHEMA_NAME.test(schema)) {
    throw invalidOption(
      `postgresStore's \`schema\` is an identifier of lower case letters, digits and _, not ${JSON.stringify(schema)}`,
    );
  }
  if (schema.startsWith("pg_") || schema === "information_schema") {
    throw invalidOption(`postgresStore's \`schema\` cannot be ${schema}, which is PostgreSQL's own`);
  }
  if (mode !== "auto" && mode !== "check") {
    throw invalidOption(`postgresStore's \`migrate\` is "auto" or "check", not ${JSON.stringify(mode)}`);
  }
  if (listen !== undefined && typeof listen !== "boolean") {
    throw invalidOption("postgresStore's `listen` is true or false");
  }
  return keepSecrets(new PostgresStore({ url, pool, schema, migrate: mode, listen }), urlPasswords(url));
}

/** Everything that exists between `open` and `close`. */
interface OpenStore {
  readonly environment: StoreEnvironment;
  readonly database: Database;
  readonly scopes: Scopes;
  readonly status: Status;
  readonly named: Named;
  readonly index: ObjectIndex;
  readonly time: StoreTime;
  readonly listener: Listener;
  readonly close: () => Promise<void>;
}

class PostgresStore implements Store<PgTx> {
  readonly guarantees: StoreGuarantees = { durability: "disk", shared: true, transactional: true };
  readonly #options: PostgresStoreOptions;
  #state: OpenStore | undefined;

  constructor(options: PostgresStoreOptions) {
    this.#options = options;
  }

  async open(environment: StoreEnvironment): Promise<void> {
    if (this.#state !== undefined) throw new TrueupError("STORE_FAILED", "the store is open already");
    this.#state = await openStore(this.#options, environment);
  }

  async close(): Promise<void> {
    const state = this.#state;
    this.#state = undefined;
    await state?.close();
  }

  async work(options: { leaseMs: number; signal?: AbortSignal | undefined }): Promise<WorkSession<PgTx>> {
    const state = this.#open;
    options.signal?.throwIfAborted();
    return await Session.begin(options.leaseMs, { ...state, lookAgain: () => state.listener.tell() });
  }

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    const { database, scopes, time } = this.#open;
    if (entries.length === 0) return [];
    for (const { dedupeKey } of entries) {
      if (dedupeKey !== undefined && dedupeKey.length !== DEDUPE_KEY_BYTES)
        throw invalidOption(`a dedupeKey has ${DEDUPE_KEY_BYTES} bytes, not ${dedupeKey.length}`);
    }
    const refs = entries.map(({ ref }) => ref);
    const generations = await scopes.with(refs, (numbers) =>
      database.value<number[]>("append", [time.moment, ...appendColumns(entries, numbers)]),
    );
    return toAppendResults(generations, entries);
  }

  subscribe(listener: () => void): () => void {
    return this.#open.listener.subscribe(listener);
  }

  async nextDue(routes: readonly { provider: string; resource: string }[]): Promise<number | undefined> {
    const { database, time } = this.#open;
    if (routes.length === 0) return undefined;
    const text = `
      SELECT min(${database.quoted}.next_due($1, r.provider, r.resource)), ${database.quoted}.moment($1)
      FROM unnest($2::text[], $3::text[]) r(provider, resource)`;
    const [row] = await database.query({ text }, [
      time.moment,
      routes.map(({ provider }) => provider),
      routes.map(({ resource }) => resource),
    ]);
    const [due, storeNow] = row as [number | null, number];
    return due === null ? undefined : time.local(due, storeNow);
  }

  // One counter serves all scopes.
  async counter(_scope: Scope): Promise<number> {
    const { database } = this.#open;
    const text = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ${database.quoted}.counter`;
    const [row] = await database.query({ text });
    return row?.[0] as number;
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    return await this.#open.index.lookup(scope, ids);
  }

  async record(scope: Scope, entries: readonly { id: string; index: IndexEntry }[]): Promise<number> {
    return await this.#open.index.record(scope, entries);
  }

  async unseen(
    scope: Scope,
    pass: string,
    options: { mark: number; after: string | undefined; limit: number },
  ): Promise<{ id: string; position: string }[]> {
    return await this.#open.index.unseen(scope, pass, options);
  }

  async countPresent(scope: Scope): Promise<number> {
    return await this.#open.index.countPresent(scope);
  }

  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    const { database, scopes } = this.#open;
    await scopes.with(
      [scope],
      ([n]) => database.call("end_pass", [n, pass, lock.name, lock.fence, checkpoint]),
      lock,
    );
  }

  async getCheckpoint(key: string): Promise<string | undefined> {
    return await this.#open.named.getCheckpoint(key);
  }

  async setCheckpoint(key: string, value: string | null): Promise<void> {
    await this.#open.named.setCheckpoint(key, value);
  }

  async lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined> {
    return await this.#open.named.lock(name, ttlMs, held);
  }

  async unlock(lock: Lock): Promise<void> {
    await this.#open.named.unlock(lock);
  }

  async pause(pause: Pause): Promise<void> {
    await this.#open.named.pause(pause);
  }

  async resume(provider: string, connection: string): Promise<void> {
    await this.#open.named.resume(provider, connection);
  }

  async pauses(): Promise<Pause[]> {
    return await this.#open.named.pauses();
  }

  async takePermits(budget: RateBudget, wanted: number): Promise<PermitGrant> {
    return await this.#open.named.takePermits(budget, wanted);
  }

  async connections(provider: string): Promise<string[]> {
    const { database } = this.#open;
    const text = `
      SELECT DISTINCT connection FROM ${database.quoted}.scope WHERE provider = $1 AND NOT forgotten ORDER BY connection`;
    return (await database.query({ text }, [provider])).map(([connection]) => connection as string);
  }

  async forget(provider: string, connection: string): Promise<void> {
    const { database } = this.#open;
    await database.call("forget", [provider, connection, connectionKey(provider, connection)]);
  }

  async counts(): Promise<RouteCounts[]> {
    return await this.#open.status.counts();
  }

  async pending(dueBy: number): Promise<Pending> {
    return await this.#open.status.pending(dueBy);
  }

  async listDead(
    filter: DeadLetterFilter,
    page: { cursor: string | undefined; limit: number },
  ): Promise<{ items: DeadRecord[]; next: string | undefined }> {
    const { environment, status } = this.#open;
    return await status.listDead(filter, page, environment.maxEventsPerChange);
  }

  async retryDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#withDead("retry_dead", filter);
  }

  async discardDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#withDead("discard_dead", filter);
  }

  async sweep(): Promise<boolean> {
    const { database, environment, time } = this.#open;
    return await database.value<boolean>("sweep", [time.moment, environment.eventTtlMs]);
  }

  async #withDead(name: "retry_dead" | "discard_dead", filter: DeadLetterFilter): Promise<number> {
    const { database, status, time } = this.#open;
    const scopes = (await status.scopes(filter)).map(({ n }) => n);
    return await database.value<number>(name, [time.moment, scopes, filter.ids ?? null]);
  }

  get #open(): OpenStore {
    if (this.#state === undefined) throw new TrueupError("STORE_FAILED", "the store is not open");
    return this.#state;
  }
}

async function openStore(options: PostgresStoreOptions, environment: StoreEnvironment): Promise<OpenStore> {
  const { schema, migrate: mode = "auto" } = options;
  const { clock, logger, random } = environment;
  const config = configOf(options);
  const own = options.pool === undefined ? new Pool({ ...config, max: POOL_CONNECTIONS }) : undefined;
  const pool: PgPool = options.pool ?? (own as Pool);
  // Without a listener, a connection that is lost while it lies idle would end the process. The pool replaces it.
  const idleError = (error: Error) =>
    logger.debug({ error }, "a connection to PostgreSQL was lost while idle");
  pool.on("error", idleError);
  // Nor may one be lost the moment that it is made: what the server says right behind its greeting is read along with it,
  // before whoever waits for the connection has it in hand.
  const listen = (client: PgPoolClient) => void client.on("error", () => {});
  pool.on("connect", listen);
  const database = new Database(pool, schema, random);
  const letGo = async () => {
    await own?.end();
    pool.removeListener("error", idleError);
    pool.removeListener("connect", listen);
  };
  try {
    await migrate(database, mode);
    await inspectServer(database, options.listen, logger);
  } catch (error) {
    await letGo();
    throw error;
  }
  const time = new StoreTime(clock);
  const listener = new Listener({
    channel: channelOf(schema),
    config: database.direct ? config : undefined,
    random,
    logger,
  });
  const scopes = new Scopes(database);
  const status = new Status(database, time);
  const named = new Named(database, time);
  const index = new ObjectIndex(database, scopes, time);
  const close = async () => {
    await listener.close();
    await letGo();
  };
  return { environment, database, scopes, status, named, index, time, listener, close };
}

/** How to make connections: of a pool that was given, as it makes its own. `undefined`: that cannot be told. */
function configOf({ pool, url }: PostgresStoreOptions): ClientConfig | undefined {
  if (url === undefined) return (pool as { options?: ClientConfig }).options;
  return {
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: "trueup",
  };
}
