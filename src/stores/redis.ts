/**
 * The store on Redis: several processes and machines share it.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import { systemClock } from "../core/clock.ts";
import { invalidOption, TrueupError } from "../core/errors.ts";
import { keepSecrets, urlPasswords } from "../core/secrets.ts";
import type { Scope } from "../core/event.ts";
import type {
  AppendEntry,
  AppendResult,
  DeadLetterFilter,
  DeadRecord,
  IndexEntry,
  Lock,
  Lookup,
  Pause,
  Pending,
  PermitGrant,
  RateBudget,
  RouteCounts,
  Store,
  StoreEnvironment,
  StoreGuarantees,
  WorkSession,
} from "../core/store.ts";
import { Appender } from "./redis/append.ts";
import { closeOwn, connectTo, type RedisClient, ready } from "./redis/client.ts";
import { DeadLetters } from "./redis/dead-letters.ts";
import { Housekeeping } from "./redis/housekeeping.ts";
import { Link } from "./redis/link.ts";
import { Named } from "./redis/named.ts";
import { ObjectIndex } from "./redis/object-index.ts";
import { type Opened, prepare } from "./redis/opening.ts";
import { Partitions } from "./redis/partition.ts";
import { Passes } from "./redis/passes.ts";
import { Pauses } from "./redis/pauses.ts";
import { Permits } from "./redis/permits.ts";
import { Session } from "./redis/session.ts";
import { Settler } from "./redis/settle.ts";
import { Status } from "./redis/status.ts";
import { Subscription } from "./redis/subscription.ts";

export type { RedisClient, RedisPipeline } from "./redis/client.ts";

export interface RedisStoreOptions {
  /** `redis://` or `rediss://` (TLS), with user, password and database as needed. The store opens and closes its own client. */
  readonly url?: string | undefined;
  /** Instead of `url`: a `Redis` or `Cluster` of ioredis 6. It stays open when the store is closed. */
  readonly client?: RedisClient | undefined;
  /** What the names of all keys begin with. Stores with different ones do not see each other. @default "trueup" */
  readonly prefix?: string | undefined;
  /**
   * In how many parts the data lie; a connection's are in one. Fixed when the store is first opened. More than one
   * helps where a cluster spreads them. @default 16 on a cluster, 1 otherwise
   */
  readonly partitions?: number | undefined;
}

const MAX_PARTITIONS = 256;

/**
 * Keeps everything in Redis, 6.2 or later. Any number of processes may work at once.
 *
 * Opens nothing until the engine does.
 *
 * @throws TrueupError `OPTION_INVALID`.
 */
export function redisStore(options: RedisStoreOptions): Store {
  const { url, client, prefix = "trueup", partitions } = options;
  if ((url === undefined) === (client === undefined)) {
    throw invalidOption("redisStore needs a `url` or a `client`, and not both");
  }
  if (url !== undefined && !/^rediss?:\/\//.test(url)) {
    throw invalidOption("redisStore's `url` begins with redis:// or rediss://");
  }
  if (client !== undefined && typeof (client as { evalsha?: unknown }).evalsha !== "function") {
    throw invalidOption("redisStore's `client` is a Redis or a Cluster of ioredis");
  }
  if (typeof prefix !== "string" || !/^[\w:.-]{1,100}$/.test(prefix)) {
    throw invalidOption("redisStore's `prefix` has 1 to 100 letters, digits, and _ : . -");
  }
  if (
    partitions !== undefined &&
    !(Number.isSafeInteger(partitions) && partitions >= 1 && partitions <= MAX_PARTITIONS)
  ) {
    throw invalidOption(`redisStore's \`partitions\` is a whole number from 1 to ${MAX_PARTITIONS}`);
  }
  return keepSecrets(new RedisStore({ url, client, prefix, partitions }), urlPasswords(url));
}

type Options = Pick<RedisStoreOptions, "url" | "client" | "partitions"> & { readonly prefix: string };

/** Everything that exists between `open` and `close`. */
interface OpenStore {
  readonly environment: StoreEnvironment;
  readonly client: RedisClient;
  readonly opened: Opened;
  readonly link: Link;
  readonly partitions: Partitions;
  readonly appender: Appender;
  readonly settler: Settler;
  readonly passes: Passes;
  readonly index: ObjectIndex;
  readonly named: Named;
  readonly pauses: Pauses;
  readonly permits: Permits;
  readonly status: Status;
  readonly dead: DeadLetters;
  readonly housekeeping: Housekeeping;
  readonly subscription: Subscription;
}

