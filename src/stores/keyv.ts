/**
 * The default store: in memory, written through to a Keyv.
 *
 * @module
 */

import { Keyv } from "keyv";
import { invalidOption, TrueupError } from "../core/errors.ts";
import type { Scope } from "../core/event.ts";
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
  type RouteCounts,
  type Store,
  type StoreEnvironment,
  type WorkSession,
} from "../core/store.ts";
import { append } from "./memory/append.ts";
import { counts, forget, lookup, pending, recordIndex, sweep } from "./memory/calls.ts";
import { Database, type Limits } from "./memory/database.ts";
import { deadRecords, listDead } from "./memory/dead-letters.ts";
import { endPass, unseen } from "./memory/passes.ts";
import { discardedDead, retriedDead } from "./memory/record.ts";
import { MemorySession } from "./memory/session.ts";
import { shareDatabase, type SharedDatabase } from "./memory/shared.ts";

export interface KeyvStoreOptions {
  /** What the store's keys in the Keyv begin with; anything else there is left alone. `"trueup:"` by default. */
  readonly prefix?: string | undefined;
  /** Most objects that wait, are leased or are dead. 100 000 by default. */
  readonly maxPendingObjects?: number | undefined;
  /** Most events kept with them. 500 000 by default. */
  readonly maxPendingEvents?: number | undefined;
  /** Most event ids remembered; each is kept for the engine's event time to live. 1 000 000 by default. */
  readonly maxLedgerKeys?: number | undefined;
}

/**
 * A store for one process, in memory. Over a Keyv whose adapter keeps things (a file, Redis, a database), work, index,
 * ledger and checkpoints are found again after a restart; but a call is several writes there, and what those survive
 * is the adapter's to say. So the durability is `"none"`: webhooks are answered only once they are handled.
 *
 * The Keyv may serve others too: all keys begin with `prefix`. It must be iterable. Its hooks, serialization,
 * compression and encryption apply. It is neither connected nor disconnected here.
 *
 * One process works on a Keyv at a time. A second session in the same process rejects with `STORE_IN_USE`; of two
 * processes the one that started to work first learns from its next heartbeat that it has lost the store. Neither Keyv
 * nor this store can prevent that both write until then: what several processes share needs another store.
 *
 * Calls reject with `STORE_FULL` beyond the limits, and with `STORE_FAILED` when the Keyv fails, also where the Keyv
 * has a listener for `error` and would say nothing. `open` rejects with `OPTION_INVALID` for a Keyv that cannot be
 * iterated.
 *
 * @param keyv A Keyv of version 6; by default one in memory.
 *
 * @example
 * new SyncEngine({ store: keyvStore(), … });
 * new SyncEngine({ store: keyvStore(new Keyv({ store: new KeyvSqlite("sqlite://sync.db") })), … });
 */
export function keyvStore(keyv: Keyv = inMemory(), options: KeyvStoreOptions = {}): Store {
  const limits: Limits = {
    maxPendingObjects: limit("maxPendingObjects", options.maxPendingObjects ?? 100_000),
    maxPendingEvents: limit("maxPendingEvents", options.maxPendingEvents ?? 500_000),
    maxLedgerKeys: limit("maxLedgerKeys", options.maxLedgerKeys ?? 1_000_000),
  };
  const prefix = options.prefix ?? "trueup:";
  if (prefix === "") throw invalidOption("`prefix` must not be empty: it tells the store's keys from others");
  return new KeyvStore(keyv, prefix, limits);
}

// Records are JSON and never changed: without serialization the Keyv holds the very records that the store works with.
function inMemory(): Keyv {
  return new Keyv({ serialization: false });
}

function limit(name: string, value: number): number {
  if (Number.isInteger(value) && value > 0) return value;
  throw invalidOption(`\`${name}\` must be a positive integer, not ${value}`);
}

class KeyvStore implements Store {
  readonly guarantees = { durability: "none", shared: false, transactional: false } as const;
  readonly #keyv: Keyv;
  readonly #prefix: string;
  readonly #limits: Limits;
  #shared: SharedDatabase | undefined;
  #session: MemorySession | undefined;

  constructor(keyv: Keyv, prefix: string, limits: Limits) {
    this.#keyv = keyv;
    this.#prefix = prefix;
    this.#limits = limits;
  }

