/**
 * Collects a body in bounded memory.
 *
 * @module
 */

const FIRST_CAPACITY_BYTES = 16_384;

export const NO_BYTES = new Uint8Array(0);

/**
 * The bytes of a body so far. Keeping the chunks in a list would cost some hundred bytes of heap for each, and a sender
 * may make chunks of one byte; copying them into one buffer that doubles costs at most three times the body's cap.
 * A body that comes in one chunk, as most do, is not copied at all.
 */
export class BodyBuffer {
  readonly #maxBytes: number;
  #bytes: Uint8Array = NO_BYTES;
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the chunk still fits under the cap. One that does not is not kept. */
  add(chunk: Uint8Array): boolean {
    const length = this.#length + chunk.length;
    if (length > this.#maxBytes) return false;
    if (this.#length === 0) {
      this.#bytes = chunk;
    } else {
      // The first chunk is not ours to write behind: it may be a slice of a buffer that others use.
      if (length > this.#bytes.length) this.#grow(length);
      this.#bytes.set(chunk, this.#length);
    }
    this.#length = length;
    return true;
  }

  take(): Uint8Array {
    return this.#length === this.#bytes.length ? this.#bytes : this.#bytes.subarray(0, this.#length);
  }

  #grow(length: number): void {
    const capacity = Math.min(Math.max(2 * length, FIRST_CAPACITY_BYTES), this.#maxBytes);
    const grown = Buffer.allocUnsafeSlow(capacity);
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
