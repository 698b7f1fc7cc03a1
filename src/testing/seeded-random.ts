/**
 * Randomness that is the same in every run with the same seed.
 *
 * @module
 */

import type { Random } from "../core/clock.ts";

/**
 * A generator of numbers in [0, 1), as `Math.random`, that a seed decides (mulberry32). Good enough to play with, and
 * for nothing that has to be secret.
 *
 * @param seed A whole number; its lower 32 bits count.
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