  async open(environment: StoreEnvironment): Promise<void> {
    if (this.#shared !== undefined) return;
    this.#shared = await shareDatabase(this.#keyv, this.#prefix, () =>
      Database.open(this.#keyv, this.#prefix, environment, this.#limits),
    );
  }

  async close(): Promise<void> {
    const shared = this.#shared;
    if (shared === undefined) return;
    this.#shared = undefined;
    await shared.database.settle();
    if (this.#session !== undefined) shared.database.free(this.#session);
    shared.leave();
  }

  async work(options: {
    readonly leaseMs: number;
    readonly signal?: AbortSignal | undefined;
  }): Promise<WorkSession> {
    const database = this.#database;
    const session = new MemorySession(database);
    if (!(await database.takeOver(session, options.leaseMs, options.signal))) {
      throw new TrueupError("STORE_IN_USE", "another session in this process works on this Keyv");
    }
    try {
      if (this.#shared?.database !== database) throw notOpen();
      await session.voidLeases();
    } catch (error) {
      database.free(session);
      throw error;
    }
    this.#session = session;
    return session;
  }

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    return await this.#database.change((draft) => append(draft, entries));
  }

  async nextDue(
    routes: readonly { readonly provider: string; readonly resource: string }[],
  ): Promise<number | undefined> {
    const { state, now } = this.#database;
    const dues = routes.flatMap((route) => state.lanes.nextDue(route, now) ?? []);
    return dues.length === 0 ? undefined : Math.min(...dues);
  }

  async counter(_scope: Scope): Promise<number> {
    return this.#database.counter;
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    return lookup(this.#database.state, scope, ids);
  }

  async record(
    scope: Scope,
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
  ): Promise<number> {
    return await this.#database.change((draft) => recordIndex(draft, scope, entries));
  }

  async unseen(
    scope: Scope,
    pass: string,
    options: { readonly mark: number; readonly after: string | undefined; readonly limit: number },
  ): Promise<{ readonly id: string; readonly position: string }[]> {
    return unseen(this.#database.state, scope, pass, options);
  }

  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    await this.#database.change((draft) => endPass(draft, scope, pass, lock, checkpoint));
  }

  async countPresent(scope: Scope): Promise<number> {
    return this.#database.state.scope(scope)?.present ?? 0;
  }

  async getCheckpoint(key: string): Promise<string | undefined> {
    return this.#database.state.checkpoints.get(key);
  }

  async setCheckpoint(key: string, value: string | null): Promise<void> {
    await this.#database.change((draft) => draft.setCheckpoint(key, value));
  }

  async lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined> {
    return await this.#database.change((draft) => {
      const found = draft.state.locks.get(name);
      const isHolder = held !== undefined && found?.fence === held.fence;
      if (held !== undefined && !isHolder) return undefined;
      if (!isHolder && found !== undefined && found.until > draft.now) return undefined;
      const fence = isHolder ? held.fence : draft.next();
      draft.setLock({ name, fence, until: draft.now + ttlMs });
      return { name, fence };
    });
  }

  async unlock(lock: Lock): Promise<void> {
    await this.#database.change((draft) => {
      const found = draft.state.locks.get(lock.name);
      // The fence stays behind, so that no page of the former holder is taken for the next one's.
      if (found?.fence === lock.fence) draft.setLock({ name: lock.name, fence: draft.next(), until: 0 });
    });
  }

  async pause(pause: Pause): Promise<void> {
    await this.#database.change((draft) => {
      const { provider, connection, until, reason } = pause;
      const found = draft.state.pauseInForce(provider, connection, draft.now);
      const endsEarlier =
        found !== undefined && (found.until === null || (until !== null && until < found.until));
      if (!endsEarlier) draft.setPause({ provider, connection, until, reason });
    });
  }

  async resume(provider: string, connection: string): Promise<void> {
    await this.#database.change((draft) => {
      const found = draft.state.pauseOf(provider, connection);
      if (found !== undefined) draft.setPause(found, false);
    });
  }

  async pauses(): Promise<Pause[]> {
    const { state, now } = this.#database;
    return [...state.pauses.values()].filter((pause) => pause.until === null || pause.until > now);
  }

  async connections(provider: string): Promise<string[]> {
    const scopes = [...this.#database.state.scopes.values()].map((one) => one.scope);
    const names = scopes.filter((scope) => scope.provider === provider).map((scope) => scope.connection);
    return [...new Set(names)];
  }

  async forget(provider: string, connection: string): Promise<void> {
    const checkpoints = connectionKey(provider, connection);
    await this.#database.change((draft) => forget(draft, { provider, connection }, checkpoints));
  }

  async counts(): Promise<RouteCounts[]> {
    return counts(this.#database.state);
  }

  async pending(dueBy: number): Promise<Pending> {
    return pending(this.#database.state, dueBy);
  }

  async listDead(
    filter: DeadLetterFilter,
    page: { readonly cursor: string | undefined; readonly limit: number },
  ): Promise<{ readonly items: DeadRecord[]; readonly next: string | undefined }> {
    return listDead(this.#database.state, filter, page);
  }

  async retryDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#database.change((draft) => {
      const records = deadRecords(draft.state, filter);
      for (const dead of records) draft.put(retriedDead(dead, draft.now));
      return records.length;
    });
  }

  async discardDead(filter: DeadLetterFilter): Promise<number> {
    return await this.#database.change((draft) => {
      const records = deadRecords(draft.state, filter);
      for (const dead of records) draft.put(discardedDead(dead, draft.now));
      return records.length;
    });
  }

  async sweep(): Promise<boolean> {
    return await this.#database.change(sweep);
  }

  get #database(): Database {
    if (this.#shared === undefined) throw notOpen();
    return this.#shared.database;
  }
}

function notOpen(): TrueupError<"STORE_FAILED"> {
  return new TrueupError("STORE_FAILED", "the store is not open");
}
