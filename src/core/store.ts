/**
 * The store contract: the durable memory behind the one path. Everything that a store must promise is on this page,
 * and `testStore` from `trueup/testing` proves it. To write a store, implement {@link Store} and {@link WorkSession}.
 *
 * **What a store keeps**
 *
 * - The *ledger*: 16-byte keys of events that were seen, for `eventTtlMs`.
 * - *Events*: small JSON records, chained to the object that they are about, for `eventTtlMs`.
 * - The *dirty index*: which objects need work, in *lanes* (one per connection, resource and {@link LaneKind}).
 * - The *object index*: what the user's copy of each object is known to hold.
 * - *Passes* over lists: a checkpoint, and which objects the pass has seen.
 * - *Checkpoints*, *locks* and *pauses*: small named values.
 *
 * **One counter.** A store has one logical clock: a number that starts at 1 and grows with every change that matters
 * to order, never goes back, and survives a restart (a store may run one per partition, since numbers are compared
 * only within one object or one scope). It yields generations (which append was the last), fences (which lease), and
 * evidence (what was known when a request was made). Order is decided by it and never by a wall clock.
 *
 * **Moments** (when an object is due, when a pause or a dead holder's lock ends) are of the wall clock, so that they
 * outlive the process: where it is set back, what waits for one of them waits so much longer.
 *
 * **Atomicity.** Each call is one transaction unless its text says otherwise: after a crash it has happened or it has
 * not. A call that rejects has changed nothing. A store that cannot do this (`keyvStore`) orders its writes so that a
 * crash repeats work and never loses it, and says so in its guarantees.
 *
 * **Batches.** All calls of the path take and return arrays, result i belonging to argument i; a store should make one
 * transaction of each. Calls may overlap; a store serialises what it must.
 *
 * **Errors.** `STORE_FULL` when a configured limit is reached, `STORE_FAILED` (with `cause`) when the store cannot be
 * reached or written. Nothing else comes out of the calls of the path but what their texts name.
 *
 * @module
 */

import type { Clock, Random } from "./clock.ts";
import type { Hint, ObjectRef, Origin, Scope, StoredEvent } from "./event.ts";
import type { Logger } from "./hooks.ts";
import type { EncodedVersion } from "./version.ts";

/** What a store can be trusted with. */
export interface StoreGuarantees {
  /**
   * What survives once a call resolved: `"none"` nothing, `"process"` a crash of the process, `"disk"` a loss of
   * power, `"replicated"` the loss of a machine.
   */
  readonly durability: "none" | "process" | "disk" | "replicated";
  /** Whether several processes may work on it at once. */
  readonly shared: boolean;
  /** Whether `change.commit` exists. */
  readonly transactional: boolean;
}

/** What the engine hands a store when it opens it. */
export interface StoreEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How long ledger keys and events are kept, in milliseconds, from append. */
  readonly eventTtlMs: number;
  /** How many of an object's events {@link Claim.events} holds at most: the newest. */
  readonly maxEventsPerChange: number;
}

/**
 * Lanes of one connection and resource: `"live"` for what a source reported, `"repair"` for what reconciliation found.
 * Live work goes first; repair work that has waited for {@link REPAIR_AGING_MS} longer goes before it all the same.
 */
export type LaneKind = "live" | "repair";

/** How much longer repair work waits than live work before it counts as equally urgent. */
export const REPAIR_AGING_MS = 10_000;

/** One line of {@link Store.append}. */
export interface AppendEntry {
  /** Its `id` may be {@link WHOLE_RESOURCE}. */
  readonly ref: ObjectRef;
  /** {@link DEDUPE_KEY_BYTES} bytes, which no other object's events share; absent: never a duplicate. */
  readonly dedupeKey?: Uint8Array | undefined;
  readonly event?: StoredEvent | undefined;
  readonly origin: Origin;
  readonly lane: LaneKind;
  /** Handle the object even if it turns out unchanged. */
  readonly force?: boolean | undefined;
  readonly hint?: Hint | undefined;
  readonly version?: EncodedVersion | undefined;
  /** `versionOrder(version)`. */
  readonly versionOrder?: string | undefined;
}

