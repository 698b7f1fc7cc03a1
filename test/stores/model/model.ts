/**
 * The store contract (`src/core/store.ts`) made executable. Each step is told what the store answered, fails where the
 * contract does not allow that answer, and takes it in. Where the contract leaves a choice, so does the model: a due
 * date may be a span, and what may be forgotten may still be there.
 */
import assert from "node:assert/strict";
import type {
  LaneKind,
  Lock,
  Pause,
  PageRecord,
  PermitGrant,
  RateBudget,
  StoreEnvironment,
} from "../../../src/core/store.ts";
import type {
  AppendEntry,
  AppendResult,
  Claim,
  ClaimRequest,
  DeadLetterFilter,
  FailureRecord,
  IndexEntry,
  Settlement,
  SettleOutcome,
} from "../../../src/core/store.ts";
import { connectionKey, REPAIR_AGING_MS } from "../../../src/core/store.ts";
import type { ObjectRef, Origin, Scope, StoredEvent } from "../../../src/core/event.ts";
import { type MergedHint, mergeHints, NO_HINT } from "../../../src/core/hint.ts";

/** What several appends ask for together. */
export interface Work {
  origin: Origin;
  since: number;
  /** One lane; two where the contract leaves open which. */
  lanes: LaneKind[];
  force: boolean;
  hint: MergedHint;
  events: { at: number; event: StoredEvent }[];
  eventCount: number;
}

export interface ModelObject {
  ref: ObjectRef;
  state: "clean" | "waiting" | "leased" | "dead";
  /** Waiting: not due before `from`, certainly due at `until`. */
  due: { from: number; until: number };
  /** Clean: since when, and not to be claimed before. */
  since: number;
  notBefore: number;
  /** `null`: moved by something that does not tell its value. */
  generation: number | null;
  /** The model's own time of the last append, lease or settling; `null`: not said. */
  touched: number | null;
  fence: number;
  holder: number;
  attempts: number;
  lags: number;
  begun: boolean;
  index: IndexEntry | null;
  work: Work | null;
  /** What was appended since the claim. */
  late: Work | null;
  error: FailureRecord | null;
}

/** A reading of the counter. Whether it was before what is between `from` and `until`, nobody can tell. */
interface Mark {
  readonly scope: string;
  readonly value: number;
  readonly from: number;
  until: number;
}

interface ModelLock {
  fence: number;
  until: number;
  /** False: it may be its holder's still, or nobody's. */
  certain: boolean;
}

interface ModelPermits {
  readonly count: number;
  readonly until: number;
  /** False: they may have been forgotten. */
  certain: boolean;
}

/** Of a revision that the contract does not name. */
export const ANY = -1;

export type Limits = Pick<StoreEnvironment, "eventTtlMs" | "maxEventsPerChange"> & {
  readonly shared: boolean;
};

export class Model {
  readonly limits: Limits;
  /** Grows with each step. Compared with the moments at which a mark was taken. */
  tick = 0;
  objects = new Map<string, ModelObject>();
  ledger = new Map<string, { at: number; certain: boolean }>();
  marks: Mark[] = [];
  /** The highest value of the counter that was seen, by connection: a store may run a counter for each. */
  counters = new Map<string, number>();
  /** Those before the calls that are being taken in, and whether there are several. */
  before = new Map<string, number>();
  overlapping = false;
  locks = new Map<string, ModelLock>();
  lockFences = new Map<string, number>();
  pauses = new Map<string, Pause>();
  /** By connection, those that were given. */
  permits = new Map<string, ModelPermits[]>();
  checkpoints = new Map<string, string>();
  /** By pass and scope, the ids that were seen; `false`: perhaps forgotten since. */
  seen = new Map<string, Map<string, { at: number; certain: boolean }>>();
  /** The failures that may be the last one of a scope; none known: any. */
  errors = new Map<string, FailureRecord[]>();
  /** When it was last lost which they are: of that moment there may be others. */
  errorsLostAt = Number.NEGATIVE_INFINITY;

  constructor(limits: Limits) {
    this.limits = limits;
  }

