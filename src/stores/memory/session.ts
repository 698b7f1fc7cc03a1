/**
 * Working on the store: claims, settlements and pages of passes.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type {
  Claim,
  ClaimRequest,
  PageRecord,
  Settlement,
  SettleOutcome,
  WorkSession,
} from "../../core/store.ts";
import type { Database } from "./database.ts";
import type { Draft } from "./draft.ts";
import { recordPage } from "./passes.ts";
import { claimOf, leased, settled, unleased } from "./record.ts";

export class MemorySession implements WorkSession {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async claim(request: ClaimRequest): Promise<Claim[]> {
    const { limit, exceptConnections = [] } = request;
    return await this.#change((draft) =>
      draft
        .take(request, limit, exceptConnections)
        .map((record) => claimOf(draft.put(leased(record, draft.moment())))),
    );
  }

  async settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    if (!this.#isLive) return settlements.map(() => "lost");
    return await this.#database.change((draft) =>
      // The lease may have been lost while this call waited for its turn.
      settlements.map((settlement) => (this.#isLive ? settle(draft, settlement) : "lost")),
    );
  }

  async recordPage(page: PageRecord): Promise<Claim[]> {
    return await this.#change((draft) => recordPage(draft, page));
  }

  async heartbeat(): Promise<boolean> {
    if (!this.#isLive) return false;
    if (await this.#database.isOwner()) return this.#isLive;
    this.#database.free(this);
    return false;
  }

  async release(): Promise<void> {
    if (!this.#isLive) return;
    try {
      await this.#database.change((draft) => {
        if (this.#isLive) endLeases(draft, "released");
      });
    } catch (error) {
      this.#database.disown(this); // whoever works next finds its leases, as after a crash
      throw error;
    }
    this.#database.free(this);
  }

  /** Gives the leases of a session that is gone back, their attempts counted, and ends its locks. */
  async voidLeases(): Promise<void> {
    await this.#change((draft) => {
      endLeases(draft, "crashed");
      // Fence 0 is nobody's: the lock is free, and who had it finds it lost.
      for (const name of draft.state.locks.keys()) draft.setLock({ name, fence: 0, until: 0 });
    });
  }

  get #isLive(): boolean {
    return this.#database.session === this;
  }

  async #change<T>(body: (draft: Draft) => T): Promise<T> {
    return await this.#database.change((draft) => {
      if (!this.#isLive)
        throw new TrueupError("STORE_LOST", "this session has ended, or another has taken over");
      return body(draft);
    });
  }
}

/** Ends one claim, if its lease is live. */
export function settle(draft: Draft, settlement: Settlement): SettleOutcome {
  const { claim } = settlement;
  const record = draft.object(claim.key);
  if (record?.state !== "leased" || record.fence !== claim.fence) return "lost";
  draft.put(settled(record, settlement, draft.moment()));
  return record.late === null ? "settled" : "dirty";
}

function endLeases(draft: Draft, how: "crashed" | "released"): void {
  for (const key of draft.state.leased) {
    const record = draft.object(key);
    if (record !== undefined) draft.put(unleased(record, how, draft.moment()));
  }
}
