/**
 * A work session: one of many that work on the schema at once, known to the others by its heartbeat.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { StoreEnvironment } from "../../core/store.ts";
import type {
  Claim,
  ClaimRequest,
  PageRecord,
  Settlement,
  SettleOutcome,
  WorkSession,
} from "../../core/store.ts";
import type { Database } from "./database.ts";
import type { PgTx } from "./driver.ts";
import { type Claimed, settleColumns, toClaims, toOutcome } from "./rows.ts";
import type { Scopes } from "./scopes.ts";
import { Tenure } from "./tenure.ts";
import type { StoreTime } from "./time.ts";
import { inTransaction, type LastCall } from "./transaction.ts";

export interface SessionParts {
  readonly database: Database;
  readonly scopes: Scopes;
  readonly time: StoreTime;
  readonly environment: StoreEnvironment;
  /** Work may be there that a claim could not see. */
  readonly lookAgain: () => void;
}

/** Where a route's claims go on in the rings of its live and its repair lanes. */
interface Turns {
  live: number;
  repair: number;
}

export class Session implements WorkSession<PgTx> {
  readonly #parts: SessionParts;
  readonly #tenure: Tenure;
  readonly #turns = new Map<string, Turns>();

  private constructor(n: number, parts: SessionParts) {
    this.#tenure = new Tenure(n, parts.database, parts.time);
    this.#parts = parts;
  }

  static async begin(leaseMs: number, parts: SessionParts): Promise<Session> {
    const { database, environment, time } = parts;
    const [row] = await database.call("begin_session", [time.moment, leaseMs, environment.random()]);
    const [n, takenOver] = row as [number, number];
    tellOfTakeover(parts, takenOver);
    return new Session(n, parts);
  }

  async claim(request: ClaimRequest): Promise<Claim[]> {
    const { provider, resource, limit, exceptConnections = [] } = request;
    if (limit < 1) return [];
    const { database, environment, lookAgain, time } = this.#parts;
    const turns = this.#turnsOf(provider, resource);
    const { claims, liveAfter, repairAfter, doubtful } = await this.#leasing(async (n) => {
      const rows = await database.call("claim", [
        time.moment,
        n,
        provider,
        resource,
        limit,
        exceptConnections,
        turns.live,
        turns.repair,
        environment.maxEventsPerChange,
        environment.random(),
      ]);
      return toClaims(rows, request, time);
    });
    Object.assign(turns, { live: liveAfter, repair: repairAfter });
    if (doubtful > 0) lookAgain();
    return claims;
  }

  // Asks for no session: when it is lost, so are the leases, and each settlement is answered for itself.
  async settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    const { database } = this.#parts;
    return this.#ended(
      settlements,
      await this.#settleWith(settlements, (values) => database.call("settle", values)),
    );
  }

  async commit(
    settlements: readonly Settlement[],
    write: (tx: PgTx, live: readonly boolean[]) => void | Promise<void>,
    options: { readonly timeoutMs: number },
  ): Promise<SettleOutcome[]> {
    const { database, environment } = this.#parts;
    const outcomes = await inTransaction(
      { database, clock: environment.clock, random: environment.random, timeoutMs: options.timeoutMs },
      settlements,
      write,
      (settle) => this.#settleWith(settlements, settle),
    );
    return this.#ended(settlements, outcomes);
  }

  async recordPage(page: PageRecord): Promise<Claim[]> {
    const { database, environment, scopes, time } = this.#parts;
    const { claims } = await this.#leasing(async (n) => {
      const record = ([scope]: readonly number[]) =>
        database.call("record_page", [
          time.moment,
          n,
          scope,
          page.pass,
          page.lock.name,
          page.lock.fence,
          page.mark,
          page.seen,
          page.differing,
          page.lease,
          page.checkpoint,
          environment.maxEventsPerChange,
        ]);
      const rows = await scopes.with([page.scope], record, page.lock);
      return toClaims(rows, page.scope, time);
    });
    return claims;
  }

  async heartbeat(): Promise<boolean> {
    const { database, environment, time } = this.#parts;
    try {
      const takenOver = await this.#tenure.use((n) =>
        database.value<number | null>("heartbeat", [time.moment, n, environment.random()]),
      );
      if (takenOver !== null) tellOfTakeover(this.#parts, takenOver);
      return takenOver !== null;
    } catch (error) {
      if (error instanceof TrueupError && error.code === "STORE_LOST") return false;
      throw error;
    }
  }

  async release(): Promise<void> {
    const { database, time } = this.#parts;
    for (const n of this.#tenure.numbers) await database.call("end_session", [time.moment, n]);
  }

  #ended(settlements: readonly Settlement[], outcomes: SettleOutcome[]): SettleOutcome[] {
    for (const { claim } of settlements) this.#tenure.endsWith(claim);
    return outcomes;
  }

  #leasing(run: (n: number) => Promise<Claimed>): Promise<Claimed> {
    return this.#tenure.use(async (n) => {
      const claimed = await run(n);
      this.#tenure.holds(claimed.claims);
      return claimed;
    });
  }

  /**
   * In the order of objects, which is the order of locks. Of several claims of one object only the last can be live, and
   * one that comes twice is lost the second time.
   */
  async #settleWith(settlements: readonly Settlement[], settle: LastCall): Promise<SettleOutcome[]> {
    const outcomes: SettleOutcome[] = settlements.map(() => "lost");
    const claimAt = (place: number) => (settlements[place] as Settlement).claim;
    const places = [...settlements.keys()].toSorted((a, b) => byObject(claimAt(a), claimAt(b)));
    const first = places.filter(
      (place, i) => i === 0 || claimAt(place).key !== claimAt(places[i - 1] as number).key,
    );
    if (first.length === 0) return outcomes;
    const { time } = this.#parts;
    const ordered = first.map((place) => settlements[place] as Settlement);
    const [row] = (await settle([time.moment, ...settleColumns(ordered, time)], first)) as [[number[]]];
    for (const [i, number] of row[0].entries()) outcomes[first[i] as number] = toOutcome(number);
    return outcomes;
  }

  #turnsOf(provider: string, resource: string): Turns {
    const key = `${provider}\0${resource}`;
    let turns = this.#turns.get(key);
    if (turns === undefined) this.#turns.set(key, (turns = { live: 0, repair: 0 }));
    return turns;
  }
}

/** The leases of one object side by side, the last of them first. */
function byObject(a: Claim, b: Claim): number {
  return a.key - b.key || b.fence - a.fence;
}

function tellOfTakeover({ environment }: SessionParts, sessions: number): void {
  if (sessions > 0) {
    environment.logger.warn(
      { sessions },
      "taking over the work of processes that have given no sign of life",
    );
  }
}
