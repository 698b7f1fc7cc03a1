/**
 * Group commit: what is asked for in a few turns of the event loop is written in one transaction.
 *
 * A commit costs a write to the disk whatever is in it, so the calls of all webhooks, workers and passes that come
 * within these turns share it. Each call is answered after the commit, and fails by itself.
 *
 * @module
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { TrueupError } from "../../core/errors.ts";
import { isBusy, storeError, type ConnectionOptions } from "./connection.ts";
import { type Turn, TurnKeeper } from "./turn.ts";

/** How often a transaction is begun again while another process is in the way, each after the driver's own wait. */
const BEGIN_TRIES = 20;

/**
 * How many turns of the event loop a transaction waits for company. Two at least: who batches calls in turns of its own,
 * as the engine does, comes a turn late. Under load each turn brings requests that were waiting in their sockets, and a
 * transaction of twice as many calls costs each of them half; without load a turn takes a few microseconds.
 */
const LEAST_TURNS = 2;
const MOST_TURNS = 4;

/** The places of work in a transaction. What runs the user's code comes last, so that what failed before it can run again. */
const PLACES = { asAsked: 0, behindOthers: 1, guarded: 2 } as const;

interface Job {
  readonly place: (typeof PLACES)[keyof typeof PLACES];
  run(turn: Turn): unknown;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export class Committer {
  readonly #db: DatabaseSync;
  readonly #options: ConnectionOptions;
  readonly #now: () => number;
  readonly #turns: TurnKeeper;
  readonly #commit: StatementSync;
  #queue: Job[] = [];
  #reads: (() => void)[] = [];
  #flushing: Promise<void> | undefined;
  /** Whether a transaction is open, so that reading would show what is not committed. */
  #open = false;
  #closed = false;

  constructor(db: DatabaseSync, options: ConnectionOptions, now: () => number) {
    this.#db = db;
    this.#options = options;
    this.#now = now;
    this.#turns = new TurnKeeper(db);
    this.#commit = db.prepare("COMMIT");
  }

  /**
   * Runs `work` in the next shared transaction. It must be synchronous, must depend on nothing but the database and
   * its arguments (it runs again when the transaction failed because of another's work), and must refuse with a
   * TrueupError only before it wrote anything.
   */
  write<T>(work: (turn: Turn) => T): Promise<T> {
    return this.#enqueue(PLACES.asAsked, work);
  }

  /** As {@link write}, for work that has less to do when the others' of the transaction is done. */
  writeBehind<T>(work: (turn: Turn) => T): Promise<T> {
    return this.#enqueue(PLACES.behindOthers, work);
  }

  /**
   * As {@link write}, for work that runs the user's code: it may be asynchronous, is rolled back by itself when it
   * fails, and runs once. Its errors are handed on as they are.
   */
  writeGuarded<T>(work: (turn: Turn) => T | Promise<T>): Promise<T> {
    return this.#enqueue(PLACES.guarded, work) as Promise<T>;
  }

  /** Reads what is committed: at once, or after the transaction that the user's code keeps open. */
  read<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = () => {
        try {
          if (this.#closed) throw notOpen();
          resolve(work());
        } catch (error) {
          reject(storeError(error, this.#options));
        }
      };
      if (this.#open) this.#reads.push(run);
      else run();
    });
  }

  /** The counter's committed value. */
  counter(): Promise<number> {
    return this.read(() => this.#turns.read().counter);
  }

  /** Writes what is queued; later calls are refused. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#flushing !== undefined) await this.#flushing;
  }

  #enqueue<T>(place: Job["place"], run: (turn: Turn) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(notOpen());
        return;
      }
      this.#queue.push({ place, run, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  async #flush(): Promise<void> {
    while (this.#queue.length > 0) {
      await this.#gathered();
      let jobs = this.#queue.toSorted((a, b) => a.place - b.place);
      this.#queue = [];
      while (jobs.length > 0) jobs = await this.#transaction(jobs);
    }
    this.#flushing = undefined;
  }

  /** Resolves when a turn of the event loop brought nothing more, or after so many that waiting would be felt. */
  async #gathered(): Promise<void> {
    for (let turns = 1, before = 0; ; turns += 1) {
      before = this.#queue.length;
      await nextTurn();
      if (turns >= MOST_TURNS || (turns >= LEAST_TURNS && this.#queue.length === before)) return;
    }
  }

  /** Returns the jobs that have to run again, because another's failure took the transaction with it. */
  async #transaction(jobs: readonly Job[]): Promise<Job[]> {
    const answers: (() => void)[] = [];
    let again: Job[] = [];
    try {
      await this.#begin();
      const turn = this.#turns.begin(this.#now());
      again = await this.#runAll(jobs, turn, answers);
      if (this.#db.isTransaction) {
        this.#turns.end(turn);
        this.#commit.run();
        turn.committed = true;
      }
    } catch (error) {
      this.#rollback();
      const failure = storeError(error, this.#options);
      for (const job of jobs) job.reject(failure);
      answers.length = 0;
    } finally {
      this.#open = false;
    }
    for (const answer of answers) answer();
    const reads = this.#reads;
    this.#reads = [];
    for (const read of reads) read();
    return again;
  }

  async #begin(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        this.#db.exec("BEGIN IMMEDIATE");
        this.#open = true;
        return;
      } catch (error) {
        if (!isBusy(error) || tries === BEGIN_TRIES) throw error;
      }
      await nextTurn();
    }
  }

  async #runAll(jobs: readonly Job[], turn: Turn, answers: (() => void)[]): Promise<Job[]> {
    for (const [i, job] of jobs.entries()) {
      let failure: unknown;
      try {
        const value = isGuarded(job) ? await this.#runGuarded(job, turn) : job.run(turn);
        if (this.#db.isTransaction) {
          answers.push(() => job.resolve(value));
          continue;
        }
        failure = new TrueupError("STORE_FAILED", "a statement of the commit ended the transaction");
      } catch (error) {
        failure = error;
        const intact = this.#db.isTransaction && (isGuarded(job) || error instanceof TrueupError);
        if (intact) {
          answers.push(() => job.reject(error));
          continue;
        }
      }
      // The transaction is lost, or holds half of a job. All of it is undone; the others begin again without this one.
      this.#rollback();
      answers.length = 0;
      job.reject(isGuarded(job) ? failure : storeError(failure, this.#options));
      const done = jobs.slice(0, i);
      for (const other of done.filter(isGuarded)) other.reject(rolledBack(failure));
      return [...done.filter((other) => !isGuarded(other)), ...jobs.slice(i + 1)];
    }
    return [];
  }

  async #runGuarded(job: Job, turn: Turn): Promise<unknown> {
    this.#db.exec("SAVEPOINT trueup_guarded");
    try {
      const value = await job.run(turn);
      if (this.#db.isTransaction) this.#db.exec("RELEASE trueup_guarded");
      return value;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK TO trueup_guarded; RELEASE trueup_guarded");
      turn.undo();
      throw error;
    }
  }

  #rollback(): void {
    if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
  }
}

/** Whether it runs code of the user's, and so may not run a second time. */
function isGuarded(job: Job): boolean {
  return job.place === PLACES.guarded;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function notOpen(): TrueupError {
  return new TrueupError("STORE_FAILED", "the store is not open");
}

function rolledBack(cause: unknown): TrueupError {
  return new TrueupError("STORE_FAILED", "another commit of the same moment ended the shared transaction", {
    cause,
  });
}
