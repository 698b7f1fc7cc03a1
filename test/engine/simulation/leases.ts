import type { Claim, Settlement } from "trueup";
import type { SessionName } from "./boundary.ts";

interface Lease {
  readonly session: SessionName;
  readonly fence: number;
}

/**
 * I3, seen at the store's boundary: who holds the lease of each object by what the store itself has said, and whether it
 * takes anything from anybody else.
 */
export class Leases {
  readonly #shared: boolean;
  readonly #violated: (what: string) => void;
  readonly #live = new Map<string, Lease>();
  /** The session that has the right to work, where there is only one. */
  #working: SessionName | undefined;

  /** @param shared whether several sessions work at once, each with leases that last until another takes them */
  constructor(shared: boolean, violated: (what: string) => void) {
    this.#shared = shared;
    this.#violated = violated;
  }

  began(session: SessionName): void {
    if (this.#shared) return;
    this.#working = session;
    this.#live.clear();
  }

  released(session: SessionName): void {
    if (this.#working === session) this.#working = undefined;
    for (const [id, lease] of this.#live) if (lease.session === session) this.#live.delete(id);
  }

  leased(session: SessionName, claims: readonly Claim[]): void {
    if (claims.length > 0) this.#expectWorking(session, "leased objects");
    for (const { fence, ref } of claims) {
      const before = this.#live.get(ref.id);
      if (before !== undefined && before.fence >= fence)
        this.#violated(`${ref.id} was leased with fence ${fence} after ${before.fence}`);
      this.#live.set(ref.id, { session, fence });
    }
  }

  accepted(session: SessionName, { claim, kind }: Settlement): void {
    this.#expectWorking(session, `settled ${claim.ref.id}`);
    const live = this.#live.get(claim.ref.id);
    if (live?.fence === claim.fence && live.session === session) return;
    const holder = live === undefined ? "nobody" : `fence ${live.fence}`;
    this.#violated(`${claim.ref.id}: ${kind} was taken with fence ${claim.fence}, the lease had ${holder}`);
  }

  settled({ claim }: Settlement): void {
    if (this.#live.get(claim.ref.id)?.fence === claim.fence) this.#live.delete(claim.ref.id);
  }

  #expectWorking(session: SessionName, what: string): void {
    if (!this.#shared && session !== this.#working)
      this.#violated(`${String(session.description)} ${what} after it lost the store`);
  }
}
