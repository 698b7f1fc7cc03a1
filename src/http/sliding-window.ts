/**
 * At most so many starts in any window of time: the arithmetic, without timers.
 *
 * @module
 */

/** One start under a {@link SlidingWindow}. */
export interface Start {
  /** By when the provider must have seen it, on the clock that the window is asked with. */
  seenBy: number;
  state: "waiting" | "left" | "returned";
  next: Start | undefined;
}

/** Permits come back a little closer together than the rate says, so that a delay can be made up for. */
const SPACING = 0.75;
/** A start whose answer is late is taken to have been seen after this share of the window, */
const LATE_SHARE = 0.05;
/** but after this at most. */
const LATE_MS = 1_000;

/**
 * A permit that is used comes back one window after the provider has seen the request, so that no window there holds
 * more than `requests`, wherever it begins. The answer proves that the request was seen: waiting for it, but not long,
 * makes the bound hold under delays on the way while it costs a few per cent of the rate at most.
 *
 * After a burst the permits come back spaced out instead of as the next burst: the rate is the same, and a provider that
 * counts a little differently has less to object to.
 */
export class SlidingWindow {
  readonly #windowMs: number;
  readonly #spacingMs: number;
  readonly #lateMs: number;
  /** Starts whose permits are out, oldest first. */
  #oldest: Start | undefined;
  #newest: Start | undefined;
  #lastReturn = Number.NEGATIVE_INFINITY;

  constructor(requests: number, windowMs: number) {
    this.#windowMs = windowMs;
    this.#spacingMs = (windowMs / requests) * SPACING;
    this.#lateMs = Math.min(windowMs * LATE_SHARE, LATE_MS);
  }

  start(now: number): Start {
    const start: Start = { seenBy: now + this.#lateMs, state: "waiting", next: undefined };
    if (this.#newest === undefined) this.#oldest = start;
    else this.#newest.next = start;
    this.#newest = start;
    return start;
  }

  /**
   * The request is about to leave: what it has waited for since its start, a connection say, is time that the provider
   * knows nothing of.
   * @returns false where its permit is not there for it: it has come back, or let a request leave before
   */
  leave(start: Start, now: number): boolean {
    if (start.state !== "waiting") return false;
    start.state = "left";
    start.seenBy = now + this.#lateMs;
    return true;
  }

  /** The request is answered, or has failed. */
  seen(start: Start, now: number): void {
    start.seenBy = Math.min(start.seenBy, now);
  }

  /** How many permits have come back since this was last asked. */
  returned(now: number): number {
    let count = 0;
    for (let at = this.nextReturn(); at !== undefined && at <= now; at = this.nextReturn()) {
      this.#lastReturn = at;
      if (this.#oldest !== undefined) this.#oldest.state = "returned";
      this.#oldest = this.#oldest?.next;
      count += 1;
    }
    if (this.#oldest === undefined) this.#newest = undefined;
    return count;
  }

  /** When the next permit comes back; `undefined` when none is out. */
  nextReturn(): number | undefined {
    if (this.#oldest === undefined) return undefined;
    return Math.max(this.#oldest.seenBy + this.#windowMs, this.#lastReturn + this.#spacingMs);
  }
}