export interface AppendResult {
  readonly status: "accepted" | "duplicate";
  /**
   * The object's generation after the append. For a duplicate: the generation that a waiting or leased object is at, or
   * 0 when nothing is going to be done about it (it is clean, or dead); so that a caller can wait until what it
   * reported is handled.
   */
  readonly generation: number;
}

/** What the user's copy of one object is known to hold. */
export interface IndexEntry {
  /**
   * `"present"`: a handler got the object. `"gone"`, a tombstone: it got the deletion, or an event announced the deletion
   * of what nobody knew, with its version.
   */
  readonly state: "present" | "gone";
  readonly version: EncodedVersion | null;
  /** Content hash of what `fetch` returned; `null` when only a list row was handled. */
  readonly hash: string | null;
  /** Content hash of the list's row, where it differs in shape from what `fetch` returns or is all that is known. */
  readonly rowHash: string | null;
  /** The resource's `revision` when the hashes were made. */
  readonly revision: number;
  /** The counter's value when what is recorded here was requested. */
  readonly evidence: number;
}

/** One leased object: a worker may fetch and handle it, and must settle it. */
export interface Claim {
  readonly ref: ObjectRef;
  /** The store's number for the object; opaque to callers. */
  readonly key: number;
  /** Grows with each lease of the object. It is also the evidence of what is fetched under this claim. */
  readonly fence: number;
  /** Which append this claim has seen; a later one makes `settle` answer `"dirty"`. */
  readonly generation: number;
  /** Which attempt this is, from 1. It was counted before this claim was returned, so that crashes count. */
  readonly attempt: number;
  /** How often the API was already waited for (I13), as the last retry recorded it. */
  readonly lags: number;
  /**
   * True when an earlier attempt may have begun a handler whose end nobody recorded: a settlement said so, or a claim
   * ended without one (a crash, a takeover, a release). It stays so until a `done`.
   */
  readonly begun: boolean;
  /** True when handling was asked for whatever the content. */
  readonly forced: boolean;
  readonly lane: LaneKind;
  /** The origin of the append that made the object dirty. */
  readonly origin: Origin;
  /** Hint and version of all appends since the last settling, merged by {@link mergeHints}. */
  readonly hint: Hint | undefined;
  readonly hintVersion: EncodedVersion | undefined;
  /**
   * The newest events since the last settling, oldest first, at most `maxEventsPerChange`. Few look at them: a store may
   * make them when they are first read (`withStoredEvents` of `stored-events.ts` does), as long as reading needs nothing
   * but the claim, and copies, JSON and comparisons of the claim have them. Reading may throw `STORE_FAILED` where they
   * are stored but cannot be read; that must not keep the object, or others, from being claimed.
   */
  readonly events: readonly StoredEvent[];
  /** How many there were in truth. */
  readonly eventCount: number;
  /** When the object became dirty, in milliseconds since the epoch. */
  readonly dirtySince: number;
  readonly index: IndexEntry | undefined;
}

export interface ClaimRequest {
  readonly provider: string;
  readonly resource: string;
  readonly limit: number;
  /** Connections to pass over, beside those that are paused. */
  readonly exceptConnections?: readonly string[] | undefined;
}

