/** The dedupe keys of one append. They came together and expire together. */
export interface LedgerBlock {
  /** A value of the counter: later blocks have higher numbers. */
  readonly number: number;
  /** Milliseconds since the epoch. */
  readonly expires: number;
  /** Hexadecimal. */
  readonly keys: readonly string[];
}

/**
 * The keys of events that were seen. Blocks are kept in the order in which they came, which is the order in which they
 * expire, so that sweeping looks at nothing that stays.
 */
export class Ledger {
  readonly #keys = new Set<string>();
  #blocks: LedgerBlock[] = [];
  #swept = 0;

  /** How many keys are kept. */
  get size(): number {
    return this.#keys.size;
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  add(block: LedgerBlock): void {
    this.#blocks.push(block);
    for (const key of block.keys) this.#keys.add(key);
  }

  /** The oldest blocks whose time is up: at least one, and then as many as hold `maxKeys` keys. */
  expired(now: number, maxKeys: number): LedgerBlock[] {
    const found: LedgerBlock[] = [];
    let keys = 0;
    for (let i = this.#swept; i < this.#blocks.length && keys < maxKeys; i += 1) {
      const block = this.#blocks[i] as LedgerBlock;
      if (block.expires > now) break;
      found.push(block);
      keys += block.keys.length;
    }
    return found;
  }

  /** Forgets the oldest blocks. */
  drop(count: number): void {
    for (let dropped = 0; dropped < count; dropped += 1) {
      for (const key of this.#blocks[this.#swept]?.keys ?? []) this.#keys.delete(key);
      this.#swept += 1;
    }
    if (this.#swept * 2 > this.#blocks.length) {
      this.#blocks = this.#blocks.slice(this.#swept);
      this.#swept = 0;
    }
  }
}
