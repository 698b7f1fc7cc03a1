import type { KeyvStorageCapability, KeyvStorageEntry } from "keyv";
import { keyvStorageCapability } from "keyv";

/** How a write of one key fails: before it is made, or after, so that nobody can tell whether it was. */
export type Fault = "not written" | "written and not answered for";

/** A Keyv adapter over a Map that outlives it; batches are written key by key and can break off between any two. */
export class FaultyAdapter {
  /** Keys written or deleted so far. */
  writes = 0;
  readonly map: Map<string, unknown>;
  #failAt = Number.POSITIVE_INFINITY;
  #stayDown = false;
  #fault: Fault = "not written";

  constructor(map: Map<string, unknown> = new Map()) {
    this.map = map;
  }

  get capabilities(): KeyvStorageCapability {
    return keyvStorageCapability(this);
  }

  /** The write after `writes` more fails; `stayDown`: and all after it. */
  failAfter(writes: number, fault: Fault, stayDown: boolean): void {
    this.#failAt = this.writes + writes + 1;
    this.#fault = fault;
    this.#stayDown = stayDown;
  }

  #write(change: () => void): void {
    this.writes += 1;
    const fails = this.#stayDown ? this.writes >= this.#failAt : this.writes === this.#failAt;
    if (!fails || this.#fault === "written and not answered for") change();
    if (fails) throw new Error(`write ${this.writes} failed`);
  }

  async get<T>(key: string): Promise<T | undefined> {
    return this.map.get(key) as T | undefined;
  }

  async set(key: string, value: unknown): Promise<boolean> {
    this.#write(() => this.map.set(key, value));
    return true;
  }

  async setMany<T>(entries: KeyvStorageEntry<T>[]): Promise<boolean[]> {
    for (const { key, value } of entries) await this.set(key, value);
    return entries.map(() => true);
  }

  async delete(key: string): Promise<boolean> {
    const existed = this.map.has(key);
    this.#write(() => this.map.delete(key));
    return existed;
  }

  async deleteMany(keys: string[]): Promise<boolean[]> {
    const existed: boolean[] = [];
    for (const key of keys) existed.push(await this.delete(key));
    return existed;
  }

  async has(key: string): Promise<boolean> {
    return this.map.has(key);
  }

  async hasMany(keys: string[]): Promise<boolean[]> {
    return keys.map((key) => this.map.has(key));
  }

  async getMany<T>(keys: string[]): Promise<(T | undefined)[]> {
    return keys.map((key) => this.map.get(key) as T | undefined);
  }

  async clear(): Promise<void> {
    this.map.clear();
  }

  async *iterator<T>(): AsyncGenerator<[string, T], void> {
    for (const [key, value] of this.map) yield [key, value as T];
  }
}
