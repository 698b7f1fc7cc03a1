/**
 * Work sessions: several at once, each alive as long as it says so in every partition.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import type { Random } from "../../core/clock.ts";
import type {
  Claim,
  ClaimRequest,
  PageRecord,
  Settlement,
  SettleOutcome,
  WorkSession,
} from "../../core/store.ts";
import { Claimer } from "./claim.ts";
import { LEASES, seedFrom, VOIDED_AT_ONCE } from "./leases.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import type { Passes } from "./passes.ts";
import { script } from "./script.ts";
import type { Settler } from "./settle.ts";
import { sessionLost, Tickets } from "./tickets.ts";

const begin = script(String.raw`
local session, leaseMs = argument(), number()
evenWhenFull()
call('ZADD', SESSIONS, now + leaseMs, session)
return 1
`);

/** A session that has expired is alive until another has found out. */
const beat = script(
  String.raw`
local session, leaseMs, seed = argument(), number(), number()
if not isLive(session) then return 0 end
evenWhenFull()
call('ZADD', SESSIONS, now + leaseMs, session)
buryOthers(session, seed)
flush()
return 1
`,
  LEASES,
);

/** In slices; the session ends with the last. */
const release = script(
  String.raw`
local session = argument()
evenWhenFull()
local voided = isLive(session) and void(session .. ':', 'released', ${VOIDED_AT_ONCE}) or 0
if voided < ${VOIDED_AT_ONCE} then endSession(session) end
flush()
return voided
`,
  LEASES,
);

interface Parts {
  readonly link: Link;
  readonly partitions: Partitions;
  readonly settler: Settler;
  readonly passes: Passes;
  readonly random: Random;
}

/**
 * So long that a lease is longer than what Redis keeps in packed lists (`hash-max-listpack-value`, 64): of those it looks
 * through the half for each lease that it is asked for.
 */
const NAME_BYTES = 48;

export class Session implements WorkSession {
  readonly #parts: Parts;
  readonly #leaseMs: number;
  readonly #tickets: Tickets;
  readonly #claimer: Claimer;
  #over = false;
  /** Another has ended the session in one partition: then it is over in all of them. */
  #lost = false;

  private constructor(parts: Parts, leaseMs: number) {
    this.#parts = parts;
    this.#leaseMs = leaseMs;
    this.#tickets = new Tickets(parts.link, randomBytes(NAME_BYTES).toString("base64url"));
    this.#claimer = new Claimer({ ...parts, tickets: this.#tickets });
  }

  static async begin(parts: Parts, leaseMs: number): Promise<Session> {
    const session = new Session(parts, leaseMs);
    await session.#everywhere((partition) =>
      parts.link.run(begin, partition, [session.#tickets.session, leaseMs]),
    );
    return session;
  }

  async claim(request: ClaimRequest): Promise<Claim[]> {
    this.#requireHeld();
    return await this.#claimer.claim(request);
  }

  // Asks for no session: when it is lost, so are the leases, and each settlement is answered for itself.
  async settle(settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    if (settlements.length === 0) return [];
    return await this.#parts.settler.settle(this.#tickets.session, settlements);
  }

  async recordPage(page: PageRecord): Promise<Claim[]> {
    this.#requireHeld();
    return await this.#parts.passes.recordPage(this.#tickets, page);
  }

  async heartbeat(): Promise<boolean> {
    if (this.#over) return false;
    const { session } = this.#tickets;
    const alive = await this.#everywhere(async (partition) => {
      await this.#tickets.giveUpUnanswered(partition);
      const { link, random } = this.#parts;
      return link.run(beat, partition, [session, this.#leaseMs, seedFrom(random)]);
    });
    this.#lost ||= alive.includes(0);
    return !this.#lost;
  }

  async release(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#everywhere(async (partition) => {
      const { link } = this.#parts;
      while ((await link.run(release, partition, [this.#tickets.session])) === VOIDED_AT_ONCE);
    });
  }

  #everywhere<T>(run: (partition: Partition) => Promise<T>): Promise<T[]> {
    return Promise.all(this.#parts.partitions.all.map(run));
  }

  #requireHeld(): void {
    if (this.#over || this.#lost) throw sessionLost();
  }
}
