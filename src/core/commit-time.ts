/**
 * The time limit of a commit's callback.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { TrueupError } from "./errors.ts";

/**
 * Waits for the callback, but no longer than `timeoutMs`; one that blocks the thread is found out afterwards.
 * @throws TrueupError `COMMIT_TIMEOUT`; what the callback threw
 */
export async function inCommitTime(
  clock: Clock,
  timeoutMs: number,
  run: () => void | Promise<void>,
): Promise<void> {
  const start = clock.monotonic();
  const running = run();
  if (running !== undefined) {
    await new Promise<void>((resolve, reject) => {
      const cancel = clock.setTimer(() => reject(commitTimeout(timeoutMs)), timeoutMs);
      running.then(resolve, reject).finally(cancel);
    });
  }
  if (clock.monotonic() - start > timeoutMs) throw commitTimeout(timeoutMs);
}

export function commitTimeout(timeoutMs: number, cause?: unknown): TrueupError<"COMMIT_TIMEOUT"> {
  const message = `the callback of commit took longer than ${timeoutMs} ms and was rolled back`;
  return new TrueupError("COMMIT_TIMEOUT", message, cause === undefined ? undefined : { cause });
}
