import type { Claim, Clock, Settlement } from "trueup";
import type { FakeState } from "trueup/testing";
import { WHOLE_RESOURCE } from "../../../src/core/event.ts";
import { ownerOf } from "./accounts.ts";
import type { Forgotten, StoreWitness } from "./boundary.ts";
import type { Handed } from "./copy.ts";
import { Everything, passOf } from "./everything.ts";
import { FeedCursor } from "./feed-cursor.ts";
import { Forgettings } from "./forgettings.ts";
import { FreshnessGuard } from "./freshness.ts";
import { type Handling, Handlings } from "./handlings.ts";
import { claimKey, IndexWords } from "./index-words.ts";
import { Leases } from "./leases.ts";
import type { Life } from "./life.ts";
import { PassRecords } from "./pass-records.ts";
import { LEASE_MS } from "./process.ts";
import { RecordedEvents } from "./recorded-events.ts";
import type { Scenario } from "./scenario.ts";

export interface LedgerOptions {
  readonly scenario: Scenario;
  readonly clock: Clock;
  readonly history: (id: string) => readonly FakeState[];
  /** Of an account. */
  readonly ids: (connection: string) => readonly string[];
  readonly violated: (invariant: string, what: string) => void;
}

/** What the store and the handlers told while it happened, held against the invariants then and there. */
export class Ledger {
  /** Fences whose work was settled, by object. */
  readonly settledFences = new Map<string, Set<number>>();
  readonly witness: StoreWitness;
  readonly feed: FeedCursor;
  readonly events = new RecordedEvents();
  readonly everything = new Everything();
  readonly index: IndexWords;
  readonly forgettings = new Forgettings(() => this.step());
  readonly #options: LedgerOptions;
  readonly #leases: Leases;
  readonly #handlings: Handlings;
  readonly #freshness: FreshnessGuard;
  readonly #passes: PassRecords;
  /** Of each object, or of all of a connection, its newest claim. */
  readonly #claims = new Map<string, Claim>();
  readonly #handed = new Set<string>();
  readonly #dead = new Set<string>();
  /** When each was last discarded as dead. */
  readonly #dropped = new Map<string, number>();
  /** What was to be settled when its process died, and may be: a store of many writes dies between two of them. */
  readonly #settling = new Set<readonly Settlement[]>();
  #step = 0;

