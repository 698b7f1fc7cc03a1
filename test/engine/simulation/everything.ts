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

/** A call of one who asks for such a pass. */
interface Call {
  /** @returns what the pass has left out that came to its end with it */
  completed(resumed: boolean): readonly string[];
  /** It is over, whatever came of it. */
  over(): void;
}

/** A page that such a pass has listed, and will list again unless it moves on. */
interface Listed {
  readonly fence: number;
  readonly mark: number;
  readonly ids: readonly string[];
}

/** I2: what a pass that hands over everything has listed is handed over, whatever it is and whoever has it in work. */
export class Everything {
  /** Objects that have to be handed over yet, under a fence beyond this one. */
  readonly #owed = new Map<string, number>();
  /** Under which fence each was last handed over. */
  readonly #handled = new Map<string, number>();
  /** When such a pass last recorded each. */
  readonly #recorded = new Map<string, number>();
  /** Calls that a pass under way may be of, by connection: whoever resumes goes on from the first at the earliest. */
  readonly #calls = new Map<string, { readonly asked: Asked; isOver: boolean }[]>();
  /** By pass. */
  readonly #listed = new Map<string, Listed>();

  asked(connection: string, asked: Asked): Call {
    const own = { asked, isOver: false };
    this.#calls.set(connection, [...(this.#calls.get(connection) ?? []), own]);
    return {
      completed: (resumed) => {
        const calls = this.#calls.get(connection) ?? [own];
        // Of those that go on beside it, any may have a pass of its own yet.
        this.#calls.set(
          connection,
          calls.filter((call) => call !== own && !call.isOver),
        );
        const { step, stillThere } = resumed ? (calls[0] ?? own).asked : asked;
        return stillThere().filter((id) => (this.#recorded.get(id) ?? -1) < step);
      },
      over: () => (own.isOver = true),
    };
  }

  /**
   * A page of such a pass; or, with no rows, that it moves on from the one before, whose objects are to be handed over now.
   *
   * @param isDead what is dead is left so
   * @param wasDeleted what an incremental page has told of may be that only
   */
  recorded(
    page: PageRecord,
    step: number,
    { isDead, wasDeleted }: Readonly<Record<"isDead" | "wasDeleted", (id: string) => boolean>>,
  ): void {
    const { lock, mark, pass } = page;
    const ids = pass.endsWith(":full") ? page.seen : page.differing.filter((id) => !wasDeleted(id));
    for (const id of ids) this.#recorded.set(id, step);
    if (ids.length > 0) {
      this.#listed.set(pass, { fence: lock.fence, mark, ids: ids.filter((id) => !isDead(id)) });
      return;
    }
    const listed = this.#listed.get(pass);
    this.#listed.delete(pass);
    if (listed?.fence !== lock.fence) return;
    for (const id of listed.ids)
      if ((this.#handled.get(id) ?? 0) <= listed.mark) this.#owed.set(id, listed.mark);
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