  copy(): Model {
    return Object.assign(new Model(this.limits), structuredClone(Object.fromEntries(Object.entries(this))));
  }

  /** Takes in what was answered to calls that ran at once, in this order. */
  take(checks: readonly ((model: Model, now: number) => void)[], now: number): void {
    const from = this.tick;
    const known = this.marks.length;
    this.before = new Map(this.counters);
    this.overlapping = checks.length > 1;
    for (const check of checks) check(this, now);
    if (!this.limits.shared || checks.length === 1) return;
    // Several processes draw from the counter while others read it.
    this.marks = this.marks.map((mark, i) => (i < known ? mark : { ...mark, from, until: this.tick }));
  }

  append(now: number, entries: readonly AppendEntry[], results: readonly AppendResult[]): void {
    assert.equal(results.length, entries.length);
    for (const [i, entry] of entries.entries()) this.#appendOne(now, entry, results[i]!);
  }

  #appendOne(now: number, entry: AppendEntry, { status, generation }: AppendResult): void {
    const key = entry.dedupeKey === undefined ? undefined : Buffer.from(entry.dedupeKey).toString("hex");
    const known = key === undefined ? undefined : this.ledger.get(key);
    const certain = known !== undefined && known.certain && known.at + this.limits.eventTtlMs > now;
    if (status === "duplicate") {
      assert.ok(known !== undefined, "nothing is a duplicate that was never seen");
      const object = this.objects.get(keyOf(entry.ref));
      const underWay = object !== undefined && (object.state === "waiting" || object.state === "leased");
      if (!underWay) assert.equal(generation, 0, "of a duplicate about which nothing will be done");
      else if (object.generation !== null) assert.equal(generation, object.generation, "of a duplicate");
      return;
    }
    assert.ok(!certain, "what was seen is a duplicate");
    if (key !== undefined) this.ledger.set(key, { at: now, certain: true });
    const object = this.#demand(entry.ref, now);
    this.#grows(object, generation);
    this.#mark(object, workOf(entry, now), now);
    object.generation = generation;
  }

  claim(now: number, request: ClaimRequest, holder: number, claims: readonly Claim[]): void {
    assert.ok(claims.length <= request.limit, "no more than `limit`");
    const free = [...this.objects.values()].filter(
      (object) =>
        object.state === "waiting" &&
        object.ref.provider === request.provider &&
        object.ref.resource === request.resource &&
        request.exceptConnections?.includes(object.ref.connection) !== true &&
        !this.isPaused(object.ref, now),
    );
    const taken = claims.map((claim) => {
      const object = this.objects.get(keyOf(claim.ref));
      assert.ok(object !== undefined && free.includes(object), `${claim.ref.id} was not to be claimed`);
      assert.ok(object.due.from <= now, `${claim.ref.id} is not due`);
      return object;
    });
    assert.equal(new Set(taken).size, taken.length, "each object once");
    // Processes claim past each other: what others are just writing is passed over, and asked for again.
    if (!this.#loose) this.#expectOrder(now, request, free, taken);
    this.#lease(taken, claims, { now, holder });
  }

  /** Whether what was taken is all there is, or what goes first. */
  #expectOrder(
    now: number,
    { limit }: ClaimRequest,
    free: readonly ModelObject[],
    taken: readonly ModelObject[],
  ): void {
    const left = free.filter((object) => object.due.until <= now && !taken.includes(object));
    if (taken.length < limit) assert.deepEqual(left.map(keyOfObject), [], "these are due as well");
    if (!left.some((object) => isOnly(object, "live"))) return;
    const early = taken.filter(
      (object) => isOnly(object, "repair") && object.due.from + REPAIR_AGING_MS > now,
    );
    assert.deepEqual(early.map(keyOfObject), [], "live work goes before these");
  }

  settle(now: number, settlements: readonly Settlement[], outcomes: readonly SettleOutcome[]): void {
    assert.deepEqual(
      outcomes,
      settlements.map((settlement) => this.#settleOne(now, settlement)),
    );
  }

  /** @param fails Whether the callback did. */
  commit(
    now: number,
    settlements: readonly Settlement[],
    fails: boolean,
    answer: { live?: readonly boolean[]; outcomes?: readonly SettleOutcome[]; error?: string },
  ): void {
    // Who settles the same while the callback runs takes the lease from under it: then nothing is written.
    if (this.#loose && answer.error === "LEASE_LOST") return;
    const live = settlements.map(({ claim }) => this.isLive(claim));
    if (!live.includes(true)) {
      assert.equal(answer.error, "LEASE_LOST");
      assert.equal(answer.live, undefined, "the callback is not called where nothing is live");
      return;
    }
    assert.deepEqual(answer.live, live, "what the callback is told");
    if (fails) assert.equal(answer.error, "REFUSED");
    else this.settle(now, settlements, answer.outcomes ?? []);
  }

  recordPage(
    now: number,
    page: PageRecord,
    mark: number,
    holder: number,
    claims: readonly Claim[] | "LEASE_LOST",
  ): void {
    const lock = this.locks.get(page.lock.name);
    const held = lock !== undefined && lock.fence === page.lock.fence;
    if (claims === "LEASE_LOST") {
      assert.ok(!held || !lock.certain, "the lock is live");
      if (held) this.locks.delete(page.lock.name);
      return;
    }
    assert.ok(held, "the lock is lost");
    const differing = [...new Set(page.differing)].map((id) => this.#demand({ ...page.scope, id }, now));
    assert.ok(claims.every(({ ref }) => differing.some((object) => keyOfObject(object) === keyOf(ref))));
    const isClaimed = (object: ModelObject) => claims.some(({ ref }) => keyOf(ref) === keyOfObject(object));
    for (const object of differing) this.#onPage(now, object, page, mark, isClaimed(object));
    const leased = claims.map(({ ref }) => this.objects.get(keyOf(ref))!);
    assert.equal(new Set(leased).size, leased.length, "each object once");
    this.#lease(leased, claims, { now, holder });
    const seen = this.seen.get(passKey(page)) ?? new Map<string, { at: number; certain: boolean }>();
    for (const id of page.seen) seen.set(id, { at: now, certain: true });
    this.seen.set(passKey(page), seen);
    this.checkpoints.set(page.pass, page.checkpoint);
  }

  #onPage(now: number, object: ModelObject, page: PageRecord, mark: number, claimed: boolean): void {
    const touched = this.isTouchedAfter(object, this.marks[mark]!);
    const leasable = page.lease && object.state === "clean" && object.notBefore <= now;
    if (!this.isForgettable(object, now) && !(leasable && touched === undefined)) {
      assert.equal(claimed, leasable && !touched, `whether ${object.ref.id} is leased from the page`);
    } else assert.ok(leasable || !claimed, `${object.ref.id} was not to be leased`);
    if (object.state === "clean" || object.state === "leased") this.#markByPage(object, now);
  }

  #markByPage(object: ModelObject, now: number): void {
    // Whether a page marks again what is dirty after its lease anyway, nobody can tell but from the counter.
    const again = object.late !== null;
    this.#mark(object, repairWork(now), now);
    object.generation = null;
    if (again) object.touched = null;
  }

  record(
    entries: readonly { readonly ref: ObjectRef; readonly index: IndexEntry }[],
    written: number,
    now: number,
  ): void {
    const taken = entries.filter(({ ref, index }) => {
      const { state = "clean", index: known } = this.objects.get(keyOf(ref)) ?? {};
      return state === "clean" && (known?.evidence ?? 0) <= index.evidence;
    });
    assert.equal(written, taken.length);
    for (const { ref, index } of taken) this.#demand(ref, now).index = index;
  }

  endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null, lost: boolean): void {
    const found = this.locks.get(lock.name);
    const held = found !== undefined && found.fence === lock.fence;
    if (lost) {
      assert.ok(!held || !found.certain, "the lock is live");
      if (held) this.locks.delete(lock.name);
      return;
    }
    assert.ok(held, "the lock is lost");
    this.seen.delete(passKey({ scope, pass }));
    this.setCheckpoint(pass, checkpoint);
  }

  setCheckpoint(key: string, value: string | null): void {
    if (value === null) this.checkpoints.delete(key);
    else this.checkpoints.set(key, value);
  }

  mark(scope: Scope, value: number): void {
    const name = counterKey(scope);
    const highest = this.counters.get(name) ?? 0;
    assert.ok(value >= (this.#loose ? (this.before.get(name) ?? 0) : highest), "the counter never goes back");
    this.counters.set(name, Math.max(value, highest));
    this.marks.push({ scope: scopeKey(scope), value, from: this.tick, until: this.tick });
  }

  /** `undefined`: the contract does not say. */
  isTouchedAfter({ touched }: ModelObject, { from, until }: Mark): boolean | undefined {
    if (touched === null || (touched > from && touched <= until)) return undefined;
    return touched > until;
  }

  lock(now: number, name: string, ttlMs: number, held: Lock | undefined, given: Lock | undefined): void {
    const found = this.locks.get(name);
    const isHolder = held !== undefined && found?.fence === held.fence;
    const free = held === undefined ? found === undefined || found.until <= now : isHolder;
    if (found?.certain !== false || (held !== undefined && !isHolder))
      assert.equal(given !== undefined, free);
    if (given === undefined) {
      if (isHolder) this.locks.delete(name);
      return;
    }
    if (held === undefined) {
      assert.ok(given.fence > (this.lockFences.get(name) ?? 0), "a lock's fence grows with each taking");
    } else assert.equal(given.fence, held.fence, "renewing keeps the fence");
    this.lockFences.set(name, given.fence);
    this.locks.set(name, { fence: given.fence, until: now + ttlMs, certain: true });
  }

  unlock({ name, fence }: Lock): void {
    if (this.locks.get(name)?.fence === fence) this.locks.delete(name);
  }

  pause(now: number, pause: Pause): void {
    const found = this.pauses.get(pause.connection);
    const inForce = this.isPaused(pause, now) && found !== undefined;
    if (inForce && (found.until === null || (pause.until !== null && pause.until < found.until))) return;
    this.pauses.set(pause.connection, pause);
  }

  retryDead(now: number, filter: DeadLetterFilter, count: number): void {
    const dead = this.dead(filter);
    assert.equal(count, dead.length);
    for (const object of dead) makeFresh(object, { ...object.work!, since: now }, now);
  }

  discardDead(now: number, filter: DeadLetterFilter, count: number): void {
    const dead = this.dead(filter);
    assert.equal(count, dead.length);
    for (const object of dead) {
      makeClean(object, now, 0);
      const unknown = { state: "present", version: null, hash: null, rowHash: null } as const;
      const { evidence = 0 } = object.index ?? {};
      if (object.begun) object.index = { ...unknown, revision: ANY, evidence };
    }
  }

  /** No more than leaves as many counting as the rate says; one at least where none can be in the way. */
  takePermits(
    now: number,
    { connection, perMs, requests }: RateBudget,
    wanted: number,
    grant: PermitGrant,
  ): void {
    const { permits, retryInMs } = grant;
    const given = this.permits.get(connection) ?? [];
    const certain = countOf(given.filter((one) => one.certain && one.until > now));
    assert.ok(
      permits <= Math.min(wanted, requests - certain),
      `${permits} permits beside ${certain} that count`,
    );
    // Some may count for longer, as long as one that was given before them.
    const inTheWay = given.filter(
      (one, i) => one.until > now || given.slice(0, i).some(({ until }) => until > now),
    );
    if (requests > countOf(inTheWay)) assert.ok(permits > 0, "a permit is free");
    if (permits === wanted) assert.equal(retryInMs, 0);
    else assert.ok(retryInMs > 0 && retryInMs <= perMs, `asking again in ${retryInMs} ms`);
    const more = permits === 0 ? [] : [{ count: permits, until: now + perMs, certain: true }];
    this.permits.set(connection, [...inTheWay, ...more]);
  }

  forget(provider: string, connection: string): void {
    const isTheirs = (scope: Scope) => scope.provider === provider && scope.connection === connection;
    for (const [key, { ref }] of this.objects) if (isTheirs(ref)) this.objects.delete(key);
    const prefix = connectionKey(provider, connection);
    for (const key of this.checkpoints.keys()) if (key.startsWith(prefix)) this.checkpoints.delete(key);
    for (const name of this.locks.keys()) if (name.startsWith(prefix)) this.locks.delete(name);
    for (const key of this.seen.keys()) if (key.includes(`/${connection}/`)) this.seen.delete(key);
    for (const key of this.errors.keys()) if (key.includes(`/${connection}/`)) this.errors.delete(key);
    this.pauses.delete(connection);
    for (const given of this.permits.get(connection) ?? []) given.certain = false;
    for (const known of this.ledger.values()) known.certain = false; // hashes: nobody can tell whose
  }

  /** What has expired is gone now, as far as it must go. */
  sweep(now: number): void {
    const expired = now - this.limits.eventTtlMs;
    for (const object of this.objects.values()) {
      for (const work of [object.work, object.late]) {
        if (work !== null) work.events = work.events.filter(({ at }) => at > expired);
      }
    }
    for (const lock of this.locks.values()) if (lock.until <= expired) lock.certain = false;
    for (const [pass, seen] of this.seen) {
      for (const [id, entry] of seen) {
        const object = this.objects.get(`${pass.slice(pass.indexOf("|") + 1)}/${id}`);
        const known = object !== undefined && !this.isForgettable(object, now);
        if (!known && entry.at <= expired) entry.certain = false;
      }
    }
  }

  /** Leases of a holder that is gone. */
  voidLeases(holder: number, how: "released" | "crashed", due: { from: number; until: number }): void {
    for (const object of this.objects.values()) {
      if (object.state !== "leased" || object.holder !== holder) continue;
      object.work = object.late === null ? object.work : merged(object.work!, object.late);
      object.attempts += Number(how === "crashed");
      Object.assign(object, { state: "waiting", late: null, begun: true, due, touched: null });
    }
    // The contract speaks of the locks of the dead alone; who shares a store waits until they run out.
    if (how === "crashed" && !this.limits.shared) this.locks.clear();
    else for (const lock of this.locks.values()) lock.certain = false;
  }

  isLive({ ref, fence }: Claim): boolean {
    const object = this.objects.get(keyOf(ref));
    return object?.state === "leased" && object.fence === fence;
  }

  isPaused({ connection }: { readonly connection: string }, at: number): boolean {
    const pause = this.pauses.get(connection);
    return pause !== undefined && (pause.until === null || pause.until > at);
  }

  /** It is remembered of such an object that it was handled, for as long as a page may be under way. */
  isForgettable({ state, index, begun, since }: ModelObject, now: number): boolean {
    return state === "clean" && index === null && !begun && since + this.limits.eventTtlMs <= now;
  }

  dead({ connection, resource, ids }: DeadLetterFilter): ModelObject[] {
    return [...this.objects.values()].filter(
      ({ state, ref }) =>
        state === "dead" &&
        (connection === undefined || ref.connection === connection) &&
        (resource === undefined || ref.resource === resource) &&
        (ids === undefined || ids.includes(ref.id)),
    );
  }

  #settleOne(now: number, settlement: Settlement): SettleOutcome {
    const { claim } = settlement;
    if (!this.isLive(claim)) return "lost";
    const object = this.objects.get(keyOf(claim.ref))!;
    const { late } = object;
    object.touched = this.tick += 1;
    if (settlement.kind !== "done") {
      object.begun ||= settlement.begun;
      if (settlement.error !== undefined) this.#recordError(claim.ref, settlement.error);
    }
    switch (settlement.kind) {
      case "done":
        Object.assign(object, { index: settlement.index, begun: false });
        if (late === null) makeClean(object, now, settlement.notBefore ?? 0);
        else makeFresh(object, afterLease(object, late), Math.max(now, settlement.notBefore ?? 0));
        break;
      case "retry":
        object.work = late === null ? object.work : merged(object.work!, late);
        Object.assign(object, {
          state: "waiting",
          late: null,
          due: { from: settlement.due, until: settlement.due },
        });
        Object.assign(object, { attempts: settlement.attempts, lags: settlement.lags });
        break;
      case "dead":
        object.error = settlement.error;
        if (late !== null) makeFresh(object, afterLease(object, revived(object.work!, late)), now);
        else Object.assign(object, { state: "dead", attempts: claim.attempt });
        break;
    }
    return late === null ? "settled" : "dirty";
  }

  #lease(
    objects: readonly ModelObject[],
    claims: readonly Claim[],
    { now, holder }: { readonly now: number; readonly holder: number },
  ): void {
    const before = this.#loose ? this.before : new Map(this.counters);
    for (const [i, object] of objects.entries()) {
      const claim = claims[i]!;
      assert.ok(claim.fence > object.fence, "the fence grows with each lease of the object");
      assert.ok(
        claim.fence > (before.get(counterKey(object.ref)) ?? 0),
        "the fence is later than all before",
      );
      this.counters.set(
        counterKey(object.ref),
        Math.max(claim.fence, this.counters.get(counterKey(object.ref)) ?? 0),
      );
      if (object.generation === null) object.generation = claim.generation;
      this.#expectClaim(now, object, claim);
      Object.assign(object, { state: "leased", fence: claim.fence, holder, touched: (this.tick += 1) });
    }
  }

  #expectClaim(now: number, object: ModelObject, claim: Claim): void {
    const work = object.work!;
    assert.ok(work.lanes.includes(claim.lane), `the lane is ${work.lanes.join(" or ")}, not ${claim.lane}`);
    work.lanes = [claim.lane];
    expectIndex(claim.index, object.index);
    expectEvents(claim.events, work.events, now, this.limits);
    assert.deepEqual(
      [claim.generation, claim.attempt, claim.lags, claim.begun, claim.forced],
      [object.generation, object.attempts + 1, object.lags, object.begun, work.force],
      "generation, attempt, lags, begun, forced",
    );
    assert.deepEqual(
      [claim.origin, claim.hint ?? null, claim.hintVersion ?? null, claim.eventCount, claim.dirtySince],
      [work.origin, work.hint.hint, work.hint.version, work.eventCount, work.since],
      "origin, hint, hintVersion, eventCount, dirtySince",
    );
  }

  /** The one way in which an object becomes dirty, or dirtier. */
  #mark(object: ModelObject, work: Work, now: number): void {
    object.touched = this.tick += 1;
    switch (object.state) {
      case "clean":
        makeFresh(object, work, Math.max(now, object.notBefore));
        break;
      case "waiting":
        object.work = merged(object.work!, work);
        break;
      case "leased":
        object.late = object.late === null ? work : merged(object.late, work);
        break;
      case "dead":
        makeFresh(object, revived(object.work!, work), now);
        break;
    }
  }

  #demand(ref: ObjectRef, now: number): ModelObject {
    let object = this.objects.get(keyOf(ref));
    if (object === undefined) {
      object = {
        ref,
        state: "clean",
        due: { from: 0, until: 0 },
        since: now,
        notBefore: 0,
        generation: 0,
        touched: 0,
        fence: 0,
        holder: 0,
        attempts: 0,
        lags: 0,
        begun: false,
        index: null,
        work: null,
        late: null,
        error: null,
      };
      this.objects.set(keyOf(ref), object);
    }
    return object;
  }

  #grows(object: ModelObject, value: number): void {
    const key = counterKey(object.ref);
    const highest = this.counters.get(key) ?? 0;
    const before = this.limits.shared ? (this.before.get(key) ?? 0) : highest;
    const own = Math.max(object.generation ?? 0, object.fence);
    assert.ok(value > Math.max(before, own), "the generation is later than all before");
    this.counters.set(key, Math.max(value, highest));
  }

  /** Of calls that overlap in several processes, each draws its values when it comes to them. */
  get #loose(): boolean {
    return this.limits.shared && this.overlapping;
  }

  #recordError(scope: Scope, error: FailureRecord): void {
    const last = this.errors.get(scopeKey(scope)) ?? [];
    this.errors.set(scopeKey(scope), [...last.filter(({ at }) => at === error.at), error]);
  }
}

