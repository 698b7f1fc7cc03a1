/**
 * What several processes share, as a server would keep it: one state in memory, the sessions of those who work on it, the
 * permits of configured rates, and the users' rows. It outlives its processes. Every call is one step that nothing comes
 * between, and time is the server's own.
 *
 * @module
 */

import type { Clock } from "../../../src/core/clock.ts";
import { TrueupError } from "../../../src/core/errors.ts";
import type { StoreEnvironment } from "../../../src/core/store.ts";
import { Counter } from "../../../src/stores/memory/counter.ts";
import { Draft } from "../../../src/stores/memory/draft.ts";
import { unleased } from "../../../src/stores/memory/record.ts";
import { State } from "../../../src/stores/memory/state.ts";
import type { Memory } from "../../../src/stores/memory/store.ts";
import { Permits } from "./permits.ts";
import type { Claim } from "../../../src/core/store.ts";

/** A session, as the server knows it. */
export interface Tenancy {
  readonly leaseMs: number;
  beatAt: number;
  /** Numbers of the objects that it has leased. */
  readonly objects: Set<number>;
}

export class MemoryServer<Row> implements Memory {
  /** What users wrote with `commit`, in the order in which it was committed. */
  readonly rows: Row[] = [];
  readonly permits = new Permits();
  readonly #counter = endless();
  readonly #tenancies = new Set<Tenancy>();
  readonly #listeners = new Set<() => void>();
  #environment: StoreEnvironment | undefined;
  #state: State | undefined;

  /** The first process that comes brings the clock, and says for how long things are kept. */
  open(environment: StoreEnvironment): void {
    this.#environment ??= environment;
    this.#state ??= new State(environment.eventTtlMs);
  }

  get state(): State {
    if (this.#state === undefined) throw new TrueupError("STORE_FAILED", "nobody has opened the store");
    return this.#state;
  }

  get now(): number {
    return this.#clock.now();
  }

  /** By a clock that nobody sets: by it leases end, and permits come back. */
  get elapsedMs(): number {
    return this.#clock.monotonic();
  }

  get counter(): number {
    return this.#counter.value;
  }

  async change<T>(body: (draft: Draft) => T): Promise<T> {
    return this.#change(body);
  }

  subscribe(listener: () => void): () => void {
    const own = () => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Tells everybody that there may be something to claim. */
  notify(): void {
    for (const listener of this.#listeners) queueMicrotask(() => this.#listeners.has(listener) && listener());
  }

  admit(leaseMs: number): Tenancy {
    const tenancy: Tenancy = { leaseMs, beatAt: this.elapsedMs, objects: new Set() };
    this.#tenancies.add(tenancy);
    return tenancy;
  }

  /** Whether a session lives that asks for something. Who asks also ends those that gave no sign of life, as nobody else would. */
  lives(tenancy: Tenancy): boolean {
    if (!this.#tenancies.has(tenancy)) return false;
    for (const other of this.#tenancies) {
      const silentMs = this.elapsedMs - other.beatAt;
      if (other !== tenancy && silentMs >= other.leaseMs) this.evict(other, "crashed");
    }
    return true;
  }

  /** Remembers whose claims these are. */
  give(tenancy: Tenancy, claims: Claim[]): Claim[] {
    for (const { key } of claims) tenancy.objects.add(key);
    return claims;
  }

  evict(tenancy: Tenancy, how: "released" | "crashed"): void {
    if (!this.#tenancies.delete(tenancy)) return;
    this.#change((draft) => {
      for (const key of tenancy.objects) {
        const record = draft.object(key);
        if (record?.state === "leased") draft.put(unleased(record, how, draft.moment()));
      }
    });
    this.notify();
  }

  #change<T>(body: (draft: Draft) => T): T {
    const { eventTtlMs, maxEventsPerChange } = this.#environment!;
    const draft = new Draft(this.state, this.#counter, { now: this.now, maxEvents: maxEventsPerChange });
    try {
      const result = body(draft);
      draft.apply(draft.block(eventTtlMs));
      return result;
    } catch (error) {
      draft.abandon();
      throw error;
    }
  }

  get #clock(): Clock {
    if (this.#environment === undefined) throw new TrueupError("STORE_FAILED", "nobody has opened the store");
    return this.#environment.clock;
  }
}

/** What is only in memory needs no reservation. */
function endless(): Counter {
  const counter = new Counter(undefined);
  const value = { format: 1, counter: Number.MAX_SAFE_INTEGER };
  counter.reserved({ key: "", value, before: undefined });
  return counter;
}
