/**
 * What the store suite's tests stand on: a store of their own, a clock that stands still, and short words for entries,
 * claims and settlements.
 *
 * @module
 */

import type { Random } from "../../core/clock.ts";
import type { Logger } from "../../core/hooks.ts";
import type { Lock, Store, StoreEnvironment, WorkSession } from "../../core/store.ts";
import { TestClock } from "../test-clock.ts";

/** The part of a test runner that the suite needs: vitest, node:test, jest, mocha and others all have it. */
export interface TestRunner {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: (...context: unknown[]) => Promise<void>): unknown;
}

/** How the suite gets at the store to be tested. */
export interface StoreSuiteOptions<Tx = never> {
  /** Makes a new, empty store, not yet open. Called once per test; the suite opens it and closes it. */
  create(): Store<Tx> | Promise<Store<Tx>>;
  /**
   * Makes another instance over the data of a store that `create` made, not yet open, as a second or restarted process
   * would. Needed by a store whose durability is not `"none"`; where absent, what it would prove is skipped.
   */
  reopen?(store: Store<Tx>): Store<Tx> | Promise<Store<Tx>>;
  /** Ends a store as a crash of its process would. By default the store is closed with its session still held. */
  crash?(store: Store<Tx>): void | Promise<void>;
  /** Removes what `create` made, after the suite has closed it. */
  dispose?(store: Store<Tx>): void | Promise<void>;
  /** How a user writes through `Tx`, and what can be seen from outside. Needed by a transactional store. */
  readonly transaction?: TransactionProbe<Tx> | undefined;
}

export interface TransactionProbe<Tx> {
  /** Creates what `write` needs (a table, say) in a store that is open. */
  prepare?(store: Store<Tx>): void | Promise<void>;
  /** Adds one line to the user's data. */
  write(tx: Tx, line: string): void | Promise<void>;
  /** The lines that are committed, in any order. */
  read(store: Store<Tx>): readonly string[] | Promise<readonly string[]>;
}

/** What a test needs of the store; where it is not there the test is skipped, and says why. */
export type Need = "transactional" | "reopen" | "durable" | "exclusive" | "shared" | "notifies";

/** Registers one test of a topic. */
export type DefineTest<Tx> = (
  name: string,
  body: (test: StoreTest<Tx>) => Promise<void>,
  ...needs: readonly Need[]
) => void;

/** A group of tests: a name, and what registers them. */
export interface Topic {
  readonly name: string;
  define<Tx>(it: DefineTest<Tx>): void;
}

export const EVENT_TTL_MS = 60_000;
export const MAX_EVENTS = 5;
export const LEASE_MS = 30_000;

/** One test's store, clock and session. */
export class StoreTest<Tx> {
  readonly clock = new TestClock();
  readonly store: Store<Tx>;
  readonly options: StoreSuiteOptions<Tx>;
  readonly #opened: Store<Tx>[] = [];

  private constructor(store: Store<Tx>, options: StoreSuiteOptions<Tx>) {
    this.store = store;
    this.options = options;
  }

  static async start<Tx>(options: StoreSuiteOptions<Tx>): Promise<StoreTest<Tx>> {
    return new StoreTest(await options.create(), options);
  }

  /** Why the test cannot run on this store; `undefined` when it can. */
  missing(needs: readonly Need[]): string | undefined {
    const { guarantees } = this.store;
    for (const need of needs) {
      if (need === "transactional" && !guarantees.transactional) return "the store is not transactional";
      if (need === "durable" && guarantees.durability === "none") return 'the store\'s durability is "none"';
      if (need === "shared" && !guarantees.shared) return "the store is not shared";
      if (need === "notifies" && this.store.subscribe === undefined) return "the store has no `subscribe`";
      if (need === "exclusive" && guarantees.shared) return "the store is shared";
      if ((need === "reopen" || need === "durable") && this.options.reopen === undefined) {
        // A store that claims to be durable has to prove it: leaving the option out is no way around.
        if (guarantees.durability === "none") return "the suite was given no `reopen`";
        throw new Error(`the store's durability is "${guarantees.durability}": give testStore \`reopen\``);
      }
    }
    return undefined;
  }

  get environment(): StoreEnvironment {
    return {
      clock: this.clock,
      random: seededRandom(),
      logger: silentLogger,
      eventTtlMs: EVENT_TTL_MS,
      maxEventsPerChange: MAX_EVENTS,
    };
  }

  async open(store: Store<Tx> = this.store): Promise<Store<Tx>> {
    this.#opened.push(store);
    await store.open(this.environment);
    return store;
  }

  readonly work = async (store: Store<Tx> = this.store): Promise<WorkSession<Tx>> => {
    return await store.work({ leaseMs: LEASE_MS });
  };

  /** Another instance over the same data, open. */
  async reopen(): Promise<Store<Tx>> {
    if (this.options.reopen === undefined) throw new Error("a test that reopens must say that it needs to");
    return await this.open(await this.options.reopen(this.store));
  }

  /** Ends an instance with its session held, as a crash does. */
  async crash(store: Store<Tx> = this.store): Promise<void> {
    await (this.options.crash === undefined ? store.close() : this.options.crash(store));
  }

  /** Closes the first instance in good order and gives a second one over its data. */
  async restart(): Promise<Store<Tx>> {
    await this.store.close();
    return await this.reopen();
  }

  async lock(name: string, ttlMs = LEASE_MS): Promise<Lock> {
    const lock = await this.store.lock(name, ttlMs);
    if (lock === undefined) throw new Error(`the lock ${name} should be free`);
    return lock;
  }

  /** Sweeps until the store says that there is nothing more to do now. */
  async sweepAll(): Promise<void> {
    for (let slices = 0; await this.store.sweep(); slices += 1) {
      if (slices > 10_000) throw new Error("sweep never says that it is through");
    }
  }

  async end(): Promise<void> {
    for (const store of this.#opened) await store.close();
    await this.options.dispose?.(this.store);
  }
}

/** Mulberry32: small, and the same in each run. */
function seededRandom(seed = 1): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const silentLogger: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
