import type { PageRecord } from "trueup";
import type { PassState } from "../../../src/core/pass.ts";

/** What a pass was told to do, by its checkpoint; `undefined`: it has none. */
export function passOf({ checkpoint }: PageRecord): PassState | undefined {
  return (JSON.parse(checkpoint) as { readonly current?: PassState | null }).current ?? undefined;
}

interface Asked {
  readonly step: number;
  /** Objects that were there then, and have been ever since. */
  readonly stillThere: () => readonly string[];
}

/** I2: what a pass that hands over everything has listed is handed over, whatever it is and whoever has it in work. */
export class Everything {
  /** Objects that have to be handed over yet, under a fence beyond this one. */
  readonly #owed = new Map<string, number>();
  /** Under which fence each was last handed over. */
  readonly #handled = new Map<string, number>();
  /** When such a pass last recorded each. */
  readonly #recorded = new Map<string, number>();
  /** The first call since one came to its end, by connection: whoever resumes goes on from there at the earliest. */
  readonly #asked = new Map<string, Asked>();

  /** @returns what to tell of the call's end, which names what such a pass has left out */
  asked(connection: string, now: Asked): (resumed: boolean) => readonly string[] {
    const first = this.#asked.get(connection) ?? now;
    this.#asked.set(connection, first);
    return (resumed) => {
      this.#asked.delete(connection);
      const { step, stillThere } = resumed ? first : now;
      return stillThere().filter((id) => (this.#recorded.get(id) ?? -1) < step);
    };
  }

  /**
   * A page of such a pass.
   *
   * @param isDead what is dead is left so
   * @param wasDeleted what an incremental page has told of may be that only
   */
  recorded(
    page: PageRecord,
    step: number,
    { isDead, wasDeleted }: Readonly<Record<"isDead" | "wasDeleted", (id: string) => boolean>>,
  ): void {
    const listed = page.pass.endsWith(":full") ? page.seen : page.differing.filter((id) => !wasDeleted(id));
    for (const id of listed) {
      this.#recorded.set(id, step);
      if (!isDead(id) && (this.#handled.get(id) ?? 0) <= page.mark) this.#owed.set(id, page.mark);
    }
  }

  /** An object was handed over, and its work settled. */
  handled(id: string, fence: number): void {
    this.#handled.set(id, fence);
    if (fence > (this.#owed.get(id) ?? Infinity)) this.#owed.delete(id);
  }

  /** Nobody has to hand it over any more. */
  waived(id: string): void {
    this.#owed.delete(id);
  }

  get owed(): readonly string[] {
    return [...this.#owed.keys()];
  }
}