/** A failure as it is recorded: no secret, no stack. */
export interface FailureRecord {
  readonly code: string;
  readonly message: string;
  /** For schema failures: where in the object. */
  readonly path?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** How a claim ends. */
export type Settlement = { readonly claim: Claim } & (
  | {
      readonly kind: "done";
      /** What the user's copy holds now; `null` when the object was never known and needs no memory. */
      readonly index: IndexEntry | null;
      /** No claim of this object before this moment (`coalesceMs`), in milliseconds since the epoch. */
      readonly notBefore?: number | undefined;
    }
  | {
      readonly kind: "retry";
      /** When to claim it again, in milliseconds since the epoch. */
      readonly due: number;
      /** What {@link Claim.attempt} counts on from: the claim's own number, or one less where it was no attempt. */
      readonly attempts: number;
      readonly lags: number;
      /** Whether a handler may have begun. */
      readonly begun: boolean;
      readonly error?: FailureRecord | undefined;
    }
  | { readonly kind: "dead"; readonly begun: boolean; readonly error: FailureRecord }
);

/**
 * `"settled"`: done with. `"dirty"`: recorded, but the object is to be claimed again, because something was appended
 * meanwhile. `"lost"`: the fence was not the live one, and nothing was written (I3).
 */
export type SettleOutcome = "settled" | "dirty" | "lost";

/** What a lookup knows of an object. */
export interface Lookup {
  readonly key: number;
  readonly index: IndexEntry | undefined;
  /** Whether it is waiting for work, leased, or dead. */
  readonly pending: boolean;
  /** The counter's value at the last append, lease or settling of the object. */
  readonly touched: number;
}

/** A lock that ends by itself, with the fence that its holder shows. */
export interface Lock {
  readonly name: string;
  readonly fence: number;
}

/** What one page of a pass leaves in the store, in one transaction (I6). */
export interface PageRecord {
  readonly scope: Scope;
  /** The pass's checkpoint, and the name under which its seen objects are kept. */
  readonly pass: string;
  /** The lock under which the pass runs. A lost one rejects with `LEASE_LOST`. */
  readonly lock: Lock;
  /** {@link Store.counter} as it was before the page was requested. */
  readonly mark: number;
  /** Ids on the page, to be remembered as seen by the pass; only full passes need it. */
  readonly seen: readonly string[];
  /** Ids of objects that differ. */
  readonly differing: readonly string[];
  /**
   * Whether to lease them at once. An object that is leased by another, dirty, not to be claimed yet, or touched after
   * `mark` is never leased here: it is left dirty (one that is leased or clean is marked dirty, in the repair lane) for
   * the normal road.
   * A dead one stays dead: only an event or `retryDead` revives it.
   */
  readonly lease: boolean;
  /** JSON. */
  readonly checkpoint: string;
}

/** What working on a store needs: taken by `start`, `reconcile` and `tick`, shared by all work of one engine. */
export interface WorkSession<Tx = never> {
  /**
   * Leases up to `limit` objects of a route that are due: live lanes before repair lanes, connections in turn, paused
   * ones passed over. Each claim raises the object's attempts and fence in the same transaction.
   * @throws TrueupError `STORE_LOST` after a takeover or a release; so does `recordPage`
   */
  claim(request: ClaimRequest): Promise<Claim[]>;

  /**
   * Ends claims. `done` writes the index entry (or, for `null`, leaves the object without one), forgets the events
   * that the claim has seen, and clears the dirty mark if the generation is unchanged; otherwise the object is due
   * again at once (or at `notBefore`) as fresh work with no attempts. `retry` and `dead` keep the events; if something
   * was appended meanwhile, `dead` becomes fresh work and `retry` keeps its due date, both answering `"dirty"`. A
   * forced claim's force is spent by `done` unless force was appended again after the claim. `touched` moves, and
   * outlives a `done` without an index entry for as long as a page may have been requested before it.
   */
  settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]>;

  /**
   * Only on transactional stores: the user's writes and the settling in one transaction. `live[i]` says whether
   * settlement i still holds its lease; where none does, rejects with `LEASE_LOST` and `write` is not called. When
   * `write` rejects, or takes longer than `timeoutMs` (then `COMMIT_TIMEOUT`), nothing is written.
   */
  commit?(
    settlements: readonly Settlement[],
    write: (tx: Tx, live: readonly boolean[]) => void | Promise<void>,
    options: { readonly timeoutMs: number },
  ): Promise<SettleOutcome[]>;

  /** Records a page of a pass and leases what it asks for; returns the leased objects. */
  recordPage(page: PageRecord): Promise<Claim[]>;

  /** Proves that this process lives. False: another has taken over, and every lease of this session is void. */
  heartbeat(): Promise<boolean>;

