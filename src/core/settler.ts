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

/** Delays between tries; after the last the lease is left to end, and the work will be done again. */
const RETRY_DELAYS_MS = [50, 200, 1_000, 3_000, 5_000];

export type Settle = (settlement: Settlement) => Promise<SettleOutcome>;

export function createSettle(session: WorkSession<unknown>, clock: Clock, hooks: Hooks): Settle {
  return batcher(async (settlements: Settlement[]) => {
    for (const delayMs of [...RETRY_DELAYS_MS, undefined]) {
      try {
        return await session.settle(settlements);
      } catch (thrown) {
        const error = asError(thrown);
        hooks.emit("error", { error, during: "settling" });
        if (delayMs === undefined || (error instanceof TrueupError && error.code === "STORE_LOST")) break;
        await sleep(clock, delayMs);
      }
    }
    return settlements.map(() => "lost" as const);
  });
}
