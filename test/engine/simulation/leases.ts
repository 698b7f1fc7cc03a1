import type { Claim, Settlement } from "trueup";
import type { SessionName } from "./boundary.ts";

export interface LeasesOptions {
  /** Whether several sessions work at once, each with leases that last for as long as it gives signs of life. */
  readonly shared: boolean;
  /** How long a session lives without one. */
  readonly leaseMs: number;
  /** By a clock that nobody sets. */
  readonly now: () => number;
  readonly violated: (what: string) => void;
}

interface Lease {
  readonly session: SessionName;
  readonly connection: string;
  readonly fence: number;
  /** It was there when its connection was about to be forgotten. */
  doubtful?: boolean;
  /** From when on it is void: its connection was forgotten. */
  voidFrom?: number;
}

/**
 * I3, seen at the store's boundary: who holds the lease of each object by what the store itself has said, and whether it
 * takes anything from anybody else.
 */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #live = new Map<string, Lease>();
  /** When each session that has not ended last gave a sign of life. */
  readonly #beats = new Map<SessionName, number>();
  /** The session that has the right to work, where there is only one. */
  #working: SessionName | undefined;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  began(session: SessionName): void {
    this.beat(session);
    if (this.#options.shared) return;
    this.#working = session;
    this.#live.clear();
  }

  beat(session: SessionName): void {
    this.#beats.set(session, this.#options.now());
  }

  released(session: SessionName): void {
    this.#beats.delete(session);
    if (this.#working === session) this.#working = undefined;
    for (const [id, lease] of this.#live) if (lease.session === session) this.#live.delete(id);
  }

  leased(session: SessionName, claims: readonly Claim[]): void {
    if (claims.length > 0) this.#expectWorking(session, "leased objects");
    for (const { fence, ref } of claims) {
      const before = this.#live.get(keyOf(ref));
      if (before !== undefined && before.fence >= fence)
        this.#options.violated(`${ref.id} was leased with fence ${fence} after ${before.fence}`);
      const held = before !== undefined && before.session !== session && before.doubtful !== true;
      if (held && this.#lives(before.session))
        this.#options.violated(`${ref.id} was leased though ${String(before.session.description)} holds it`);
      this.#live.set(keyOf(ref), { session, fence, connection: ref.connection });
    }
  }

  forgetting(connection: string): void {
    for (const lease of this.#live.values()) if (lease.connection === connection) lease.doubtful = true;
  }

  forgotten(connection: string, step: number): void {
    for (const lease of this.#live.values())
      if (lease.connection === connection && lease.doubtful === true) lease.voidFrom ??= step;
  }

  /** @param asked when its holder began to settle it */
  accepted(session: SessionName, { claim, kind }: Settlement, asked: number): void {
    this.#expectWorking(session, `settled ${claim.ref.id}`);
    const live = this.#live.get(keyOf(claim.ref));
    if (live?.fence === claim.fence && live.session === session) {
      if (asked > (live.voidFrom ?? Infinity))
        this.#options.violated(`${claim.ref.id}: ${kind} was taken though its connection was forgotten`);
      return;
    }
    const holder = live === undefined ? "nobody" : `fence ${live.fence}`;
    this.#options.violated(
      `${claim.ref.id}: ${kind} was taken with fence ${claim.fence}, the lease had ${holder}`,
    );
  }

  settled({ claim }: Settlement): void {
    if (this.#live.get(keyOf(claim.ref))?.fence === claim.fence) this.#live.delete(keyOf(claim.ref));
  }

  /** Whether a lease is live by all that the store has said. */
  holds(id: string, fence: number): boolean {
    const live = this.#live.get(id);
    return live?.fence === fence && this.#lives(live.session);
  }

  #lives(session: SessionName): boolean {
    if (!this.#options.shared) return session === this.#working;
    const beatAt = this.#beats.get(session);
    return beatAt !== undefined && this.#options.now() - beatAt < this.#options.leaseMs;
  }

  #expectWorking(session: SessionName, what: string): void {
    if (!this.#options.shared && session !== this.#working)
      this.#options.violated(`${String(session.description)} ${what} after it lost the store`);
  }
}

/** No two accounts have an object in common, but each has the mark that something of it changed, whose id is empty. */
function keyOf({ connection, id }: Claim["ref"]): string {
  return id === "" ? `all of ${connection}` : id;
}
