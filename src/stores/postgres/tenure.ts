/**
 * Under which number a session works, and what it holds under it.
 *
 * A claim whose answer was lost may have leased objects that nobody knows of; and as long as the session lives, nobody
 * else gets them. So, before its next use, the session goes on under another number, and takes along only what it knows
 * to hold: the rest is due again, and a claim that reaches the server late finds no session of the old number.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { Claim } from "../../core/store.ts";
import type { Database } from "./database.ts";
import { isBroken } from "./errors.ts";
import type { StoreTime } from "./time.ts";

export class Tenure {
  readonly #database: Database;
  readonly #time: StoreTime;
  #n: number;
  /** The next number, once it is drawn: a renewal whose own answer was lost is asked for again, and is done once. */
  #successor: number | undefined;
  #doubtful = false;
  #renewing: Promise<void> | undefined;
  readonly #underWay = new Set<Promise<unknown>>();
  /** Fences of leases by object, as far as they are known. */
  readonly #held = new Map<number, number>();

  constructor(n: number, database: Database, time: StoreTime) {
    this.#n = n;
    this.#database = database;
    this.#time = time;
  }

  /** All that may be its number at the server. */
  get numbers(): number[] {
    return this.#successor === undefined ? [this.#n] : [this.#n, this.#successor];
  }

  /**
   * Runs what depends on the number.
   * @throws TrueupError `STORE_LOST` where a renewal finds that others have its work; what `run` threw
   */
  async use<T>(run: (n: number) => Promise<T>): Promise<T> {
    while (this.#doubtful)
      await (this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined)));
    const running = run(this.#n);
    this.#underWay.add(running);
    try {
      return await running;
    } catch (error) {
      if (isUncertain(error)) this.#doubtful = true;
      throw error;
    } finally {
      this.#underWay.delete(running);
    }
  }

  holds(claims: readonly Claim[]): void {
    for (const { fence, key } of claims) this.#held.set(key, fence);
  }

  endsWith({ fence, key }: Claim): void {
    if (this.#held.get(key) === fence) this.#held.delete(key);
  }

  async #renew(): Promise<void> {
    // Of what is under way it is not known yet what it leases.
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    const { quoted } = this.#database;
    if (this.#successor === undefined) {
      const [row] = await this.#database.query({ text: `SELECT nextval('${quoted}.counter')` });
      this.#successor = row?.[0] as number;
    }
    await this.#database.call("renew_session", [
      this.#time.moment,
      this.#n,
      this.#successor,
      [...this.#held.keys()],
      [...this.#held.values()],
    ]);
    this.#n = this.#successor;
    this.#successor = undefined;
    this.#doubtful = false;
  }
}

/** Whether the server may have done what it was asked to, though it did not say so. */
function isUncertain(error: unknown): boolean {
  return (
    error instanceof TrueupError && error.code === "STORE_FAILED" && isBroken((error as TrueupError).cause)
  );
}
