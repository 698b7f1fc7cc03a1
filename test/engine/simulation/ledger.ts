import type { Clock, Settlement } from "trueup";
import { WHOLE_RESOURCE } from "../../../src/core/event.ts";
import type { StoreWitness } from "./boundary.ts";
import type { Handed } from "./copy.ts";
import { FeedCursor } from "./feed-cursor.ts";
import { FreshnessGuard } from "./freshness.ts";
import { type Handling, Handlings } from "./handlings.ts";
import { Leases } from "./leases.ts";
import { PassRecords } from "./pass-records.ts";
import { LEASE_MS } from "./process.ts";
import type { Scenario } from "./scenario.ts";

/** What the store and the handlers told while it happened, held against the invariants then and there. */
export class Ledger {
  /** Fences whose work was settled, by object. */
  readonly settledFences = new Map<string, Set<number>>();
  /** How often the store said of each event that it is a new one. */
  readonly accepted = new Map<string, number>();
  readonly witness: StoreWitness;
  readonly feed: FeedCursor;
  readonly #recorded = new Set<string>();
  readonly #handlings: Handlings;
  readonly #freshness: FreshnessGuard;

  constructor({ store }: Scenario, clock: Clock, violated: (invariant: string, what: string) => void) {
    const leases = new Leases({
      shared: store === "shared",
      leaseMs: LEASE_MS,
      now: () => clock.monotonic(),
      violated: (what) => violated("I3", what),
    });
    const passes = new PassRecords(violated);
    this.feed = new FeedCursor(
      (event) => this.isRecorded(event),
      (what) => violated("I6", what),
    );
    this.#freshness = new FreshnessGuard(clock, (what) => violated("I13", what));
    this.#handlings = new Handlings(
      ({ fence, id }) => leases.holds(id, fence),
      (what) => violated("I3", what),
    );
    this.witness = {
      began: (session) => leases.began(session),
      beat: (session) => leases.beat(session),
      released: (session) => leases.released(session),
      leased: (session, claims) => {
        leases.leased(session, claims);
        for (const claim of claims) this.#freshness.claimed(claim);
      },
      accepted: (session, settlement) => leases.accepted(session, settlement),
      settled: (settlement) => {
        leases.settled(settlement);
        this.#settled(settlement);
      },
      appended: (entries, results) => {
        for (const [i, { event, force, ref }] of entries.entries()) {
          if (event?.id !== undefined) this.#appended(event.id, results[i]?.status === "accepted");
          if (force === true && ref.id === WHOLE_RESOURCE) this.feed.replaced(ref.connection);
        }
      },
      checkpointed: (key, value) => this.feed.checkpointed(key, value),
      locked: (lock) => passes.locked(lock),
      recorded: (page, claims, found) => passes.recorded(page, claims, found),
    };
  }

  /** A handler got a change. @returns what ends it */
  begun({ id, fence, version = null }: Handed, handling: Handling): () => void {
    this.#freshness.handed({ id, fence, version });
    return this.#handlings.begin(handling);
  }

  /** Whether the store has said of an event that it has it. */
  isRecorded(event: string): boolean {
    return this.#recorded.has(event);
  }

  /** How many events the store has said that it has. */
  get recordedEvents(): number {
    return this.#recorded.size;
  }

  #appended(event: string, isNew: boolean): void {
    this.#recorded.add(event);
    if (isNew) this.accepted.set(event, (this.accepted.get(event) ?? 0) + 1);
  }

  #settled({ claim, kind }: Settlement): void {
    if (kind !== "done") return;
    const fences = this.settledFences.get(claim.ref.id) ?? new Set();
    this.settledFences.set(claim.ref.id, fences);
    fences.add(claim.fence);
  }
}