  /**
   * Gives up the session. Claims that are still open become due at once, their attempt not counted. Where that cannot be
   * recorded it rejects, and may be called again; who works next does not wait for it, and takes it for dead.
   */
  release(): Promise<void>;
}

export interface Pause {
  readonly provider: string;
  readonly connection: string;
  /** Milliseconds since the epoch; `null`: until resumed. */
  readonly until: number | null;
  readonly reason: string;
}

/** A configured rate, which all processes that work for a connection share. */
export interface RateBudget {
  readonly provider: string;
  readonly connection: string;
  readonly requests: number;
  readonly perMs: number;
}

export interface PermitGrant {
  /** From 0 to what was wanted. To be used at once. */
  readonly permits: number;
  /** When it is worth asking for the rest, in milliseconds from now; 0 when all were given. */
  readonly retryInMs: number;
}

export interface RouteCounts extends Scope {
  /** Objects that wait for work, due or not. */
  readonly dirty: number;
  readonly leased: number;
  readonly dead: number;
  /** Objects that the index holds as present. */
  readonly present: number;
  /** When the oldest waiting object became dirty, in milliseconds since the epoch. */
  readonly oldestDirtySince: number | undefined;
  readonly lastError: FailureRecord | undefined;
}

/** What is left to do, as `drain` asks. */
export interface Pending {
  /** Waiting, and due by the given moment, on connections that are not paused beyond it. */
  readonly due: number;
  readonly leased: number;
  /** Waiting for later, or on a paused connection. */
  readonly later: number;
  readonly dead: number;
}

export interface DeadLetterFilter {
  readonly provider?: string | undefined;
  readonly resource?: string | undefined;
  readonly connection?: string | undefined;
  readonly ids?: readonly string[] | undefined;
}

export interface DeadRecord {
  readonly ref: ObjectRef;
  readonly error: FailureRecord;
  readonly attempts: number;
  readonly eventCount: number;
  /** As {@link Claim.events}. */
  readonly events: readonly StoredEvent[];
  /** When it became dirty, in milliseconds since the epoch. */
  readonly dirtySince: number;
}

/**
 * The durable memory. `Tx` is what a commit callback receives; `never` where the store has no transactions.
 */
export interface Store<Tx = never> {
  readonly guarantees: StoreGuarantees;

  /**
   * Makes the store usable, creating what it needs; safe from many processes at once. Called once per engine, before
   * anything else. Voids no lease.
   */
  open(environment: StoreEnvironment): Promise<void>;
  /** Closes what `open` opened. Idempotent. */
  close(): Promise<void>;

  /**
   * Takes the right to work. On a store that is not shared only one session exists at a time: waits up to `leaseMs`
   * for a living holder and then rejects with `STORE_IN_USE`; takes over from a dead one at once, voiding its leases
   * (they become due again; their attempts stay counted) and its locks.
   */
  work(options: {
    readonly leaseMs: number;
    readonly signal?: AbortSignal | undefined;
  }): Promise<WorkSession<Tx>>;

  /**
   * Records events and marks their objects dirty, in one step: an entry whose `dedupeKey` is in the ledger (or earlier
   * in the same call) is a duplicate and changes nothing; any other advances the counter, sets the object's generation
   * to it and adds its event. A clean object becomes due now (or when its `notBefore` comes); one that waits keeps its
   * due date, so that an event does not shorten a backoff; one that is leased keeps its lease; a dead one becomes
   * fresh work, due now. A live append moves an object from the repair lane to the live one.
   */
  append(entries: readonly AppendEntry[]): Promise<AppendResult[]>;

  /** Calls back after work may have become claimable through another process; where absent, the engine polls. */
  subscribe?(listener: () => void): () => void;

  /** When the next waiting object of these routes is due (now or earlier: work is ready), paused ones aside. */
  nextDue(
    routes: readonly { readonly provider: string; readonly resource: string }[],
  ): Promise<number | undefined>;

  /** The counter's present value. What is requested after this call is newer evidence than all that is touched ≤ it. */
  counter(scope: Scope): Promise<number>;

