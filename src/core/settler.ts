/**
 * Settles claims, all of a turn together, and again when the store cannot be reached: work that is done should not be
 * done twice for a hiccup of the database.
 *
 * @module
 */

import { batcher } from "./batcher.ts";
import { sleep, type Clock } from "./clock.ts";
import { TrueupError } from "./errors.ts";
import type { Hooks } from "./hooks.ts";
import { asError } from "./retry.ts";
import type { Settlement, SettleOutcome, WorkSession } from "./store.ts";

/** Delays between tries; the last is repeated. A lease lasts as long as its shift, so giving up earlier would keep it. */
const RETRY_DELAYS_MS = [50, 200, 1_000, 3_000, 5_000];

export type Settle = (settlement: Settlement) => Promise<SettleOutcome>;

/** @param ended aborts with the shift: what is not settled then is not settled by this process */
export function createSettle(
  session: WorkSession<unknown>,
  clock: Clock,
  hooks: Hooks,
  ended: AbortSignal,
): Settle {
  return batcher(async (settlements: Settlement[]) => {
    for (let tries = 0; ; tries += 1) {
      try {
        return await session.settle(settlements);
      } catch (thrown) {
        const error = asError(thrown);
        hooks.emit("error", { error, during: "settling" });
        if (ended.aborted || (error instanceof TrueupError && error.code === "STORE_LOST")) break;
        const delayMs = RETRY_DELAYS_MS[Math.min(tries, RETRY_DELAYS_MS.length - 1)] as number;
        await sleep(clock, delayMs, ended).catch(() => {}); // then once more, and no longer
      }
    }
    return settlements.map(() => "lost" as const);
  });
}
