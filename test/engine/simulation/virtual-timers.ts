import type { Clock } from "trueup";

interface VirtualTimer {
  readonly cancel: () => void;
  ref(): VirtualTimer;
  unref(): VirtualTimer;
}

/**
 * Bottleneck sets timers of its own, of no time at all: while a simulation runs, those are on its clock too, so that
 * nothing depends on real time.
 *
 * @returns puts the real ones back
 */
export function virtualTimers(clock: Clock): () => void {
  const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  const setTimer = (
    callback: (...args: unknown[]) => void,
    delayMs = 0,
    ...args: unknown[]
  ): VirtualTimer => {
    const cancel = clock.setTimer(() => callback(...args), delayMs);
    const timer: VirtualTimer = { cancel, ref: () => timer, unref: () => timer };
    return timer;
  };
  const clearTimer = (timer: unknown): void => {
    const { cancel } = (timer ?? {}) as Partial<VirtualTimer>;
    if (cancel === undefined) real.clearTimeout(timer as NodeJS.Timeout);
    else cancel();
  };
  Object.assign(globalThis, { setTimeout: setTimer, clearTimeout: clearTimer });
  return () => void Object.assign(globalThis, real);
}
