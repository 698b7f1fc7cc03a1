/** One store under test beside the models of all that it may have done. */
import assert from "node:assert/strict";
import type { StoreSuiteOptions } from "../../../src/testing/store-suite/fixture.ts";
import { TestClock } from "../../../src/testing/index.ts";
import type { Claim, Lock, Store, WorkSession } from "../../../src/core/store.ts";
import { environmentOf } from "../environment.ts";
import { Model } from "./model.ts";
import { observe, expectObserved, PROVIDER, RESOURCES, SCOPES } from "./observe.ts";
import type { Alone, Operation, Shareable } from "./operations.ts";
import { prepare, type Check } from "./calls.ts";

export const LEASE_MS = 30_000;
/** The longest that a store may spread out what crashed. */
const SPREAD_MS = 60_000;

export interface ModelOptions<Tx> extends StoreSuiteOptions<Tx> {
  /** Whether a session that gives no sign of life is overtaken by another of this process. @default true */
  readonly overtakes?: boolean;
  /** How many runs are drawn where nobody asks for more. @default 200 */
  readonly runs?: number;
}

interface Worker<Tx> {
  readonly holder: number;
  readonly door: Store<Tx>;
  readonly session: WorkSession<Tx>;
}

export class Driver<Tx> {
  readonly clock = new TestClock();
  readonly options: ModelOptions<Tx>;
  /** Open instances over the same data. */
  doors: Store<Tx>[] = [];
  workers: Worker<Tx>[] = [];
  /** Sessions of living processes that have ended; they must know. */
  ended: Pick<Worker<Tx>, "door" | "session">[] = [];
  readonly claims: { readonly claim: Claim; readonly holder: number }[] = [];
  readonly locks: Lock[] = [];
  readonly lines = new Set<string>();
  readonly trace: string[] = [];
  #worlds: Model[] = [];
  #created: Store<Tx> | undefined;
  #holders = 0;
  #serial = 0;

  constructor(options: ModelOptions<Tx>) {
    this.options = options;
  }

  get store(): Store<Tx> {
    return this.doors[0]!;
  }

  get shared(): boolean {
    return this.store.guarantees.shared;
  }

  /** A number that was not given before. */
  serial(): number {
    this.#serial += 1;
    return this.#serial;
  }

  /** Any of the models, for what all of them agree on. */
  get model(): Model {
    return this.#worlds[0]!;
  }

