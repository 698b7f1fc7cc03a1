import type { Claim, Clock } from "trueup";

/** How long an API that contradicts an event is asked again, where the adapter says nothing else. */
const BELIEVE_AFTER_MS = 30_000;

interface Asked {
  readonly claim: Claim;
  /** When it was first claimed of those times at which the API was asked about the same. */
  readonly since: number;
  readonly sinceWall: number;
}

/** What a handler got, as far as it may contradict an event. `null`: the deletion. */
export type Believed = { readonly id: string; readonly fence: number; readonly version: number | null };

/**
 * I13: what contradicts the events that a claim is about is handed over only after the API was asked again, for as long
 * as freshness has it.
 */
export class FreshnessGuard {
  readonly #asked = new Map<string, Asked>();
  readonly #clock: Clock;
  readonly #violated: (what: string) => void;

  constructor(clock: Clock, violated: (what: string) => void) {
    this.#clock = clock;
    this.#violated = violated;
  }

  claimed(claim: Claim): void {
    const { id } = claim.ref;
    const before = claim.lags === 0 ? undefined : this.#asked.get(id);
    this.#asked.set(id, {
      claim,
      since: before?.since ?? this.#clock.monotonic(),
      sinceWall: before?.sinceWall ?? this.#clock.now(),
    });
  }

  handed(believed: Believed): void {
    const asked = this.#asked.get(believed.id);
    if (asked?.claim.fence !== believed.fence || !contradicts(asked.claim, believed.version)) return;
    // Due dates are of the wall clock, which may have been set forward meanwhile.
    const waitedMs = Math.max(this.#clock.monotonic() - asked.since, this.#clock.now() - asked.sinceWall);
    if (waitedMs >= BELIEVE_AFTER_MS) return;
    const { hint = "no hint", hintVersion = "no version" } = asked.claim;
    const what = believed.version === null ? "a deletion" : `version ${believed.version}`;
    this.#violated(
      `${believed.id}: ${what} was believed after ${waitedMs} ms, against ${hint} ${hintVersion}`,
    );
  }
}

function contradicts({ hint, hintVersion, index }: Claim, version: number | null): boolean {
  const announced = hintVersion?.startsWith("n:") === true ? Number(hintVersion.slice(2)) : undefined;
  // Of an object whose deletion was handed over, an older event may have announced what was before.
  if (version === null) return hint === "upsert" && index?.state !== "gone";
  if (announced === undefined) return false;
  return hint === "delete" ? version <= announced : version < announced;
}
