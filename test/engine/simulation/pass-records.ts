import type { Lock, Lookup, PageRecord } from "trueup";

/**
 * I6, seen at the store's boundary: when a page is answered for, its checkpoint has moved on, so all that differed on it
 * must be recorded as work by then; and nobody moves it on whose lock another has taken.
 */
export class PassRecords {
  readonly #newest = new Map<string, number>();
  readonly #violated: (what: string) => void;

  constructor(violated: (what: string) => void) {
    this.#violated = violated;
  }

  locked({ fence, name }: Lock): void {
    this.#newest.set(name, Math.max(fence, this.#newest.get(name) ?? 0));
  }

  /** @param found what the store knows of `page.differing` after the page was recorded */
  recorded({ differing, lock, mark, scope }: PageRecord, found: readonly (Lookup | undefined)[]): void {
    const newest = this.#newest.get(lock.name) ?? 0;
    if (newest > lock.fence)
      this.#violated(
        `a page of ${scope.resource} was taken under the lock of ${lock.fence}, after ${newest}`,
      );
    for (const [i, id] of differing.entries()) {
      const known = found[i];
      // What was touched since the page was asked for may be done again already.
      if (known?.pending === true || (known?.touched ?? 0) > mark) continue;
      this.#violated(`the checkpoint is past ${id}, which differs, and nobody has it to do`);
    }
  }
}