class RedisStore implements Store {
  readonly #options: Options;
  #state: OpenStore | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * What always holds is that a crash of this process loses nothing. That the disk has it is only said once the store
   * is open and the server was seen to sync each write.
   */
  get guarantees(): StoreGuarantees {
    const durability = this.#state?.opened.synced === true ? "disk" : "process";
    return { durability, shared: true, transactional: false };
  }

  async open(environment: StoreEnvironment): Promise<void> {
    if (this.#state !== undefined) throw new TrueupError("STORE_FAILED", "the store is open already");
    const { url, prefix, partitions } = this.#options;
    const client = this.#options.client ?? (await connectTo(url ?? "", environment.logger));
    try {
      await ready(client, environment.clock);
      const opened = await prepare(client, { prefix, partitions, logger: environment.logger });
      this.#state = assemble(client, prefix, opened, environment);
    } catch (error) {
      if (url !== undefined) closeOwn(client);
      throw error;
    }
  }

  async close(): Promise<void> {
    const state = this.#state;
    if (state === undefined) return;
    this.#state = undefined;
    state.subscription.close();
    await state.link.close();
    if (this.#options.url !== undefined) closeOwn(state.client);
  }

  async work({
    leaseMs,
    signal,
  }: {
    leaseMs: number;
    signal?: AbortSignal | undefined;
  }): Promise<WorkSession> {
    signal?.throwIfAborted();
    const { environment, ...parts } = this.#open;
    return await Session.begin({ ...parts, random: environment.random }, leaseMs);
  }

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    return await this.#open.appender.append(entries);
  }

  subscribe(listener: () => void): () => void {
    return this.#open.subscription.add(listener);
  }

  async nextDue(routes: readonly { provider: string; resource: string }[]): Promise<number | undefined> {
    return await this.#open.status.nextDue(routes);
  }

  async counter(scope: Scope): Promise<number> {
    return await this.#open.index.counter(scope);
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
    return await this.#open.passes.unseen(scope, pass, options);
  }

  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    await this.#open.passes.endPass(scope, pass, lock, checkpoint);
  }

  async countPresent(scope: Scope): Promise<number> {
    return await this.#open.index.countPresent(scope);
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
    await this.#open.pauses.pause(pause);
  }

  async resume(provider: string, connection: string): Promise<void> {
    await this.#open.pauses.resume(provider, connection);
  }

  async pauses(): Promise<Pause[]> {
    return await this.#open.pauses.list();
  }

  async takePermits(budget: RateBudget, wanted: number): Promise<PermitGrant> {
    return await this.#open.permits.take(budget, wanted);
  }

  async connections(provider: string): Promise<string[]> {
    return await this.#open.status.connections(provider);
  }

  async forget(provider: string, connection: string): Promise<void> {
    await this.#open.housekeeping.forget(provider, connection);
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
    return await this.#open.dead.list(filter, page);
  }

  async retryDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#open.dead.retry(filter);
  }

  async discardDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#open.dead.discard(filter);
  }

  async sweep(): Promise<boolean> {
    return await this.#open.housekeeping.sweep();
  }

  get #open(): OpenStore {
    if (this.#state === undefined) throw new TrueupError("STORE_FAILED", "the store is not open");
    return this.#state;
  }
}

function assemble(
  client: RedisClient,
  prefix: string,
  opened: Opened,
  environment: StoreEnvironment,
): OpenStore {
  const { clock, logger, eventTtlMs, maxEventsPerChange } = environment;
  const channel = `${prefix}:work`;
  // Clocks of machines differ: moments are the server's. A clock that is not the system's is somebody's own idea of
  // time (a test's), and is taken at its word.
  const time = clock === systemClock ? "server" : "clock";
  const link = new Link(client, { clock, time, channel, maxEvents: maxEventsPerChange });
  const partitions = new Partitions(prefix, opened.partitions);
  const named = new Named(link, partitions);
  return {
    environment,
    client,
    opened,
    link,
    partitions,
    named,
    appender: new Appender(link, partitions),
    settler: new Settler(link, partitions),
    passes: new Passes({ link, partitions, named }),
    index: new ObjectIndex(link, partitions),
    pauses: new Pauses(link, partitions),
    permits: new Permits(link, partitions, randomBytes(9).toString("base64url")),
    status: new Status(link, partitions),
    dead: new DeadLetters(link, partitions),
    housekeeping: new Housekeeping(link, partitions, eventTtlMs),
    subscription: new Subscription(client, channel, logger),
  };
}
