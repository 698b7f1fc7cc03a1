import { sleep } from "../../../src/core/clock.ts";
import { TrueupError, type Clock } from "trueup";

/** Tells a life what happens to it at one of its boundaries. */
export interface Fate {
  /** Called before and after everything that a life does to the world outside of its memory. */
  crossing(life: Life, where: string): void;
  /** Whether this call of the store fails, before it has done anything. */
  storeFails(where: string): boolean;
  /** How long a call is on its way to the store, or its answer back, in milliseconds: 0 where the store is no server. */
  wayMs(): number;
}

/** What a call inside a commit ends with when its process dies: a database rolls back what nobody commits. */
export class Killed extends Error {
  override readonly name = "Killed";
}

/**
 * The life of one process. Everything that the process does outside of its own memory goes through here, and once it is
 * dead, none of it ever resolves again: as for a process that was killed, the world outside stays as it was.
 */
export class Life {
  readonly name: string;
  readonly clock: Clock;
  readonly #fate: Fate;
  readonly #world: Clock;
  readonly #timers = new Set<() => void>();
  readonly #killed: (() => void)[] = [];
  #dead = false;
  #stall: { readonly ended: Promise<void>; readonly end: () => void } | undefined;
  /** Calls that the store has begun and not ended: time does not pass meanwhile, or every store would be slow. */
  storeCalls = 0;
  /** Whether it ever stood still. */
  stalled = false;

  constructor(name: string, clock: Clock, fate: Fate) {
    this.name = name;
    this.#fate = fate;
    this.#world = clock;
    this.clock = {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      setTimer: (callback, delayMs) => this.#setTimer(clock, callback, delayMs),
    };
  }

  get dead(): boolean {
    return this.#dead;
  }

  get stalling(): boolean {
    return this.#stall !== undefined;
  }

  /** Timers that are set and have not fired. */
  get timers(): number {
    return this.#timers.size;
  }

  /** The process ends here, whatever it is doing. */
  kill(): void {
    if (this.#dead) return;
    this.#dead = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    for (const killed of this.#killed) killed();
    this.#stall?.end();
    this.#stall = undefined;
  }

  /** The process stands still, as under SIGSTOP, until {@link wake}. */
  sleep(): void {
    if (this.#dead || this.#stall !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stall = { ended: promise, end: resolve };
    this.stalled = true;
  }

  wake(): void {
    const stall = this.#stall;
    this.#stall = undefined;
    stall?.end();
  }

  /** Rejects when the process dies; for those who talk to it. */
  get death(): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {});
    if (this.#dead) reject(new Killed("the process is dead"));
    else this.#killed.push(() => reject(new Killed("the process died")));
    return promise;
  }

  /** A boundary that does nothing by itself. Never resolves for a dead process. */
  async cross(where: string): Promise<void> {
    this.#fate.crossing(this, where);
    while (this.#stall !== undefined && !this.#dead) await this.#stall.ended;
    if (this.#dead) await new Promise<never>(() => {});
  }

  /** The same inside a commit, whose transaction has to end. Nor does it stand still here: nobody else could write. */
  async crossInCommit(where: string): Promise<void> {
    this.#fate.crossing(this, where);
    await Promise.resolve();
    if (this.#dead) throw new Killed("the process died inside a commit");
  }

  /** Does something to the outside: the process may die before it, or after it and before it hears of it. */
  async act<T>(where: string, call: () => Promise<T>): Promise<T> {
    await this.cross(`${where} (`);
    let failure: { readonly error: unknown } | undefined;
    let value: T | undefined;
    try {
      value = await call();
    } catch (error) {
      failure = { error };
    }
    await this.cross(`${where} )`);
    if (failure !== undefined) throw failure.error;
    return value as T;
  }

  /** Whether the disk has a bad day. */
  fails(where: string): boolean {
    return this.#fate.storeFails(where);
  }

  /** A call of the store. */
  store<T>(where: string, call: () => Promise<T>): Promise<T> {
    return this.act(where, async () => {
      if (this.fails(where)) throw new TrueupError("STORE_FAILED", "the simulated disk had a bad day");
      await this.#travel();
      this.storeCalls += 1;
      try {
        return await call();
      } finally {
        this.storeCalls -= 1;
        await this.#travel();
      }
    });
  }

  /** What is on its way arrives, though its sender stands still or is dead by then. */
  async #travel(): Promise<void> {
    const ms = this.#fate.wayMs();
    if (ms > 0) await sleep(this.#world, ms);
  }

  #setTimer(clock: Clock, callback: () => void, delayMs: number): () => void {
    if (this.#dead) return () => {};
    const cancel = clock.setTimer(() => {
      this.#timers.delete(cancel);
      void this.#fire(callback);
    }, delayMs);
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }

  async #fire(callback: () => void): Promise<void> {
    while (this.#stall !== undefined && !this.#dead) await this.#stall.ended;
    if (!this.#dead) callback();
  }
}