  constructor(options: LedgerOptions) {
    const { clock, history, scenario, violated } = options;
    this.#options = options;
    this.#leases = new Leases({
      shared: scenario.store === "shared",
      leaseMs: LEASE_MS,
      now: () => clock.monotonic(),
      violated: (what) => violated("I3", what),
    });
    this.#passes = new PassRecords((id, evidence) => this.index.isRecorded(id, evidence), violated);
    this.feed = new FeedCursor(
      (event) => this.isRecorded(event),
      (what) => violated("I6", what),
    );
    this.index = new IndexWords({ history, step: () => this.step(), violated });
    this.#freshness = new FreshnessGuard(clock, (what) => violated("I13", what));
    this.#handlings = new Handlings(
      ({ fence, id }) => this.#leases.holds(id, fence),
      (what) => violated("I3", what),
    );
    this.witness = this.#witness();
  }

  #witness(): StoreWitness {
    const leases = this.#leases;
    return {
      step: () => this.step(),
      began: (session) => leases.began(session),
      beat: (session) => leases.beat(session),
      released: (session) => leases.released(session),
      leased: (session, claims) => {
        leases.leased(session, claims);
        this.index.leased(claims);
        for (const claim of claims) this.#leased(claim);
      },
      accepted: (session, settlement, asked) => leases.accepted(session, settlement, asked),
      settled: (settlement, asked) => {
        leases.settled(settlement);
        this.#settled(settlement, asked);
      },
      settling: (settlements) => {
        this.#settling.add(settlements);
        return () => void this.#settling.delete(settlements);
      },
      appended: (entries, results, asked) => {
        for (const [i, { event, force, ref }] of entries.entries()) {
          const { connection } = ref;
          const certain = !this.forgettings.since(connection, asked);
          const isNew = results[i]?.status === "accepted";
          if (event?.id !== undefined) this.events.appended(event.id, ref, { isNew, certain, step: asked });
          if (force === true && ref.id === WHOLE_RESOURCE) this.feed.replaced(connection);
        }
      },
      watchesIndex: Object.values(this.#options.scenario.calls).some((chance) => chance > 0),
      counted: (counter) => this.index.counted(counter, this.step()),
      indexed: (whose, entries, found) => this.index.recorded(whose, entries, found),
      forgetting: (connection, life, counter) => this.#forgetting(connection, life, counter),
      discarding: () => this.#discarding(),
      checkpointed: (key, value) => this.feed.checkpointed(key, value),
      locked: (lock) => this.#passes.locked(lock),
      recorded: (page, claims, found, asked) => {
        const forgotten = this.forgettings.since(page.scope.connection, asked);
        this.#passes.recorded(page, claims, forgotten ? undefined : found);
        const handle = passOf(page)?.handle;
        if (handle === "none" && claims.length > 0)
          this.#options.violated("I5", `a pass that hands nothing over leased ${claims.length} objects`);
        if (handle !== "all") return;
        this.index.forced(claims);
        if (forgotten) return;
        this.everything.recorded(page, this.step(), {
          isDead: (id) => this.#dead.has(id),
          wasDeleted: (id) => this.#options.history(id).some(({ object }) => object === undefined),
        });
      },
    };
  }

  /** The number of what happens now. */
  step(): number {
    this.#step += 1;
    return this.#step;
  }

  /** A handler got a change. @returns what ends it */
  begun(handed: Handed, handling: Handling): () => void {
    const { id, fence, version = null } = handed;
    this.#handed.add(claimKey(id, fence));
    this.index.handed(handed);
    this.#freshness.handed({ id, fence, version });
    return this.#handlings.begin(handling);
  }

  /** Whether the store has said of an event that it has it. */
  isRecorded(event: string): boolean {
    return this.events.has(event);
  }

  /** What has to be handed over yet, since a pass was to hand over everything. */
  get owed(): readonly string[] {
    for (const settlements of this.#settling)
      for (const { claim } of settlements)
        if (this.#handed.has(claimKey(claim.ref.id, claim.fence)))
          this.everything.handled(claim.ref.id, claim.fence);
    return this.everything.owed;
  }

  /** Whether nobody can be told of an object by now that it is in the copy: its connection was forgotten. */
  isUnknown(id: string, by = this.#step): boolean {
    return this.forgettings.ever(ownerOf(id).connection) && !this.index.isKnown(id, by);
  }

  /** Whether a dead letter may have been discarded, of an object or (by its connection) of all that changed in one. */
  wasDropped(key: string, since = 0): boolean {
    return (this.#dropped.get(key) ?? -1) >= since;
  }

  #leased(claim: Claim): void {
    const { ref } = claim;
    this.#claims.set(ref.id === WHOLE_RESOURCE ? ref.connection : ref.id, claim);
    this.#dead.delete(deadKey(ref));
    this.#freshness.claimed(claim);
  }

  #settled(settlement: Settlement, asked: number): void {
    const { claim, kind } = settlement;
    const { id } = claim.ref;
    if (kind === "dead") this.#dead.add(deadKey(claim.ref));
    const wasHanded = this.#handed.has(claimKey(claim.ref.id, claim.fence));
    // What came too late is about what was forgotten.
    if (!this.forgettings.since(claim.ref.connection, asked))
      this.index.settled(settlement, asked, wasHanded);
    if (kind !== "done") return;
    const fences = this.settledFences.get(id) ?? new Set();
    this.settledFences.set(id, fences);
    fences.add(claim.fence);
    if (wasHanded) this.everything.handled(id, claim.fence);
  }

  /** From now on it may have happened; whether it has is certain once it ended. */
  #forgetting(connection: string, life: Life, counter: number): Forgotten {
    const { ids, violated } = this.#options;
    const own = ids(connection);
    const ended = this.forgettings.begin(connection, life, counter);
    const waive = () => {
      this.events.forgotten(connection);
      this.feed.replaced(connection);
      for (const id of own) {
        this.index.forgotten(id);
        this.everything.waived(id);
        this.#dead.delete(id);
      }
    };
    waive();
    this.#leases.forgetting(connection);
    return {
      ids: own,
      failed: () => {
        waive();
        ended(this.#newestFence(connection));
      },
      done: (after, found) => {
        waive();
        ended(after);
        this.#leases.forgotten(connection, this.step());
        for (const [i, id] of own.entries()) {
          const evidence = found[i]?.index?.evidence ?? Infinity;
          if (evidence <= counter) violated("I5", `${id} is in the index as of before it was forgotten`);
        }
      },
    };
  }

  /** All that is dead may be dropped with its events. What is left of an object is that there is one. */
  #discarding(): void {
    for (const key of this.#dead) {
      this.events.dropped(key);
      this.#dropped.set(key, this.step());
      this.everything.waived(key);
      const claim = this.#claims.get(key);
      if (claim !== undefined) this.forgettings.lost(key, claim.fence);
    }
  }

  #newestFence(connection: string): number {
    const fences = [...this.#claims.values()]
      .filter(({ ref }) => ref.connection === connection)
      .map(({ fence }) => fence);
    return Math.max(0, ...fences);
  }
}

/** No two accounts have an object in common, but each has the mark that something of it changed. */
function deadKey({ connection, id }: Claim["ref"]): string {
  return id === WHOLE_RESOURCE ? connection : id;
}
