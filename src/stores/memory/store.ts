/**
 * The calls of a store that need no right to work, over a state in memory.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
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
} from "../../core/store.ts";
import { append } from "./append.ts";
import { counts, forget, lookup, pending, recordIndex, sweep } from "./calls.ts";
import { deadRecords, listDead } from "./dead-letters.ts";
import type { Draft } from "./draft.ts";
import { endPass, unseen } from "./passes.ts";
import { discardedDead, retriedDead } from "./record.ts";
import type { State } from "./state.ts";

/** A state, and the road by which it changes. */
export interface Memory {
  readonly state: State;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly counter: number;
  /** Runs one change, which happens whole or not at all. */
  change<T>(body: (draft: Draft) => T): Promise<T>;
}

export abstract class MemoryStore {
  /** @throws TrueupError `STORE_FAILED` unless the store is open. */
  protected abstract get memory(): Memory;

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    return await this.memory.change((draft) => append(draft, entries));
  }

  async nextDue(
    routes: readonly { readonly provider: string; readonly resource: string }[],
  ): Promise<number | undefined> {
    const { state, now } = this.memory;
    const dues = routes.flatMap((route) => state.lanes.nextDue(route, now) ?? []);
    return dues.length === 0 ? undefined : Math.min(...dues);
  }

  async counter(_scope: Scope): Promise<number> {
    return this.memory.counter;
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    return lookup(this.memory.state, scope, ids);
  }

  async record(
    scope: Scope,
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
  ): Promise<number> {
    return await this.memory.change((draft) => recordIndex(draft, scope, entries));
  }

  async unseen(
    scope: Scope,
    pass: string,
    options: { readonly mark: number; readonly after: string | undefined; readonly limit: number },
  ): Promise<{ readonly id: string; readonly position: string }[]> {
    return unseen(this.memory.state, scope, pass, options);
  }

  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    await this.memory.change((draft) => endPass(draft, scope, pass, lock, checkpoint));
  }

  async countPresent(scope: Scope): Promise<number> {
    return this.memory.state.scope(scope)?.present ?? 0;
  }

  async getCheckpoint(key: string): Promise<string | undefined> {
    return this.memory.state.checkpoints.get(key);
  }

  async setCheckpoint(key: string, value: string | null): Promise<void> {
    await this.memory.change((draft) => draft.setCheckpoint(key, value));
  }

  async lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined> {
    return await this.memory.change((draft) => {
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
    await this.memory.change((draft) => {
      const found = draft.state.locks.get(lock.name);
      // The fence stays behind, so that no page of the former holder is taken for the next one's.
      if (found?.fence === lock.fence) draft.setLock({ name: lock.name, fence: draft.next(), until: 0 });
    });
  }

  async pause(pause: Pause): Promise<void> {
    await this.memory.change((draft) => {
      const { provider, connection, until, reason } = pause;
      const found = draft.state.pauseInForce(provider, connection, draft.now);
      const endsEarlier =
        found !== undefined && (found.until === null || (until !== null && until < found.until));
      if (!endsEarlier) draft.setPause({ provider, connection, until, reason });
    });
  }

  async resume(provider: string, connection: string): Promise<void> {
    await this.memory.change((draft) => {
      const found = draft.state.pauseOf(provider, connection);
      if (found !== undefined) draft.setPause(found, false);
    });
  }

  async pauses(): Promise<Pause[]> {
    const { state, now } = this.memory;
    return [...state.pauses.values()].filter((pause) => pause.until === null || pause.until > now);
  }

  async connections(provider: string): Promise<string[]> {
    const scopes = [...this.memory.state.scopes.values()].map((one) => one.scope);
    const names = scopes.filter((scope) => scope.provider === provider).map((scope) => scope.connection);
    return [...new Set(names)];
  }

  async forget(provider: string, connection: string): Promise<void> {
    const checkpoints = connectionKey(provider, connection);
    await this.memory.change((draft) => forget(draft, { provider, connection }, checkpoints));
  }

  async counts(): Promise<RouteCounts[]> {
    return counts(this.memory.state);
  }

  async pending(dueBy: number): Promise<Pending> {
    return pending(this.memory.state, dueBy);
  }

  async listDead(
    filter: DeadLetterFilter,
    page: { readonly cursor: string | undefined; readonly limit: number },
  ): Promise<{ readonly items: DeadRecord[]; readonly next: string | undefined }> {
    return listDead(this.memory.state, filter, page);
  }

  async retryDead(filter: DeadLetterFilter): Promise<number> {
    return await this.memory.change((draft) => {
      const records = deadRecords(draft.state, filter);
      for (const dead of records) draft.put(retriedDead(dead, draft.now));
      return records.length;
    });
  }

  async discardDead(filter: DeadLetterFilter): Promise<number> {
    return await this.memory.change((draft) => {
      const records = deadRecords(draft.state, filter);
      for (const dead of records) draft.put(discardedDead(dead, draft.now));
      return records.length;
    });
  }

  async sweep(): Promise<boolean> {
    return await this.memory.change(sweep);
  }
}
