import type { Life } from "./life.ts";

interface Forgetting {
  readonly began: number;
  ended: number | undefined;
  /** The store's counter before it; and after it, once that is known. */
  readonly bounds: number[];
}

/**
 * When connections were forgotten. All that the account holds an engine to is about what came after; what was under way
 * meanwhile may be on either side.
 */
export class Forgettings {
  readonly #of = new Map<string, Forgetting[]>();
  /** Other fences after which nothing is known of an object any more. */
  readonly #lost = new Map<string, number[]>();
  readonly #step: () => number;

  /** @param step the number of what happens now */
  constructor(step: () => number) {
    this.#step = step;
  }

  /** @returns what ends it, with the counter as it is then */
  begin(connection: string, life: Life, counter: number): (counter: number) => void {
    const forgetting: Forgetting = { began: this.#step(), ended: undefined, bounds: [counter] };
    this.#of.set(connection, [...(this.#of.get(connection) ?? []), forgetting]);
    const end = () => (forgetting.ended ??= this.#step());
    // What it had not done by then it never does.
    life.death.catch(end);
    return (after) => {
      forgetting.bounds.push(after);
      end();
    };
  }

  /** The store was told to forget what it had of an object beyond its being there. */
  lost(id: string, fence: number): void {
    this.#lost.set(id, [...(this.#lost.get(id) ?? []), fence]);
  }

  ever(connection: string): boolean {
    return this.#of.has(connection);
  }

  /** The store's counter right before a connection was last forgotten. */
  lastOf(connection: string): number {
    return this.#of.get(connection)?.at(-1)?.bounds[0] ?? 0;
  }

  /** Whether one is being forgotten. */
  underWay(connection: string): boolean {
    return (this.#of.get(connection) ?? []).some(({ ended }) => ended === undefined);
  }

  /** Whether a connection was forgotten, or may have been, since a step. */
  since(connection: string, step: number): boolean {
    return (this.#of.get(connection) ?? []).some(({ ended = Infinity }) => ended > step);
  }

  /** In which of an object's lives a claim was made. */
  lifeOf(connection: string, id: string, fence: number): number {
    const bounds = (this.#of.get(connection) ?? []).flatMap((one) => one.bounds);
    return [...bounds, ...(this.#lost.get(id) ?? [])].filter((bound) => bound < fence).length;
  }
}
