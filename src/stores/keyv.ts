/**
 * The default store: in memory, written through to a Keyv.
 *
 * @module
 */

import { Keyv } from "keyv";
import { invalidOption, TrueupError } from "../core/errors.ts";
import type { Store, StoreEnvironment, WorkSession } from "../core/store.ts";
import { Database, type Limits } from "./memory/database.ts";
import { MemorySession } from "./memory/session.ts";
import { shareDatabase, type SharedDatabase } from "./memory/shared.ts";
import { MemoryStore } from "./memory/store.ts";

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

class KeyvStore extends MemoryStore implements Store {
  readonly guarantees = { durability: "none", shared: false, transactional: false } as const;
  readonly #keyv: Keyv;
  readonly #prefix: string;
  readonly #limits: Limits;
  #shared: SharedDatabase | undefined;
  #session: MemorySession | undefined;

  constructor(keyv: Keyv, prefix: string, limits: Limits) {
    super();
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
    const database = this.memory;
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

  protected get memory(): Database {
    if (this.#shared === undefined) throw notOpen();
    return this.#shared.database;
  }
}

function notOpen(): TrueupError<"STORE_FAILED"> {
  return new TrueupError("STORE_FAILED", "the store is not open");
}