function makeFresh(object: ModelObject, work: Work, due: number): void {
  const fresh = {
    state: "waiting",
    work,
    late: null,
    due: { from: due, until: due },
    attempts: 0,
    lags: 0,
    error: null,
  };
  Object.assign(object, fresh);
}

function makeClean(object: ModelObject, now: number, notBefore: number): void {
  Object.assign(object, {
    state: "clean",
    since: now,
    notBefore,
    work: null,
    late: null,
    attempts: 0,
    lags: 0,
    error: null,
  });
}

function workOf(entry: AppendEntry, now: number): Work {
  return {
    origin: entry.origin,
    since: now,
    lanes: [entry.lane],
    force: entry.force === true,
    hint: { hint: entry.hint ?? null, version: entry.version ?? null, order: entry.versionOrder ?? null },
    events: entry.event === undefined ? [] : [{ at: now, event: entry.event }],
    eventCount: Number(entry.event !== undefined),
  };
}

function repairWork(now: number): Work {
  return {
    origin: "reconcile",
    since: now,
    lanes: ["repair"],
    force: false,
    hint: NO_HINT,
    events: [],
    eventCount: 0,
  };
}

function merged(work: Work, later: Work): Work {
  return {
    ...work,
    lanes: isLive(work) || isLive(later) ? ["live"] : work.lanes,
    force: work.force || later.force,
    hint: mergeHints(work.hint, later.hint),
    events: [...work.events, ...later.events],
    eventCount: work.eventCount + later.eventCount,
  };
}

