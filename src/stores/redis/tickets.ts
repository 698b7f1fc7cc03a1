/**
 * Tickets: the numbers of a session's claims. They tell leases whose answer never came from those that somebody holds.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import { LEASES, VOIDED_AT_ONCE } from "./leases.ts";
import { isRefusal, type Link } from "./link.ts";
import type { Partition } from "./partition.ts";
import { script } from "./script.ts";

/** Voids what was leased under a ticket; if its claim is still on its way, it comes too late. */
const giveUp = script(
  String.raw`
local session, ticket = argument(), number()
evenWhenFull()
if not isLive(session) then return 0 end
useTicket(session, ticket)
local found = void(session .. ':' .. ticket .. ':', 'unanswered', ${VOIDED_AT_ONCE})
flush()
return found
`,
  LEASES,
);

export class Tickets {
  readonly session: string;
  readonly #link: Link;
  readonly #unanswered = new Map<Partition, Set<number>>();
  #latest = 0;

  constructor(link: Link, session: string) {
    this.#link = link;
    this.session = session;
  }

  /**
   * Runs what leases objects, and reads its answer. If that is lost, so are the leases, and they are given back before
   * the next use.
   * @throws TrueupError `STORE_LOST`
   */
  async use<Reply, T>(
    partition: Partition,
    run: (session: string, ticket: number) => Promise<unknown>,
    read: (reply: Reply) => Promise<T>,
  ): Promise<T> {
    await this.giveUpUnanswered(partition);
    this.#latest += 1;
    const ticket = this.#latest;
    let answer: Reply;
    try {
      const reply = await run(this.session, ticket);
      if (reply === null) throw sessionLost();
      if (reply === 0) throw new TrueupError("STORE_FAILED", "a claim reached Redis twice, or too late");
      answer = reply as Reply;
    } catch (error) {
      if (!isCertain(error)) this.#of(partition).add(ticket);
      throw error;
    }
    try {
      return await read(answer);
    } catch (error) {
      if (!(error instanceof TrueupError && error.code === "LEASE_LOST")) this.#of(partition).add(ticket);
      throw error;
    }
  }

  /** Gives leases back that nobody holds because the answer to their claim was lost. */
  async giveUpUnanswered(partition: Partition): Promise<void> {
    const tickets = this.#unanswered.get(partition) ?? [];
    await Promise.all(
      [...tickets].map(async (ticket) => {
        while ((await this.#link.run(giveUp, partition, [this.session, ticket])) === VOIDED_AT_ONCE);
        this.#unanswered.get(partition)?.delete(ticket);
      }),
    );
  }

  #of(partition: Partition): Set<number> {
    const known = this.#unanswered.get(partition);
    if (known !== undefined) return known;
    const made = new Set<number>();
    this.#unanswered.set(partition, made);
    return made;
  }
}

/** Whether nothing was leased. */
function isCertain(error: unknown): boolean {
  return isRefusal(error) || (error instanceof TrueupError && error.code !== "STORE_FAILED");
}

export function sessionLost(): TrueupError<"STORE_LOST"> {
  return new TrueupError("STORE_LOST", "the session has ended, and its leases went to others");
}
