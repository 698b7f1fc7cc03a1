/**
 * The state over one Keyv, and the one road by which it changes. All stores of this process over the same Keyv share
 * it, so that two engines see each other's work instead of overwriting it.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import type { Keyv } from "keyv";
import { invalidOption, TrueupError } from "../../core/errors.ts";
import type { StoreEnvironment } from "../../core/store.ts";
import { Counter } from "./counter.ts";
import { Draft } from "./draft.ts";
import { Journal } from "./journal.ts";
import { readMeta, recover } from "./recovery.ts";
import type { MemorySession } from "./session.ts";
import { State } from "./state.ts";

/** What the memory of a store may hold at most; a call that would exceed it rejects with `STORE_FULL`. */
export interface Limits {
  readonly maxPendingObjects: number;
  readonly maxPendingEvents: number;
  readonly maxLedgerKeys: number;
}

/** Says which process worked on the Keyv last. */
const OWNER_KEY = "w";

export class Database {
  state: State;
  readonly environment: StoreEnvironment;
  readonly #journal: Journal;
  readonly #limits: Limits;
  #counter = new Counter(undefined);
  /** The end of the last call: calls run one after another. */
  #last: Promise<unknown> = Promise.resolve();
  /** This process's mark as owner, and the mark that was found when the state was read. */
  readonly #mark = randomUUID();
  #owner: unknown;
  #session: MemorySession | undefined;
  /** Whether the next one need not wait for the session. */
  #disowned = false;
  readonly #waiters = new Set<() => void>();

  private constructor(journal: Journal, environment: StoreEnvironment, limits: Limits) {
    this.#journal = journal;
    this.environment = environment;
    this.#limits = limits;
    this.state = new State(environment.eventTtlMs);
  }

  /** @throws TrueupError `OPTION_INVALID` for a Keyv that cannot be iterated, `STORE_VERSION`, `STORE_FAILED`. */
  static async open(
    keyv: Keyv,
    prefix: string,
    environment: StoreEnvironment,
    limits: Limits,
  ): Promise<Database> {
    const database = new Database(new Journal(keyv, prefix), environment, limits);
    await database.#load();
    return database;
  }

  get now(): number {
    return this.environment.clock.now();
  }

  get counter(): number {
    return this.#counter.value;
  }

