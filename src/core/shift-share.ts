/**
 * Who shares a shift: `start`, `reconcile`, `verify` and `tick` hold one together. It begins with the first of them and
 * ends with the last.
 *
 * @module
 */

import type { Shift } from "./shift.ts";

export class ShiftShare {
  readonly #begin: () => Promise<Shift>;
  #shift: Promise<Shift> | undefined;
  #ending: Promise<void> = Promise.resolve();
  #holders = 0;
  #allLeft: PromiseWithResolvers<void> | undefined;

  /** @param begin takes the right to work; rejects where another process has it */
  constructor(begin: () => Promise<Shift>) {
    this.#begin = begin;
  }

  /** The shift that is held now, or `undefined`; also where it could not begin. */
  async current(): Promise<Shift | undefined> {
    return this.#shift?.catch(() => undefined);
  }

  /** @throws what the beginning of a shift throws */
  async join(): Promise<Shift> {
    this.#holders += 1;
    try {
      for (;;) {
        this.#shift ??= this.#beginNext();
        const shift = await this.#shift;
        if (shift.over) continue; // its last holder left in this very moment
        shift.holders += 1;
        return shift;
      }
    } catch (error) {
      this.#left();
      throw error;
    }
  }

  async leave(shift: Shift): Promise<void> {
    shift.holders -= 1;
    if (shift.holders === 0) {
      if (!shift.ended.signal.aborted) this.#shift = undefined;
      this.#ending = shift.end();
      await this.#ending;
    }
    this.#left();
  }

  /** Resolves when nobody holds a shift, nor waits for one. */
  async allLeft(): Promise<void> {
    if (this.#holders === 0) return;
    this.#allLeft ??= Promise.withResolvers();
    await this.#allLeft.promise;
  }

  async #beginNext(): Promise<Shift> {
    await this.#ending; // the one before gives the store back first
    try {
      const shift = await this.#begin();
      // Nobody joins a shift that is over; its holders leave by themselves.
      shift.ended.signal.addEventListener("abort", () => (this.#shift = undefined), { once: true });
      return shift;
    } catch (error) {
      this.#shift = undefined;
      throw error;
    }
  }

  #left(): void {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    this.#allLeft?.resolve();
    this.#allLeft = undefined;
  }
}
