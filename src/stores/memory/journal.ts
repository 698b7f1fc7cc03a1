/**
 * The way to Keyv and back: writes in an order that a crash may break off anywhere, and errors that Keyv would rather
 * not mention.
 *
 * @module
 */

import type { Keyv } from "keyv";
import { TrueupError } from "../../core/errors.ts";

/** One key of Keyv with its new value. */
export interface Write {
  readonly key: string;
  /** JSON; `undefined` deletes. */
  readonly value: unknown;
  /** What is there now, to go back to. */
  readonly before: unknown;
  /** Milliseconds until Keyv may drop it by itself; absent: never. */
  readonly ttlMs?: number;
}

/** Most keys handed to one call of Keyv: adapters make a request, or a statement, of each. */
const BATCH_KEYS = 500;

/**
 * Writes batches of keys to a Keyv, phase by phase: a phase begins when the one before has been written whole.
 *
 * Keyv has no transactions, so a batch that fails may have been written in part. What it touched is then *in doubt*,
 * and is set back, latest phase first, before anything else is written; until that succeeds every write rejects. So
 * Keyv holds either what memory holds, or the leftovers of the one batch that failed last.
 */
export class Journal {
  readonly #keyv: Keyv;
  readonly #prefix: string;
  #inDoubt: Write[][] = [];

  /** @param prefix What the keys begin with that belong to this journal. */
  constructor(keyv: Keyv, prefix: string) {
    this.#keyv = keyv;
    this.#prefix = prefix;
  }

  /** @throws TrueupError `STORE_FAILED`: the batch counts as not written. */
  async write(phases: readonly (readonly Write[])[]): Promise<void> {
    await this.setBack();
    const begun: Write[][] = [];
    try {
      for (const phase of phases) {
        begun.push([...phase]);
        await this.#put(phase);
      }
    } catch (cause) {
      this.#inDoubt = begun.toReversed().map((phase) => phase.map(reversed));
      throw storeFailed("written", cause);
    }
  }

  /** Undoes what a failed batch left behind, if any did. */
  async setBack(): Promise<void> {
    try {
      for (let phase = this.#inDoubt[0]; phase !== undefined; phase = this.#inDoubt[0]) {
        await this.#put(phase);
        this.#inDoubt.shift();
      }
    } catch (cause) {
      throw storeFailed("written", cause);
    }
  }

  /** One value, by its key without the prefix. */
  async read(key: string): Promise<unknown> {
    try {
      return await this.#heard(() => this.#keyv.get<unknown>(this.#prefix + key));
    } catch (cause) {
      throw storeFailed("read", cause);
    }
  }

  /** All that is stored under the prefix, which is stripped, in any order. Nothing where Keyv cannot iterate. */
  async readAll(): Promise<Map<string, unknown>> {
    const found = new Map<string, unknown>();
    if (typeof this.#keyv.iterator !== "function") return found;
    try {
      await this.#heard(async () => {
        for await (const [key, value] of this.#keyv.iterator()) {
          if (typeof key !== "string" || !key.startsWith(this.#prefix)) continue;
          if (value === undefined) throw new Error(`the value of "${key}" cannot be decoded`);
          found.set(key.slice(this.#prefix.length), value);
        }
      });
    } catch (cause) {
      throw storeFailed("read", cause);
    }
    return found;
  }

  async #put(writes: readonly Write[]): Promise<void> {
    const sets = writes.filter((write) => write.value !== undefined);
    const deletes = writes.filter((write) => write.value === undefined);
    for (let at = 0; at < sets.length; at += BATCH_KEYS) await this.#set(sets.slice(at, at + BATCH_KEYS));
    for (let at = 0; at < deletes.length; at += BATCH_KEYS) {
      const keys = deletes.slice(at, at + BATCH_KEYS).map((write) => this.#prefix + write.key);
      // What it returns does not tell a key that was not there from one that could not be deleted; an error does.
      await this.#heard(() => this.#keyv.deleteMany(keys));
    }
  }

  async #set(writes: readonly Write[]): Promise<void> {
    const entries = writes.map((write) => ({
      key: this.#prefix + write.key,
      value: write.value,
      // 0 is "for ever", whatever default the Keyv was made with.
      ttl: write.ttlMs === undefined ? 0 : Math.max(1, write.ttlMs),
    }));
    const results = await this.#heard(() => this.#keyv.setMany(entries));
    const failed = entries.findIndex((_, i) => results[i] === false);
    if (failed >= 0) throw new Error(`Keyv did not set "${entries[failed]?.key ?? ""}"`);
  }

  /**
   * Calls Keyv and rejects if an error came up. Without a listener for `error` Keyv rejects by itself. With one (and a
   * Keyv over a network should have one) it tells the listener and resolves as if nothing had happened; then we listen
   * too. An error of somebody else's call at the same time is taken for ours: that costs a retry, and loses nothing.
   */
  async #heard<T>(call: () => Promise<T>): Promise<T> {
    const keyv = this.#keyv;
    const isTold = keyv.listenerCount("error") > 0 || !keyv.throwOnEmptyListeners;
    if (!isTold) return await call();
    const errors: unknown[] = [];
    const listen = (error: unknown) => void errors.push(error);
    keyv.on("error", listen);
    try {
      const result = await call();
      if (errors.length > 0) throw errors[0];
      return result;
    } finally {
      keyv.off("error", listen);
    }
  }
}

function reversed(write: Write): Write {
  const { key, value, before } = write;
  return { key, value: before, before: value };
}

function storeFailed(how: "read" | "written", cause: unknown): TrueupError<"STORE_FAILED"> {
  return new TrueupError("STORE_FAILED", `the Keyv cannot be ${how}: ${String(cause)}`, { cause });
}
