/**
 * The embedded durable store: one SQLite file, through Node's own driver.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { invalidOption, TrueupError } from "../core/errors.ts";
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
  RouteCounts,
  Store,
  StoreEnvironment,
  StoreGuarantees,
  WorkSession,
} from "../core/store.ts";
import { Abandoned } from "./sqlite/abandoned.ts";
import { Appender } from "./sqlite/append.ts";
import { Claimer } from "./sqlite/claim.ts";
import { ClaimLog } from "./sqlite/claim-log.ts";
import { Committer } from "./sqlite/committer.ts";
import { type ConnectionOptions, openDatabase, storeError } from "./sqlite/connection.ts";
import { DeadLetters } from "./sqlite/dead-letters.ts";
import { Events } from "./sqlite/events.ts";
import { Housekeeping } from "./sqlite/housekeeping.ts";
import { Ledger } from "./sqlite/ledger.ts";
import { Lanes } from "./sqlite/lanes.ts";
import { Leases } from "./sqlite/leases.ts";
import { Named } from "./sqlite/named.ts";
import { ObjectIndex } from "./sqlite/object-index.ts";
import { Owners, type Ownership } from "./sqlite/ownership.ts";
import { Passes } from "./sqlite/passes.ts";
import { Scopes } from "./sqlite/scopes.ts";
import { Session } from "./sqlite/session.ts";
import { Settler } from "./sqlite/settle.ts";
import { Status } from "./sqlite/status.ts";
import { type SqliteTx, UserStatements } from "./sqlite/transaction.ts";

export type { SqliteRow, SqliteTx, SqliteValue } from "./sqlite/transaction.ts";

export interface SqliteStoreOptions {
  /**
   * The database file. It is created when it is missing, its directory is not. Beside it appear `-wal` and `-shm`
   * (SQLite's own) and `-owner` (the lock of the process that works). `":memory:"` keeps everything in memory, for
   * tests: then nothing survives the process.
   */
  readonly path: string;
  /**
   * Most bytes the database may take; without it, the disk is the limit. At the limit writes reject with `STORE_FULL`
   * until there is room again. The write-ahead log (some 16 MiB at times) is not counted. At least 1 MiB.
   */
  readonly maxBytes?: number | undefined;
}

const MIN_MAX_BYTES = 1_048_576;

/**
 * Keeps everything in one SQLite file, in which the user's own tables may live too (see `change.commit`). What a call
 * resolved survives a loss of power. One process works on a file at a time; others may receive events for it and look.
 *
 * Opens nothing until the engine does.
 *
 * @throws TrueupError `OPTION_INVALID`.
 */
export function sqliteStore(options: SqliteStoreOptions): Store<SqliteTx> {
  const { path, maxBytes } = options;
  if (typeof path !== "string" || path === "") {
    throw invalidOption('sqliteStore needs a `path`: a file, or ":memory:" for a store that does not last');
  }
  if (path.startsWith("file:")) throw invalidOption("sqliteStore's `path` is a plain path, not a URI");
  if (maxBytes !== undefined && (!Number.isSafeInteger(maxBytes) || maxBytes < MIN_MAX_BYTES)) {
    throw invalidOption(
      `sqliteStore's \`maxBytes\` is an integer of at least ${MIN_MAX_BYTES}, not ${String(maxBytes)}`,
    );
  }
  return new SqliteStore({ path, maxBytes });
}

/** Everything that exists between `open` and `close`. */
interface OpenStore {
  readonly environment: StoreEnvironment;
  readonly db: DatabaseSync;
  readonly committer: Committer;
  readonly appender: Appender;
  readonly claimer: Claimer;
  readonly settler: Settler;
  readonly leases: Leases;
  readonly passes: Passes;
  readonly index: ObjectIndex;
  readonly lanes: Lanes;
  readonly scopes: Scopes;
  readonly named: Named;
  readonly dead: DeadLetters;
  readonly status: Status;
  readonly housekeeping: Housekeeping;
  readonly owners: Owners;
  readonly statements: UserStatements;
  readonly held: Set<Ownership>;
}