  /** What is known of objects; `undefined` for those never heard of. */
  lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]>;

  /**
   * Writes index entries without any handling, except of objects that are pending, and of those whose entry has newer
   * evidence: they were handled since the caller looked. For `adopt`, and for facts that a pass learned (a new hash of
   * the same content). `touched` does not move. Returns how many were written.
   */
  record(
    scope: Scope,
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
  ): Promise<number>;

  /**
   * Objects of the scope that the index holds as present, that the pass has not seen, that are not pending and were
   * not touched after `mark`; in a stable order, from `after` on (exclusive).
   */
  unseen(
    scope: Scope,
    pass: string,
    options: { readonly mark: number; readonly after: string | undefined; readonly limit: number },
  ): Promise<{ readonly id: string; readonly position: string }[]>;

  /**
   * Forgets what a pass has seen, and writes its checkpoint (`null` deletes it), in one transaction. A lost lock rejects
   * with `LEASE_LOST`.
   */
  endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void>;

  /** How many objects of the scope the index holds as present. */
  countPresent(scope: Scope): Promise<number>;

  getCheckpoint(key: string): Promise<string | undefined>;
  /** `null` deletes. */
  setCheckpoint(key: string, value: string | null): Promise<void>;

  /** Takes or (with the lock in hand) renews a lock; `undefined`: another holds it. Its fence grows with each taking. */
  lock(name: string, ttlMs: number, held?: Lock): Promise<Lock | undefined>;
  unlock(lock: Lock): Promise<void>;

  /** Stops claims of a connection until a moment. A pause that ends earlier than the one in force changes nothing. */
  pause(pause: Pause): Promise<void>;
  resume(provider: string, connection: string): Promise<void>;
  /** Pauses in force. */
  pauses(): Promise<Pause[]>;

  /**
   * Only on shared stores, where a configured rate holds over all processes: takes up to `wanted` permits to start a
   * request. A permit counts from when it is given, for `perMs` of the budget with which it was asked for, by the store's
   * own time, and is not taken back; never are more given than leave `requests` of them counting. So no span of `perMs`
   * has more than `requests`, wherever it begins; and one who uses permits late asks with a longer `perMs` than others,
   * and is waited for by them. Concurrent callers share fairly enough that none starves. Changes no counter.
   */
  takePermits?(budget: RateBudget, wanted: number): Promise<PermitGrant>;

  /** Connections of a provider that the store has heard of. */
  connections(provider: string): Promise<string[]>;
  /**
   * Deletes all that is known of a connection: work, events, index, pauses, checkpoints whose key starts with its
   * {@link connectionKey}. Locks whose name starts with it are lost to their holders, so that no pass under way, in
   * whatever process, writes it anew. Ledger keys are hashes and may stay until they expire.
   */
  forget(provider: string, connection: string): Promise<void>;

  counts(): Promise<RouteCounts[]>;
  pending(dueBy: number): Promise<Pending>;

  /** In a stable order; `next` continues. */
  listDead(
    filter: DeadLetterFilter,
    page: { readonly cursor: string | undefined; readonly limit: number },
  ): Promise<{ readonly items: DeadRecord[]; readonly next: string | undefined }>;
  /** Makes dead objects fresh work, due now. Returns how many. */
  retryDead(filter: DeadLetterFilter): Promise<number>;
  /**
   * Drops dead work. What the index says of the object stays, unless its handler may have begun: then the user's copy
   * may hold anything, and the entry becomes `"present"` with neither version nor hashes (and the evidence that it had, or
   * 0), so that the next evidence of the object is handed over.
   */
  discardDead(filter: DeadLetterFilter): Promise<number>;

  /** One bounded slice of housekeeping (expired ledger keys and events). True: there may be more to do now. */
  sweep(): Promise<boolean>;
}

/** The prefix of the checkpoints and locks that belong to a connection. */
export function connectionKey(provider: string, connection: string): string {
  return `${JSON.stringify([provider, connection])}:`;
}
