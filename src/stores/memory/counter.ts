/**
 * The store's counter.
 *
 * @module
 */

import type { Write } from "./journal.ts";

/** How far ahead the counter is reserved: a write of its own once in so many steps, and a gap after a restart. */
const RESERVED = 100_000;

/** What Keyv knows of the store as a whole. */
export interface Meta {
  readonly format: number;
  /** No number up to this one is given again. */
  readonly counter: number;
}

export const FORMAT = 1;
export const META_KEY = "m";

/** The store's logical clock. It is reserved in Keyv ahead of its use, so that no crash ever turns it back. */
export class Counter {
  #value: number;
  #reserved: number;

  /** @param meta What Keyv holds. The first write has to be that of {@link reservation}. */
  constructor(meta: Meta | undefined) {
    this.#value = meta?.counter ?? 0;
    this.#reserved = this.#value;
  }

  /** The present value, as far as it is certain to survive. */
  get value(): number {
    return Math.min(this.#value, this.#reserved);
  }

  next(): number {
    this.#value += 1;
    return this.#value;
  }

  /** What must be written before the present value may be shown to anybody. */
  reservation(): Write | undefined {
    if (this.#value < this.#reserved) return undefined;
    const value: Meta = { format: FORMAT, counter: this.#value + RESERVED };
    const before: Meta = { format: FORMAT, counter: this.#reserved };
    return { key: META_KEY, value, before };
  }

  /** The reservation was written. */
  reserved(write: Write): void {
    this.#reserved = (write.value as Meta).counter;
  }
}
