/**
 * Where messages wait that a broker sends on its own account, until the consumer takes them.
 *
 * @module
 */

export class Mailbox<Message> {
  readonly #waiting: Message[] = [];
  #changed = Promise.withResolvers<void>();
  #failure: Error | undefined;

  get size(): number {
    return this.#waiting.length;
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  put(message: Message): void {
    this.#waiting.push(message);
    this.wake();
  }

  /** Nothing more will come. Whoever takes hears of it once what is there is taken; the first failure counts. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.wake();
  }

  /**
   * Up to `limit` messages, as soon as there is one; none when the signal aborts first.
   * @throws what {@link fail} was told
   */
  async take(limit: number, signal: AbortSignal): Promise<readonly Message[]> {
    while (this.#waiting.length === 0) {
      if (signal.aborted) return [];
      if (this.#failure !== undefined) throw this.#failure;
      await this.changed(signal);
    }
    const taken = this.#waiting.splice(0, limit);
    this.wake();
    return taken;
  }

  /** All that is there, at once. */
  empty(): Message[] {
    const taken = this.#waiting.splice(0);
    this.wake();
    return taken;
  }

  /** Waits for the next {@link wake}: something was put, taken or failed. Or until the signal aborts. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const aborted = Promise.withResolvers<void>();
    const onAbort = () => aborted.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    await Promise.race([this.#changed.promise, aborted.promise]);
    signal.removeEventListener("abort", onAbort);
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
