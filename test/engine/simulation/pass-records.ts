import type { Claim, Lock, Lookup, PageRecord } from "trueup";

/**
 * I6, seen at the store's boundary: when a page is answered for, its checkpoint has moved on, so all that differed on it
 * must be recorded as work by then; and nobody moves it on whose lock another has taken. I4: nothing is leased from it of
 * which something newer is known than it can show.
 */
export class PassRecords {
  readonly #newest = new Map<string, number>();
  readonly #isRecorded: (id: string, evidence: number) => boolean;
  readonly #violated: (invariant: string, what: string) => void;

  /** @param isRecorded whether the index was told by no handling what it says as of then: no touch tells a store of that */
  constructor(
    isRecorded: (id: string, evidence: number) => boolean,
    violated: (invariant: string, what: string) => void,
  ) {
    this.#isRecorded = isRecorded;
    this.#violated = violated;
  }

  locked({ fence, name }: Lock): void {
    this.#newest.set(name, Math.max(fence, this.#newest.get(name) ?? 0));
  }

  /**
   * @param claims what was leased from the page
   * @param found what the store knows of `page.differing` after it was recorded; `undefined`: it may have been told to
   *   forget them meanwhile
   */
  recorded(
    { differing, lock, mark, pass, scope, seen }: PageRecord,
    claims: readonly Claim[],
    found: readonly (Lookup | undefined)[] | undefined,
  ): void {
    // What the whole list has not shown is fetched under its lease: nothing of it is as old as the page.
    const showsNone = (id: string) => pass.endsWith(":full") && !seen.includes(id);
    for (const { index, ref } of claims) {
      if (index === undefined || index.evidence <= mark || showsNone(ref.id)) continue;
      if (this.#isRecorded(ref.id, index.evidence)) continue; // what is handed over of it is looked at then
      this.#violated("I4", `${ref.id} was leased from a page of ${mark}, with evidence of ${index.evidence}`);
    }
    const newest = this.#newest.get(lock.name) ?? 0;
    if (newest > lock.fence)
      this.#violated(
        "I6",
        `a page of ${scope.resource} was taken under the lock of ${lock.fence}, after ${newest}`,
      );
    if (found === undefined) return;
    for (const [i, id] of differing.entries()) {
      const known = found[i];
      // What was touched since the page was asked for may be done again already.
      if (known?.pending === true || (known?.touched ?? 0) > mark) continue;
      this.#violated("I6", `the checkpoint is past ${id}, which differs, and nobody has it to do`);
    }
  }
}