class SqliteStore implements Store<SqliteTx> {
  readonly guarantees: StoreGuarantees;
  readonly #options: ConnectionOptions;
  #state: OpenStore | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.guarantees = {
      durability: options.path === ":memory:" ? "none" : "disk",
      shared: false,
      transactional: true,
    };
  }

  async open(environment: StoreEnvironment): Promise<void> {
    if (this.#state !== undefined) throw new TrueupError("STORE_FAILED", "the store is open already");
    this.#state = assemble(this.#options, environment);
  }

  async close(): Promise<void> {
    const state = this.#state;
    if (state === undefined) return;
    this.#state = undefined;
    await state.committer.close();
    for (const ownership of state.held) ownership.abandon();
    state.db.close();
  }

  async work(options: { leaseMs: number; signal?: AbortSignal | undefined }): Promise<WorkSession<SqliteTx>> {
    const state = this.#open;
    try {
      const ownership = await state.owners.take(options.leaseMs, options.signal);
      state.held.add(ownership);
      return new Session(ownership, { ...state, clock: state.environment.clock });
    } catch (error) {
      if (options.signal?.aborted === true) throw error;
      throw storeError(error, this.#options);
    }
  }

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    if (entries.length === 0) return [];
    const { committer, appender } = this.#open;
    return await committer.write((turn) => appender.append(turn, entries));
  }

  async nextDue(routes: readonly { provider: string; resource: string }[]): Promise<number | undefined> {
    const { committer, environment, lanes } = this.#open;
    return await committer.read(() => {
      const now = environment.clock.now();
      const dues = routes.map((route) => lanes.nextDue(route, now)).filter((due) => due !== undefined);
      return dues.length === 0 ? undefined : Math.min(...dues);
    });
  }

  // One counter serves all scopes.
  async counter(_scope: Scope): Promise<number> {
    const { committer } = this.#open;
    return await committer.counter();
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    const { committer, index } = this.#open;
    return await committer.read(() => index.lookup(scope, ids));
  }

  async record(scope: Scope, entries: readonly { id: string; index: IndexEntry }[]): Promise<number> {
    const { committer, index } = this.#open;
    return await committer.write((turn) => index.record(turn, scope, entries));
  }

  async unseen(
    scope: Scope,
    pass: string,
    options: { mark: number; after: string | undefined; limit: number },
  ): Promise<{ id: string; position: string }[]> {
    return await this.#open.passes.unseen(scope, pass, options);
  }

  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    const { committer, passes } = this.#open;
    await committer.write((turn) => passes.endPass(turn, scope, pass, lock, checkpoint));
  }

  async countPresent(scope: Scope): Promise<number> {
    const { committer, index } = this.#open;
    return await committer.read(() => index.countPresent(scope));
  }

  async getCheckpoint(key: string): Promise<string | undefined> {
    const { committer, named } = this.#open;
    return await committer.read(() => named.getCheckpoint(key));
  }

  async setCheckpoint(key: string, value: string | null): Promise<void> {
    const { committer, named } = this.#open;
    await committer.write(() => named.setCheckpoint(key, value));
  }

  async lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined> {
    const { committer, named } = this.#open;
    return await committer.write((turn) => named.lock(turn, name, ttlMs, held));
  }

  async unlock(lock: Lock): Promise<void> {
    const { committer, named } = this.#open;
    await committer.write(() => named.unlock(lock));
  }

  async pause(pause: Pause): Promise<void> {
    const { committer, named } = this.#open;
    await committer.write((turn) => named.pause(turn, pause));
  }

  async resume(provider: string, connection: string): Promise<void> {
    const { committer, named } = this.#open;
    await committer.write((turn) => named.resume(turn, provider, connection));
  }

  async pauses(): Promise<Pause[]> {
    const { committer, named, environment } = this.#open;
    return await committer.read(() => named.pauses(environment.clock.now()));
  }

  async connections(provider: string): Promise<string[]> {
    const { committer, scopes } = this.#open;
    return await committer.read(() => scopes.connections(provider));
  }

  async forget(provider: string, connection: string): Promise<void> {
    const { committer, housekeeping } = this.#open;
    await committer.write((turn) => housekeeping.forget(turn, provider, connection));
  }

  async counts(): Promise<RouteCounts[]> {
    const { committer, status } = this.#open;
    return await committer.read(() => status.counts());
  }

  async pending(dueBy: number): Promise<Pending> {
    const { committer, status } = this.#open;
    return await committer.read(() => status.pending(dueBy));
  }

  async listDead(
    filter: DeadLetterFilter,
    page: { cursor: string | undefined; limit: number },
  ): Promise<{ items: DeadRecord[]; next: string | undefined }> {
    const { committer, dead } = this.#open;
    return await committer.read(() => dead.list(filter, page));
  }

  async retryDead(filter: DeadLetterFilter): Promise<number> {
    const { committer, dead } = this.#open;
    return await committer.write((turn) => dead.retry(turn, filter));
  }

  async discardDead(filter: DeadLetterFilter): Promise<number> {
    const { committer, dead } = this.#open;
    return await committer.write((turn) => dead.discard(turn, filter));
  }

  async sweep(): Promise<boolean> {
    const { committer, housekeeping, environment } = this.#open;
    return await committer.write((turn) => housekeeping.sweep(turn, environment.eventTtlMs));
  }

  get #open(): OpenStore {
    if (this.#state === undefined) throw new TrueupError("STORE_FAILED", "the store is not open");
    return this.#state;
  }
}

function assemble(options: ConnectionOptions, environment: StoreEnvironment): OpenStore {
  const { clock, random, logger, maxEventsPerChange: maxEvents } = environment;
  const db = openDatabase(options);
  const committer = new Committer(db, options, () => clock.now());
  const events = new Events(db);
  const log = new ClaimLog(db);
  const leases = new Leases(db, { log, events, maxEvents });
  const lanes = new Lanes(db, leases);
  const scopes = new Scopes(db, lanes);
  const ledger = new Ledger(db);
  const abandoned = new Abandoned(db, { leases, log, lanes });
  const appender = new Appender(db, { scopes, lanes, events, ledger, leases, log });
  const named = new Named(db, lanes);
  const lockPath = options.path === ":memory:" ? undefined : `${options.path}-owner`;
  return {
    environment,
    db,
    committer,
    appender,
    claimer: new Claimer(db, { lanes, leases }),
    settler: new Settler(db, { leases, log, lanes, events, scopes }),
    leases,
    passes: new Passes(db, { committer, scopes, leases, appender, named }),
    index: new ObjectIndex(db, { scopes, leases }),
    lanes,
    scopes,
    named,
    dead: new DeadLetters(db, { scopes, lanes, events, maxEvents }),
    status: new Status(db, leases),
    housekeeping: new Housekeeping(db, { scopes, leases, events, ledger }),
    owners: new Owners(db, { committer, leases, abandoned, clock, random, logger, lockPath }),
    statements: new UserStatements(db),
    held: new Set(),
  };
}
