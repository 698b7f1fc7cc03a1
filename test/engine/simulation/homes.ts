import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Keyv, keyvStorageCapability, type KeyvStorageCapability, type KeyvStorageEntry } from "keyv";
import { keyvStore, type Store } from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import type { Life } from "./life.ts";

/** What survives the processes: the store's data. A store kept on other servers joins the simulation with one of these. */
export interface Home {
  /** A store over the data, for one process. */
  open(life: Life): Store<unknown>;
  /** What the operating system does when a process has died: closes its files. */
  bury(life: Life): Promise<void>;
  dispose(): Promise<void>;
  /** The user's rows, where they live beside the store's: what was written, in order. */
  rows?(): readonly CopyRow[];
  /** Writes one, in a commit's transaction. */
  write?(tx: unknown, row: CopyRow): void;
}

/** A state as a handler writes it; `null`: the object is gone. */
export interface CopyRow {
  readonly id: string;
  readonly state: string | null;
  readonly regressed: number;
  readonly fence: number;
}

/** A file system in memory where there is one: a simulated power failure is not what is looked for here. */
const ROOT = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

const COPY_TABLE = `CREATE TABLE IF NOT EXISTS copy_log
  (at INTEGER PRIMARY KEY, id TEXT NOT NULL, state TEXT, regressed INTEGER NOT NULL, fence INTEGER NOT NULL)`;

export function sqliteHome(): Home {
  const folder = mkdtempSync(join(ROOT, "trueup-simulation-"));
  const path = join(folder, "sync.db");
  const open = new Map<Life, Store<unknown>>();
  return {
    open(life) {
      const store = sqliteStore({ path }) as Store<unknown>;
      open.set(life, store);
      return store;
    },
    async bury(life) {
      await open.get(life)?.close();
      open.delete(life);
    },
    async dispose() {
      for (const store of open.values()) await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
    write(tx, { fence, id, regressed, state }) {
      const own = tx as SqliteTx;
      own.run(COPY_TABLE);
      const insert = "INSERT INTO copy_log (id, state, regressed, fence) VALUES (?, ?, ?, ?)";
      own.run(insert, id, state, regressed, fence);
    },
    rows() {
      if (!existsSync(path)) return []; // the only worker stood still all the time
      const db = new DatabaseSync(path, { readOnly: true });
      try {
        const found = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'copy_log'").get();
        if (found === undefined) return [];
        return db.prepare("SELECT id, state, regressed, fence FROM copy_log ORDER BY at").all() as never;
      } finally {
        db.close();
      }
    },
  };
}

/** A Keyv over a Map that outlives its processes. Batches are written key by key, and can break off between any two. */
export function keyvHome(): Home {
  const map = new Map<string, unknown>();
  return {
    open: (life) => keyvStore(new Keyv({ store: new MortalAdapter(map, life) })),
    bury: async () => {},
    dispose: async () => {},
  };
}

class MortalAdapter {
  readonly #map: Map<string, unknown>;
  readonly #life: Life;

  constructor(map: Map<string, unknown>, life: Life) {
    this.#map = map;
    this.#life = life;
  }

  get capabilities(): KeyvStorageCapability {
    return keyvStorageCapability(this);
  }

  async get<T>(key: string): Promise<T | undefined> {
    return this.#map.get(key) as T | undefined;
  }

  async set(key: string, value: unknown): Promise<boolean> {
    await this.#life.cross("keyv set");
    if (this.#life.fails("keyv set")) throw new Error("the simulated Keyv had a bad day");
    this.#map.set(key, value);
    return true;
  }

  async setMany<T>(entries: KeyvStorageEntry<T>[]): Promise<boolean[]> {
    for (const { key, value } of entries) await this.set(key, value);
    return entries.map(() => true);
  }

  async delete(key: string): Promise<boolean> {
    await this.#life.cross("keyv delete");
    if (this.#life.fails("keyv delete")) throw new Error("the simulated Keyv had a bad day");
    return this.#map.delete(key);
  }

  async deleteMany(keys: string[]): Promise<boolean[]> {
    const existed: boolean[] = [];
    for (const key of keys) existed.push(await this.delete(key));
    return existed;
  }

  async has(key: string): Promise<boolean> {
    return this.#map.has(key);
  }

  async hasMany(keys: string[]): Promise<boolean[]> {
    return keys.map((key) => this.#map.has(key));
  }

  async getMany<T>(keys: string[]): Promise<(T | undefined)[]> {
    return keys.map((key) => this.#map.get(key) as T | undefined);
  }

  async clear(): Promise<void> {
    this.#map.clear();
  }

  async *iterator<T>(): AsyncGenerator<[string, T], void> {
    for (const [key, value] of this.#map) yield [key, value as T];
  }
}
