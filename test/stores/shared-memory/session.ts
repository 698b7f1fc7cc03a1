import { sleep } from "../../../src/core/clock.ts";
import { TrueupError } from "../../../src/core/errors.ts";
import type {
  Claim,
  ClaimRequest,
  PageRecord,
  Settlement,
  SettleOutcome,
  StoreEnvironment,
  WorkSession,
} from "../../../src/core/store.ts";
import type { Draft } from "../../../src/stores/memory/draft.ts";
import { recordPage } from "../../../src/stores/memory/passes.ts";
import { claimOf, leased } from "../../../src/stores/memory/record.ts";
import { settle } from "../../../src/stores/memory/session.ts";
import type { MemoryServer, Tenancy } from "./server.ts";

/** What a commit's callback gets: its rows are there once the commit is, or never. */
export interface MemoryTx<Row> {
  add(row: Row): void;
}

/** One process's right to work, among those of others. */
export class SharedSession<Row> implements WorkSession<MemoryTx<Row>> {
  readonly #server: MemoryServer<Row>;
  readonly #tenancy: Tenancy;
  readonly #environment: StoreEnvironment;

  constructor(server: MemoryServer<Row>, tenancy: Tenancy, environment: StoreEnvironment) {
    this.#server = server;
    this.#tenancy = tenancy;
    this.#environment = environment;
  }

  async claim(request: ClaimRequest): Promise<Claim[]> {
    const { exceptConnections = [], limit } = request;
    return await this.#lease((draft) =>
      draft
        .take(request, limit, exceptConnections)
        .map((record) => claimOf(draft.put(leased(record, draft.moment())))),
    );
  }

  async settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    if (!this.#server.lives(this.#tenancy)) return settlements.map(() => "lost");
    const outcomes = await this.#server.change((draft) =>
      settlements.map((settlement) => settle(draft, settlement)),
    );
    this.#end(settlements, outcomes);
    return outcomes;
  }

  async commit(
    settlements: readonly Settlement[],
    write: (tx: MemoryTx<Row>, live: readonly boolean[]) => void | Promise<void>,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<SettleOutcome[]> {
    const live = settlements.map(({ claim }) => this.#isLive(claim));
    if (!live.includes(true)) throw leaseLost();
    const rows = await this.#written((tx) => write(tx, live), timeoutMs);
    // Nothing was locked meanwhile: whoever lost a lease under the callback has written for nothing.
    if (settlements.some(({ claim }, i) => live[i] === true && !this.#isLive(claim))) throw leaseLost();
    const outcomes = await this.#server.change((draft) => {
      this.#server.rows.push(...rows);
      return settlements.map((settlement) => settle(draft, settlement));
    });
    this.#end(settlements, outcomes);
    return outcomes;
  }

  async recordPage(page: PageRecord): Promise<Claim[]> {
    return await this.#lease((draft) => recordPage(draft, page));
  }

  async heartbeat(): Promise<boolean> {
    if (!this.#server.lives(this.#tenancy)) return false;
    this.#tenancy.beatAt = this.#server.elapsedMs;
    return true;
  }

  async release(): Promise<void> {
    this.#server.evict(this.#tenancy, "released");
  }

  /** The rows of a callback, which has so much time for them. */
  async #written(
    write: (tx: MemoryTx<Row>) => void | Promise<void>,
    timeoutMs: number,
  ): Promise<readonly Row[]> {
    const rows: Row[] = [];
    let over = false;
    const tx: MemoryTx<Row> = {
      add(row) {
        if (over) throw new TrueupError("TX_REVOKED", "the commit is over");
        rows.push(row);
      },
    };
    const stop = new AbortController();
    const timeout = sleep(this.#environment.clock, timeoutMs, stop.signal).then(() => {
      throw new TrueupError("COMMIT_TIMEOUT", `the callback took longer than ${timeoutMs} ms`);
    });
    try {
      await Promise.race([write(tx), timeout]);
    } finally {
      over = true;
      timeout.catch(() => {});
      stop.abort();
    }
    return rows;
  }

  async #lease(body: (draft: Draft) => Claim[]): Promise<Claim[]> {
    if (!this.#server.lives(this.#tenancy))
      throw new TrueupError("STORE_LOST", "this session has ended: it gave no sign of life in time");
    return this.#server.give(this.#tenancy, await this.#server.change(body));
  }

  #end(settlements: readonly Settlement[], outcomes: readonly SettleOutcome[]): void {
    for (const [i, { claim }] of settlements.entries())
      if (outcomes[i] !== "lost") this.#tenancy.objects.delete(claim.key);
    if (outcomes.includes("dirty")) this.#server.notify();
  }

  #isLive({ fence, key }: Claim): boolean {
    if (!this.#server.lives(this.#tenancy)) return false;
    const record = this.#server.state.objects.get(key);
    return record?.state === "leased" && record.fence === fence;
  }
}

function leaseLost(): TrueupError<"LEASE_LOST"> {
  return new TrueupError("LEASE_LOST", "someone else holds this work now: nothing was written");
}
