import { seededRandom } from "trueup/testing";

/** Decisions of one kind, from a stream of their own: what one part rolls does not change what another gets. */
export class Dice {
  readonly random: () => number;

  constructor(seed: number, stream: string) {
    let mixed = seed >>> 0;
    for (const char of stream) mixed = Math.imul(mixed ^ char.charCodeAt(0), 0x01000193) >>> 0;
    this.random = seededRandom(Math.imul(mixed ^ 0x9e3779b9, 0x85ebca6b) >>> 0);
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.random() * (most - least + 1));
  }

  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.random() * items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  /** A probability that is 0 as often as `off` says, and at most `most`. */
  probability(off: number, most: number): number {
    return this.chance(off) ? 0 : this.random() * most;
  }
}