  /**
   * Runs one change: `body` writes into a draft, which is written to Keyv and then applied, whole or not at all.
   *
   * @throws TrueupError `STORE_FULL`, `STORE_FAILED`, or what `body` throws; nothing has changed then.
   */
  async change<T>(body: (draft: Draft) => T): Promise<T> {
    return await this.#alone(async () => {
      const time = { now: this.now, maxEvents: this.environment.maxEventsPerChange };
      const draft = new Draft(this.state, this.#counter, time);
      try {
        const result = body(draft);
        this.#refuseGrowth(draft);
        await this.#commit(draft);
        return result;
      } catch (error) {
        draft.abandon();
        throw error;
      }
    });
  }

  /** Waits for the calls that are under way. */
  async settle(): Promise<void> {
    await this.#alone(async () => {});
  }

  get session(): MemorySession | undefined {
    return this.#session;
  }

  /** Gives the right to work to a session, once nobody else has it. False: it was not free in time. */
  async takeOver(session: MemorySession, leaseMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { clock } = this.environment;
    const deadline = clock.monotonic() + leaseMs;
    while (this.#session !== undefined && !this.#disowned) {
      const leftMs = deadline - clock.monotonic();
      if (leftMs <= 0) return false;
      await this.#untilFree(leftMs, signal);
    }
    signal?.throwIfAborted();
    this.#session = session;
    this.#disowned = false;
    try {
      await this.#becomeOwner();
    } catch (error) {
      this.free(session);
      throw error;
    }
    return true;
  }

  /** Ends a session's right to work. What it has leased stays leased, until it is released or taken over. */
  free(session: MemorySession): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#disowned = false;
    for (const wake of this.#waiters) wake();
  }

  /** Its holder wants the right to work no more, but what it has leased could not be given back. */
  disown(session: MemorySession): void {
    if (this.#session !== session) return;
    this.#disowned = true;
    for (const wake of this.#waiters) wake();
  }

  /** Whether no other process has begun to work on the Keyv since this one did. */
  async isOwner(): Promise<boolean> {
    return await this.#alone(async () => {
      const isOwner = (await this.#journal.read(OWNER_KEY)) === this.#mark;
      // What a failed write left behind is not to wait for the next call. What another process wrote is its own.
      if (isOwner) await this.#journal.setBack();
      return isOwner;
    });
  }

  // Keyv cannot tell whether another process still lives, and cannot keep two from starting at once. What it can tell
  // is that another one has worked here since our state was read: then it is read again.
  async #becomeOwner(): Promise<void> {
    await this.#alone(async () => {
      const found = await this.#journal.read(OWNER_KEY);
      if (found !== this.#owner) await this.#load();
      if (found !== this.#mark) {
        await this.#journal.write([[{ key: OWNER_KEY, value: this.#mark, before: found }]]);
      }
      this.#owner = this.#mark;
    });
  }

  async #load(): Promise<void> {
    this.#counter = new Counter(readMeta(await this.#journal.read("m")));
    const reservation = this.#counter.reservation();
    if (reservation !== undefined) {
      await this.#journal.write([[reservation]]);
      this.#counter.reserved(reservation);
    }
    const found = await this.#journal.readAll();
    // What was just written is the witness: an iterator that does not show it would show no work either.
    if (
      readMeta(found.get("m"))?.counter !== (reservation?.value as { counter?: number } | undefined)?.counter
    ) {
      throw notIterable();
    }
    this.state = recover(found, this.environment.eventTtlMs);
    this.#owner = found.get(OWNER_KEY);
  }

  async #commit(draft: Draft): Promise<void> {
    const block = draft.block(this.environment.eventTtlMs);
    const reservation = this.#counter.reservation();
    const phases = draft.phases(block, reservation);
    if (phases.length === 0) return;
    await this.#journal.write(phases);
    if (reservation !== undefined) this.#counter.reserved(reservation);
    draft.apply(block);
  }

  #refuseGrowth(draft: Draft): void {
    const growth = draft.growth();
    const { maxPendingObjects, maxPendingEvents, maxLedgerKeys } = this.#limits;
    const refuse = (name: keyof Limits, held: number, added: number, limit: number) => {
      if (added <= 0 || held + added <= limit) return;
      throw new TrueupError(
        "STORE_FULL",
        `keyvStore holds ${held} of at most ${limit} (\`${name}\`), and no more`,
      );
    };
    refuse("maxPendingObjects", this.state.pending, growth.pending, maxPendingObjects);
    refuse("maxPendingEvents", this.state.events, growth.events, maxPendingEvents);
    refuse("maxLedgerKeys", this.state.ledger.size, growth.ledgerKeys, maxLedgerKeys);
  }

  async #alone<T>(job: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(job, job);
    // The next call waits for this one, and does not care how it ends.
    this.#last = turn.catch(() => {});
    return await turn;
  }

  #untilFree(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (end: () => void) => () => {
        cancel();
        this.#waiters.delete(onFree);
        signal?.removeEventListener("abort", onAbort);
        end();
      };
      const onFree = finish(resolve);
      const onAbort = finish(() => reject(signal?.reason as Error));
      const cancel = this.environment.clock.setTimer(onFree, ms);
      this.#waiters.add(onFree);
      signal?.addEventListener("abort", onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
    });
  }
}

function notIterable(): TrueupError {
  return invalidOption(
    "keyvStore needs a Keyv that can be iterated, to find its work again after a restart: the iterator of this one " +
      "does not show what was just written",
  );
}
