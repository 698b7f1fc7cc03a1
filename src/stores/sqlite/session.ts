/**
 * A work session: what its holder may do while it owns the store.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import type { Clock } from "../../core/clock.ts";
import { inCommitTime } from "../../core/commit-time.ts";
import { TrueupError } from "../../core/errors.ts";
import type {
  Claim,
  ClaimRequest,
  PageRecord,
  Settlement,
  SettleOutcome,
  WorkSession,
} from "../../core/store.ts";
import type { Claimer } from "./claim.ts";
import type { Committer } from "./committer.ts";
import type { Leases } from "./leases.ts";
import type { Ownership } from "./ownership.ts";
import type { Passes } from "./passes.ts";
import type { Settler } from "./settle.ts";
import { type SqliteTx, type UserStatements, UserTransaction } from "./transaction.ts";
import type { Turn } from "./turn.ts";

interface Parts {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  readonly committer: Committer;
  readonly claimer: Claimer;
  readonly settler: Settler;
  readonly leases: Leases;
  readonly passes: Passes;
  readonly statements: UserStatements;
}

type Write = (tx: SqliteTx, live: readonly boolean[]) => void | Promise<void>;

export class Session implements WorkSession<SqliteTx> {
  readonly #parts: Parts;
  readonly #ownership: Ownership;

  constructor(ownership: Ownership, parts: Parts) {
    this.#ownership = ownership;
    this.#parts = parts;
  }

  // What is settled in the same transaction is then no lease any more that has to be passed over.
  claim(request: ClaimRequest): Promise<Claim[]> {
    return this.#parts.committer.writeBehind((turn) => {
      this.#requireOwnership(turn);
      return this.#parts.claimer.claim(turn, request);
    });
  }

  // Asks for no ownership: when it is lost, so are the leases, and each settlement is answered for itself.
  settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    if (settlements.length === 0) return Promise.resolve([]);
    return this.#parts.committer.write((turn) => this.#parts.settler.settle(turn, settlements));
  }

  commit(
    settlements: readonly Settlement[],
    write: Write,
    options: { readonly timeoutMs: number },
  ): Promise<SettleOutcome[]> {
    const { clock, committer, db, leases, settler, statements } = this.#parts;
    return committer.writeGuarded(async (turn) => {
      const live = settlements.map(({ claim }) => leases.in(turn).get(claim.key)?.fence === claim.fence);
      if (!live.includes(true))
        throw new TrueupError("LEASE_LOST", "the work is leased to another: nothing was written");
      const transaction = new UserTransaction(db, statements);
      try {
        await inCommitTime(clock, options.timeoutMs, () => write(transaction.handle, live));
      } finally {
        transaction.revoke();
      }
      // Outside of a transaction the settling would be written by itself.
      if (!db.isTransaction)
        throw new TrueupError("STORE_FAILED", "a statement of the commit ended the transaction");
      return settler.settle(turn, settlements);
    });
  }

  recordPage(page: PageRecord): Promise<Claim[]> {
    return this.#parts.committer.write((turn) => {
      this.#requireOwnership(turn);
      return this.#parts.passes.recordPage(turn, page);
    });
  }

  heartbeat(): Promise<boolean> {
    return this.#ownership.heartbeat();
  }

  release(): Promise<void> {
    return this.#ownership.release();
  }

  #requireOwnership(turn: Turn): void {
    if (turn.store.owner_epoch === this.#ownership.epoch) return;
    throw new TrueupError("STORE_LOST", "another process has taken the store over from this one");
  }
}
