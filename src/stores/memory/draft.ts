/**
 * One call's changes before they count: read through, written to Keyv, and only then applied to the state.
 *
 * @module
 */

import { hash } from "node:crypto";
import type { ObjectRef } from "../../core/event.ts";
import type { Pause } from "../../core/store.ts";
import type { Counter } from "./counter.ts";
import type { Write } from "./journal.ts";
import type { LedgerBlock } from "./ledger.ts";
import { eventsHeld, isPending, type Moment, newRecord, type ObjectRecord } from "./record.ts";
import { type LockState, pauseKey, scopeKey, type SeenPage, type State } from "./state.ts";

/** How much a draft would add to what is bounded. */
export interface Growth {
  readonly pending: number;
  readonly events: number;
  readonly ledgerKeys: number;
}

export class Draft {
  readonly state: State;
  readonly now: number;
  readonly #counter: Counter;
  readonly #maxEvents: number;
  readonly #objects = new Map<number, ObjectRecord | undefined>();
  /** Numbers of objects that this draft brings in, by scope and id. */
  readonly #new = new Map<string, number>();
  readonly #ledgerKeys = new Set<string>();
  readonly #sweptBlocks: LedgerBlock[] = [];
  readonly #checkpoints = new Map<string, string | null>();
  readonly #locks = new Map<string, LockState>();
  readonly #pauses = new Map<string, { readonly pause: Pause; readonly inForce: boolean }>();
  readonly #seen: { readonly key: string; readonly page: SeenPage }[] = [];
  readonly #endedSeen = new Set<string>();
  readonly #forgotten: { readonly provider: string; readonly connection: string }[] = [];
  readonly #onAbandon: (() => void)[] = [];

  constructor(state: State, counter: Counter, time: { readonly now: number; readonly maxEvents: number }) {
    this.state = state;
    this.now = time.now;
    this.#counter = counter;
    this.#maxEvents = time.maxEvents;
  }

  /** Advances the counter. It stays advanced even if the draft comes to nothing. */
  next(): number {
    return this.#counter.next();
  }

