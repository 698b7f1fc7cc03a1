import type { Life } from "./life.ts";

/** A change that a handler has, and may be writing. */
export interface Handling {
  readonly life: Life;
  readonly id: string;
  readonly fence: number;
  /** Aborts when the engine gives the handler up. */
  readonly signal: AbortSignal;
}

/** I3: no object is handled by two at once that both may write it. */
export class Handlings {
  readonly #underWay = new Set<Handling>();
  readonly #mayWrite: (handling: Handling) => boolean;
  readonly #violated: (what: string) => void;

  /** @param mayWrite whether its lease is live */
  constructor(mayWrite: (handling: Handling) => boolean, violated: (what: string) => void) {
    this.#mayWrite = mayWrite;
    this.#violated = violated;
  }

  /** @returns what ends it */
  begin(handling: Handling): () => void {
    for (const other of this.#underWay) {
      if (other.life.dead) this.#underWay.delete(other);
      else if (other.id === handling.id && this.#canWrite(other) && this.#canWrite(handling))
        this.#violated(`${handling.id} is handled by ${other.life.name} and ${handling.life.name} at once`);
    }
    this.#underWay.add(handling);
    return () => void this.#underWay.delete(handling);
  }

  #canWrite(handling: Handling): boolean {
    return !handling.signal.aborted && this.#mayWrite(handling);
  }
}
