/**
 * The databases that are open in this process. Each Keyv has one for each prefix, however many stores use it: two
 * states over the same keys would overwrite each other.
 *
 * @module
 */

import type { Keyv } from "keyv";
import type { Database } from "./database.ts";

export interface SharedDatabase {
  readonly database: Database;
  /** Ends this user's share; with the last one the state is dropped, and read again by the next. */
  leave(): void;
}

interface Entry {
  readonly database: Promise<Database>;
  users: number;
}

const entries = new WeakMap<Keyv, Map<string, Entry>>();

/** Joins the database that is open over these keys, or opens it. */
export async function shareDatabase(
  keyv: Keyv,
  prefix: string,
  open: () => Promise<Database>,
): Promise<SharedDatabase> {
  const byPrefix = entries.get(keyv) ?? new Map<string, Entry>();
  entries.set(keyv, byPrefix);
  const entry = byPrefix.get(prefix) ?? { database: open(), users: 0 };
  byPrefix.set(prefix, entry);
  entry.users += 1;
  const leave = () => {
    entry.users -= 1;
    if (entry.users === 0) byPrefix.delete(prefix);
  };
  try {
    return { database: await entry.database, leave };
  } catch (error) {
    leave();
    throw error;
  }
}