/** In which lane an object is due again that was live, and was marked for repair under its lease, is not said. */
function afterLease({ work }: ModelObject, fresh: Work): Work {
  const lanes = work?.lanes.includes("live") === true ? [...fresh.lanes, "live" as const] : fresh.lanes;
  return { ...fresh, lanes: [...new Set(lanes)] };
}

/** Fresh work that keeps what the dead work was about. */
function revived(dead: Work, later: Work): Work {
  return { ...merged(dead, later), origin: later.origin, since: later.since, lanes: later.lanes };
}

function isLive({ lanes }: Work): boolean {
  return lanes.length === 1 && lanes[0] === "live";
}

function isOnly({ work }: ModelObject, lane: LaneKind): boolean {
  return work?.lanes.length === 1 && work.lanes[0] === lane;
}

export function expectIndex(actual: IndexEntry | undefined, expected: IndexEntry | null): void {
  if (actual === undefined || expected === null || expected.revision !== ANY) {
    assert.deepEqual(actual ?? null, expected, "the index entry");
  } else {
    assert.deepEqual({ ...actual, revision: ANY }, expected, "the index entry");
  }
}

/** The newest ones; of those that have expired, some may be there still. */
export function expectEvents(
  actual: readonly StoredEvent[],
  kept: Work["events"],
  now: number,
  limits: Limits,
): void {
  const young = kept.filter(({ at }) => at > now - limits.eventTtlMs).length;
  assert.ok(actual.length >= Math.min(young, limits.maxEventsPerChange), "an event is missing");
  assert.ok(actual.length <= Math.min(kept.length, limits.maxEventsPerChange), "there are too many events");
  const newest = actual.length === 0 ? [] : kept.slice(-actual.length);
  assert.deepEqual(
    actual,
    newest.map(({ event }) => event),
    "the newest events, oldest first",
  );
}

export function scopeKey({ provider, connection, resource }: Scope): string {
  return `${provider}/${connection}/${resource}`;
}

export function keyOf(ref: ObjectRef): string {
  return `${scopeKey(ref)}/${ref.id}`;
}

export function passKey({ scope, pass }: { readonly scope: Scope; readonly pass: string }): string {
  return `${pass}|${scopeKey(scope)}`;
}

function keyOfObject({ ref }: ModelObject): string {
  return keyOf(ref);
}

function counterKey({ provider, connection }: Scope): string {
  return `${provider}/${connection}`;
}

function countOf(permits: readonly ModelPermits[]): number {
  return permits.reduce((sum, { count }) => sum + count, 0);
}
