/**
 * All that the store knows, in memory, and the drafts by which it changes.
 *
 * @module
 */

import type { ObjectRef, Scope } from "../../core/event.ts";
import type { FailureRecord, Lock, Pause } from "../../core/store.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Lanes } from "./lanes.ts";
import { Ledger } from "./ledger.ts";
import { eventsHeld, isPending, isPresent, type ObjectRecord } from "./record.ts";

/** What the store knows of one scope besides its objects. */
export interface ScopeState {
  readonly scope: Scope;
  readonly byId: Map<string, number>;
  /** Numbers of its objects, growing; those of deleted ones are dropped now and then. */
  keys: number[];
  dirty: number;
  leased: number;
  dead: number;
  present: number;
  lastError: FailureRecord | undefined;
}

export interface LockState extends Lock {
  /** Milliseconds since the epoch. */
  readonly until: number;
}

/** A page of what a pass has seen, as Keyv keeps it. */
export interface SeenPage {
  readonly scope: Scope;
  readonly pass: string;
  readonly objects: readonly (number | string)[];
}

/** What a pass has seen: numbers of objects, and ids of those that the store did not know. */
export interface SeenState {
  readonly scope: Scope;
  readonly objects: Set<number | string>;
  /** Under which keys Keyv holds it, page by page. */
  readonly pages: string[];
}

export class State {
  readonly objects = new Map<number, ObjectRecord>();
  readonly scopes = new Map<string, ScopeState>();
  readonly leased = new Set<number>();
  readonly dead = new Set<number>();
  readonly lanes = new Lanes();
  readonly ledger = new Ledger();
  readonly housekeeping: Housekeeping;
  readonly checkpoints = new Map<string, string>();
  readonly locks = new Map<string, LockState>();
  readonly pauses = new Map<string, Pause>();
  readonly seen = new Map<string, SeenState>();
  /** How many objects are waiting, leased or dead. */
  pending = 0;
  /** How many events the objects hold. */
  events = 0;

  /** @param eventTtlMs How long events are kept. */
  constructor(eventTtlMs: number) {
    this.housekeeping = new Housekeeping(eventTtlMs);
  }

  scope(scope: Scope): ScopeState | undefined {
    return this.scopes.get(scopeKey(scope));
  }

  find(ref: ObjectRef): ObjectRecord | undefined {
    return this.findIn(this.scope(ref), ref.id);
  }

  findIn(scope: ScopeState | undefined, id: string): ObjectRecord | undefined {
    const key = scope?.byId.get(id);
    return key === undefined ? undefined : this.objects.get(key);
  }

  /** Replaces an object's record, or takes it in, and keeps everything that is derived from it in step. */
  put(record: ObjectRecord): void {
    const old = this.objects.get(record.key);
    const scope = this.#scopeOf(record.ref);
    if (old === undefined) {
      scope.byId.set(record.ref.id, record.key);
      scope.keys.push(record.key);
    } else {
      this.#count(scope, old, -1);
    }
    this.objects.set(record.key, record);
    this.#count(scope, record, 1);
    if (record.error !== null && record.error.at >= (scope.lastError?.at ?? 0))
      scope.lastError = record.error;
    if (record.state === "waiting") this.lanes.put(record);
    else this.lanes.remove(record.key);
    setMember(this.leased, record.key, record.state === "leased");
    setMember(this.dead, record.key, record.state === "dead");
    this.housekeeping.note(record);
  }

  delete(key: number): void {
    const old = this.objects.get(key);
    if (old === undefined) return;
    const scope = this.#scopeOf(old.ref);
    this.#count(scope, old, -1);
    this.objects.delete(key);
    this.lanes.remove(key);
    this.leased.delete(key);
    this.dead.delete(key);
    scope.byId.delete(old.ref.id);
    if (scope.keys.length > 2 * scope.byId.size + 64)
      scope.keys = scope.keys.filter((one) => this.objects.has(one));
  }

  /** Numbers of a scope's objects above the given one, growing. */
  *keysAfter(scope: ScopeState, after: number): Generator<number> {
    const { keys } = scope;
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] ?? 0) <= after) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < keys.length; i += 1) yield keys[i] as number;
  }

  /** Forgets that a connection exists whose objects are all deleted. */
  forgetConnection(provider: string, connection: string): void {
    for (const [key, { scope }] of this.scopes) {
      if (scope.provider === provider && scope.connection === connection) this.scopes.delete(key);
    }
    this.lanes.forget(provider, connection);
  }

  /** The pause that was last set for a connection, whether or not its time is up. */
  pauseOf(provider: string, connection: string): Pause | undefined {
    return this.pauses.get(pauseKey(provider, connection));
  }

  pauseInForce(provider: string, connection: string, now: number): Pause | undefined {
    const pause = this.pauseOf(provider, connection);
    return pause === undefined || pause.until === null || pause.until > now ? pause : undefined;
  }

  setPause(pause: Pause, inForce: boolean): void {
    const { provider, connection } = pause;
    const name = pauseKey(provider, connection);
    if (inForce) {
      this.pauses.set(name, pause);
      this.lanes.pause(provider, connection, pause.until);
    } else {
      this.pauses.delete(name);
      this.lanes.resume(provider, connection);
    }
  }

  /** @param key Under which Keyv holds the page. */
  addSeen(key: string, page: SeenPage): void {
    const name = seenKey(page.scope, page.pass);
    const seen: SeenState = this.seen.get(name) ?? { scope: page.scope, objects: new Set(), pages: [] };
    for (const object of page.objects) seen.objects.add(object);
    seen.pages.push(key);
    this.seen.set(name, seen);
  }

  #count(scope: ScopeState, record: ObjectRecord, by: 1 | -1): void {
    if (isPresent(record)) scope.present += by;
    if (record.state === "waiting") scope.dirty += by;
    if (record.state === "leased") scope.leased += by;
    if (record.state === "dead") scope.dead += by;
    if (isPending(record)) this.pending += by;
    this.events += by * eventsHeld(record);
  }

  #scopeOf({ provider, connection, resource }: Scope): ScopeState {
    const key = scopeKey({ provider, connection, resource });
    let found = this.scopes.get(key);
    if (found === undefined) {
      found = {
        scope: { provider, connection, resource },
        byId: new Map(),
        keys: [],
        dirty: 0,
        leased: 0,
        dead: 0,
        present: 0,
        lastError: undefined,
      };
      this.scopes.set(key, found);
    }
    return found;
  }
}

/** One text for one scope. Lengths go in front, so that no two scopes read alike. */
export function scopeKey({ provider, connection, resource }: Scope): string {
  return `${provider.length}:${provider}${connection.length}:${connection}${resource.length}:${resource}`;
}

/** The name under which a pass's seen objects are kept. */
export function seenKey(scope: Scope, pass: string): string {
  return scopeKey(scope) + pass;
}

export function pauseKey(provider: string, connection: string): string {
  return `${provider.length}:${provider}${connection}`;
}

function setMember(set: Set<number>, key: number, isMember: boolean): void {
  if (isMember) set.add(key);
  else set.delete(key);
}