  /** A new moment, its counter just advanced. */
  moment(): Moment {
    return { counter: this.next(), now: this.now, maxEvents: this.#maxEvents };
  }

  object(key: number): ObjectRecord | undefined {
    return this.#objects.has(key) ? this.#objects.get(key) : this.state.objects.get(key);
  }

  find(ref: ObjectRef): ObjectRecord | undefined {
    const key = this.#new.get(refKey(ref));
    if (key !== undefined) return this.object(key);
    const known = this.state.find(ref);
    return known === undefined ? undefined : this.object(known.key);
  }

  findOrCreate(ref: ObjectRef): ObjectRecord {
    const found = this.find(ref);
    if (found !== undefined) return found;
    const record = newRecord(this.next(), ref, this.now);
    this.#new.set(refKey(ref), record.key);
    return record;
  }

  put(record: ObjectRecord): ObjectRecord {
    this.#objects.set(record.key, record);
    return record;
  }

  delete(key: number): void {
    this.#objects.set(key, undefined);
  }

  /** Takes objects out of their lanes; they go back by themselves if the draft comes to nothing. */
  take(
    route: { readonly provider: string; readonly resource: string },
    limit: number,
    except: readonly string[],
  ): ObjectRecord[] {
    const { lanes } = this.state;
    const records = lanes
      .take(route, { limit, except, now: this.now })
      .flatMap((key) => this.state.objects.get(key) ?? []);
    this.onAbandon(() => {
      for (const record of records) lanes.put(record);
    });
    return records;
  }

  isDuplicate(key: string): boolean {
    return this.#ledgerKeys.has(key) || this.state.ledger.has(key);
  }

  remember(key: string): void {
    this.#ledgerKeys.add(key);
  }

  sweepBlocks(blocks: readonly LedgerBlock[]): void {
    this.#sweptBlocks.push(...blocks);
  }

  setCheckpoint(name: string, value: string | null): void {
    this.#checkpoints.set(name, value);
  }

  setLock(lock: LockState): void {
    this.#locks.set(lock.name, lock);
  }

  setPause(pause: Pause, inForce = true): void {
    this.#pauses.set(pauseKey(pause.provider, pause.connection), { pause, inForce });
  }

  addSeen(page: SeenPage): void {
    this.#seen.push({ key: `s${this.next()}`, page });
  }

  endSeen(name: string): void {
    this.#endedSeen.add(name);
  }

  /** Forgets the connection itself, all of whose objects this draft deletes. */
  forgetConnection(provider: string, connection: string): void {
    this.#forgotten.push({ provider, connection });
  }

  growth(): Growth {
    let pending = 0;
    let events = 0;
    for (const [key, record] of this.#objects) {
      const old = this.state.objects.get(key);
      if (record !== undefined) {
        pending += Number(isPending(record));
        events += eventsHeld(record);
      }
      if (old !== undefined) {
        pending -= Number(isPending(old));
        events -= eventsHeld(old);
      }
    }
    return { pending, events, ledgerKeys: this.#ledgerKeys.size };
  }

  /**
   * The writes in the order that makes a crash harmless wherever it strikes: what only repeats work if it is there
   * too early comes first. Objects are dirty before the event's id is known, and before a checkpoint moves on. Taking
   * away goes the other way round: a checkpoint is gone before the objects that it speaks of, and what a pass has seen
   * is gone before the checkpoint that calls the pass ended.
   */
  phases(block: LedgerBlock | undefined, counterWrite: Write | undefined): Write[][] {
    const checkpoints = [...this.#checkpoints].map(([name, value]) => this.#checkpointWrite(name, value));
    const phases = [
      counterWrite === undefined ? [] : [counterWrite],
      this.#endedSeenWrites(),
      checkpoints.filter((write) => write.value === undefined),
      [...this.#objects].map(([key, value]) => ({
        key: `o${key}`,
        value,
        before: this.state.objects.get(key),
      })),
      [...this.#ledgerWrites(block), ...this.#namedWrites()],
      this.#seen.map(({ key, page }) => ({ key, value: page, before: undefined })),
      checkpoints.filter((write) => write.value !== undefined),
    ];
    return phases.filter((phase) => phase.length > 0);
  }

  /** The dedupe keys of this draft, as one block. */
  block(ttlMs: number): LedgerBlock | undefined {
    if (this.#ledgerKeys.size === 0) return undefined;
    return { number: this.next(), expires: this.now + ttlMs, keys: [...this.#ledgerKeys] };
  }

  apply(block: LedgerBlock | undefined): void {
    const { state } = this;
    for (const [key, record] of this.#objects) {
      if (record === undefined) state.delete(key);
      else state.put(record);
    }
    state.ledger.drop(this.#sweptBlocks.length);
    if (block !== undefined) state.ledger.add(block);
    for (const [name, value] of this.#checkpoints) {
      if (value === null) state.checkpoints.delete(name);
      else state.checkpoints.set(name, value);
    }
    for (const [name, lock] of this.#locks) state.locks.set(name, lock);
    for (const { pause, inForce } of this.#pauses.values()) state.setPause(pause, inForce);
    for (const name of this.#endedSeen) state.seen.delete(name);
    for (const { key, page } of this.#seen) state.addSeen(key, page);
    for (const { provider, connection } of this.#forgotten) state.forgetConnection(provider, connection);
  }

  /** Calls back if the draft comes to nothing, for what the state has handed out to it. */
  onAbandon(undo: () => void): void {
    this.#onAbandon.push(undo);
  }

  /** Nothing of this draft has happened. */
  abandon(): void {
    for (const undo of this.#onAbandon) undo();
  }

  #ledgerWrites(block: LedgerBlock | undefined): Write[] {
    const swept = this.#sweptBlocks.map((old) => ({ key: `d${old.number}`, value: undefined, before: old }));
    if (block === undefined) return swept;
    const ttlMs = block.expires - this.now;
    return [...swept, { key: `d${block.number}`, value: block, before: undefined, ttlMs }];
  }

  #namedWrites(): Write[] {
    const locks = [...this.#locks].map(([name, value]) => ({
      key: named("l", name),
      value,
      before: this.state.locks.get(name),
    }));
    const pauses = [...this.#pauses].map(([name, { pause, inForce }]) => ({
      key: named("p", name),
      value: inForce ? pause : undefined,
      before: this.state.pauses.get(name),
    }));
    return [...locks, ...pauses];
  }

  #checkpointWrite(name: string, value: string | null): Write {
    const before = this.state.checkpoints.get(name);
    return {
      key: named("c", name),
      value: value === null ? undefined : { name, value },
      before: before === undefined ? undefined : { name, value: before },
    };
  }

  // What was seen is not set back if ending it fails half way: a pass that has forgotten what it saw only looks again.
  #endedSeenWrites(): Write[] {
    return [...this.#endedSeen].flatMap((name) =>
      (this.state.seen.get(name)?.pages ?? []).map((key) => ({ key, value: undefined, before: undefined })),
    );
  }
}

function refKey(ref: ObjectRef): string {
  return `${scopeKey(ref)}${ref.id}`;
}

// Names are the engine's and the user's: hashed, they are short and of letters that every adapter takes.
function named(kind: string, name: string): string {
  return kind + hash("sha256", name, "hex").slice(0, 32);
}