  async start(): Promise<void> {
    this.#created = await this.options.create();
    this.doors = [await this.#open(this.#created)];
    await this.options.transaction?.prepare?.(this.#created);
    if (this.options.reopen !== undefined) this.doors.push(await this.#reopened());
    const { eventTtlMs, maxEventsPerChange } = environmentOf(this.clock);
    this.#worlds = [new Model({ eventTtlMs, maxEventsPerChange, shared: this.shared })];
    for (const door of this.shared ? this.doors : [this.store]) await this.#work(door);
    for (const scope of SCOPES) {
      const mark = await this.store.counter(scope);
      this.#step([(model) => model.mark(scope, mark)]);
    }
  }

  async end(): Promise<void> {
    for (const door of this.doors) await door.close();
    if (this.#created !== undefined) await this.options.dispose?.(this.#created);
  }

  /** Runs operations at once: there must be an order of them in which each answer was right. */
  async round(operations: readonly Operation[]): Promise<void> {
    const [first] = operations;
    if (operations.length === 1 && isAlone(first!)) await this.#alone(first);
    else {
      const calls = operations.flatMap((one) => prepare(this, one as Shareable) ?? []);
      this.#step(await Promise.all(calls.map((call) => call())));
    }
    const seen = await observe(this.doors.at(-1)!, this.clock.now());
    this.#step([(model) => expectObserved(model, seen)]);
  }

  /** Whatever was left must come to its end once nothing is in the way. */
  async finish(): Promise<void> {
    for (const connection of new Set(SCOPES.map((scope) => scope.connection))) {
      await this.store.resume(PROVIDER, connection);
      this.#step([(model) => void model.pauses.delete(connection)]);
    }
    await this.pass(SPREAD_MS + 2 * LEASE_MS);
    // Twice, since a claim that is open may have been appended to: then its object is due once more.
    for (let time = 1; time <= 2; time += 1) {
      await this.#claimAll();
      await this.#settleAll();
    }
    const { due, leased, later } = await this.store.pending(this.clock.now());
    assert.deepEqual(
      { due, leased, later },
      { due: 0, leased: 0, later: 0 },
      "everything is handled in the end",
    );
  }

  async #claimAll(): Promise<void> {
    for (const resource of RESOURCES.keys()) {
      for (const worker of this.workers.keys()) {
        await this.round([{ kind: "claim", worker, resource, limit: 100, except: undefined }]);
      }
    }
  }

  async #settleAll(): Promise<void> {
    for (const { claim, holder } of this.claims) {
      const { session } = this.workers.find((worker) => worker.holder === holder) ?? this.workers[0]!;
      const settlement = { claim, kind: "done", index: null } as const;
      const outcomes = await session.settle([settlement]);
      this.#step([(model, now) => model.settle(now, [settlement], outcomes)]);
    }
  }

  /** Lets time pass in which all workers live. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0;) {
      const step = Math.min(left, LEASE_MS / 3);
      await this.clock.advance(step);
      left -= step;
      if (!this.shared && left > 0) continue;
      for (const { session } of this.workers)
        assert.equal(await session.heartbeat(), true, "a session that beats lives");
    }
  }

  async #alone(operation: Alone): Promise<void> {
    switch (operation.kind) {
      case "advance":
        await this.pass(operation.ms);
        break;
      case "release":
        await this.#release(operation.worker);
        break;
      case "crash":
        if (this.options.reopen !== undefined) await this.#crash(operation.worker, operation.all);
        break;
      case "overtake":
        if (this.options.reopen !== undefined && this.options.overtakes !== false)
          await this.#overtake(operation.worker);
        break;
      default: {
        const check = await prepare(this, operation)?.();
        if (check !== undefined) this.#step([check]);
      }
    }
    this.trace.push(JSON.stringify(operation));
  }

  async #release(index: number): Promise<void> {
    const worker = this.workers[index % this.workers.length]!;
    await worker.session.release();
    const now = this.clock.now();
    this.#leave(worker);
    this.#step([(model) => model.voidLeases(worker.holder, "released", { from: now, until: now })]);
    // Another instance's turn, where there is one.
    await this.#work(this.doors.find((door) => door !== worker.door) ?? worker.door);
    await this.#expectEnded();
  }

  /** The process of a worker ends (which may be another's too), or those of all; others take its place. */
  async #crash(index: number, all: boolean): Promise<void> {
    const { door: chosen } = this.workers[index % this.workers.length]!;
    const doors = all ? [...this.doors] : [chosen];
    const dying = this.workers.filter(({ door }) => doors.includes(door));
    const from = this.clock.now();
    for (const door of doors)
      await (this.options.crash === undefined ? door.close() : this.options.crash(door));
    this.workers = this.workers.filter((worker) => !dying.includes(worker));
    this.doors = this.doors.filter((door) => !doors.includes(door));
    this.ended = this.ended.filter(({ door }) => !doors.includes(door));
    while (this.doors.length < 2) this.doors.push(await this.#reopened());
    for (const [i] of dying.entries()) await this.#work(this.doors.at(-1 - i)!);
    // Where others live on, they have to find out by and by; a store of its own is taken over at once.
    if (this.shared) await this.pass(2 * LEASE_MS);
    this.#died(dying, from);
  }

  /** A worker gives no sign of life for longer than its lease, and another goes on in its place. */
  async #overtake(index: number): Promise<void> {
    const worker = this.workers[index % this.workers.length]!;
    const from = this.clock.now();
    this.#leave(worker);
    if (this.shared) {
      await this.#work(worker.door);
      await this.pass(2 * LEASE_MS + 1);
    } else {
      await this.clock.advance(LEASE_MS + 1);
      const waiting = { over: false };
      const asked = this.#work(this.doors.find((door) => door !== worker.door)!).finally(
        () => (waiting.over = true),
      );
      asked.catch(() => {});
      // Who asks watches for a while by a clock that nobody can set.
      for (let steps = 0; !waiting.over && steps < 100; steps += 1) await this.clock.advance(LEASE_MS / 20);
      await asked;
    }
    this.#died([worker], from);
    await this.#expectEnded();
    // With its next heartbeat the new one has all that the old one held: its own death would be noticed at once.
    for (const { session } of this.workers) assert.equal(await session.heartbeat(), true);
  }

  #died(workers: readonly Worker<Tx>[], from: number): void {
    const due = { from, until: this.clock.now() + SPREAD_MS };
    this.#step([
      (model, now) => {
        for (const { holder } of workers) model.voidLeases(holder, "crashed", due);
        model.errorsLostAt = now;
        model.errors.clear(); // nobody promises to remember which was the last
      },
    ]);
  }

  /** Whose session has ended can do nothing any more, and is told. */
  async #expectEnded(): Promise<void> {
    const { session } = this.ended.at(-1)!;
    assert.equal(await session.heartbeat(), false, "an ended session has no life");
    const claiming = session.claim({ provider: PROVIDER, resource: RESOURCES[0]!, limit: 1 });
    await assert.rejects(claiming, { code: "STORE_LOST" });
  }

  #leave(worker: Worker<Tx>): void {
    this.workers = this.workers.filter((one) => one !== worker);
    this.ended.push(worker);
  }

  async #work(door: Store<Tx>): Promise<void> {
    const session = await door.work({ leaseMs: LEASE_MS });
    this.#holders += 1;
    this.workers.push({ holder: this.#holders, door, session });
  }

  async #reopened(): Promise<Store<Tx>> {
    return await this.#open(await this.options.reopen!(this.#created!));
  }

  async #open(store: Store<Tx>): Promise<Store<Tx>> {
    await store.open(environmentOf(this.clock));
    return store;
  }

  /** Goes on with all the models that allow these checks in some order. */
  #step(checks: readonly Check[]): void {
    const now = this.clock.now();
    const next = new Map<string, Model>();
    const failures: unknown[] = [];
    for (const world of this.#worlds) {
      for (const order of permutations(checks)) {
        const model = world.copy();
        try {
          model.take(order, now);
          next.set(fingerprint(model), model);
        } catch (error) {
          if (!(error instanceof assert.AssertionError)) throw error;
          failures.push(error);
        }
      }
    }
    if (next.size === 0) throw failures[0];
    this.#worlds = [...next.values()];
  }
}

function isAlone(operation: Operation): operation is Alone {
  return ["unseen", "advance", "sweep", "forget", "release", "crash", "overtake"].includes(operation.kind);
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

function fingerprint(model: Model): string {
  return JSON.stringify(model, (_, value: unknown) =>
    value instanceof Map ? Object.fromEntries(value) : value,
  );
}
