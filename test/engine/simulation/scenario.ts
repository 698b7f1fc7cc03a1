import type { Faults } from "trueup/testing";
import { Dice } from "./dice.ts";

/** What one run is like. The seed decides all of it. */
export interface Scenario {
  readonly seed: number;
  readonly store: "sqlite" | "keyv" | "shared";
  /** How many processes work at once: several, where the store is shared. */
  readonly workers: number;
  /** How long a call of the store takes to get there, at most, and as long back. */
  readonly storeLatencyMs: number;
  /** How many accounts of the provider there are, a connection each. */
  readonly accounts: number;
  /** The provider's feed of events is polled as well. */
  readonly polls: boolean;
  /** Webhooks come through a broker, which every process consumes. */
  readonly queue: boolean;
  /** Whether handlers write in the transaction that settles their work. */
  readonly commits: boolean;
  readonly batches: boolean;
  readonly listItems: "full" | "summary";
  readonly fetchMany: boolean;
  readonly incremental: boolean;
  readonly coalesceMs: number;
  readonly versions: "number" | "instant" | "none";
  /** Whether events have hint and version, or only the object's id. */
  readonly hinted: boolean;
  readonly schedules: boolean;
  /** How often, where there are schedules. */
  readonly every: { readonly incremental: string; readonly full: string };
  /** Works in slices (`tick`) rather than all the time. */
  readonly ticks: boolean;
  /** A second process that only receives. */
  readonly receiver: boolean;
  readonly concurrency: number;
  readonly pageSize: number;
  /** The adapter keeps to the provider's rate limit. */
  readonly rateLimit: { readonly requests: number; readonly perMs: number } | undefined;
  readonly objects: number;
  readonly steps: number;
  readonly faults: Partial<Faults>;
  readonly latencyMs: number;
  readonly clockSkewMs: number;
  /** How often somebody sets our clock on the wall, and by how much. */
  readonly clockTurns: { readonly chance: number; readonly byMs: readonly number[] };
  readonly webhookRetryDelaysMs: readonly number[];
  /** Changes that move no version. */
  readonly lies: number;
  readonly quietChanges: number;
  /** How likely a crossing of a boundary is a crash. */
  readonly crash: number;
  readonly crashAfterAnswer: number;
  readonly stalls: number;
  readonly storeFailure: number;
  readonly handlerFailure: number;
  /** How long events and their ids are kept. */
  readonly eventTtlMs: number;
  /** How often an event says only that something of the resource changed. */
  readonly wholeResource: number;
  /** What an operator does now and then, beside what every run has. */
  readonly calls: Calls;
  /** `"safety"`: faults never end, and only what must never happen is checked. */
  readonly budget: "liveness" | "safety";
}

/** How likely each is at a step. */
export interface Calls {
  /** The index is told what the copy holds. */
  readonly adopt: number;
  readonly forget: number;
  /** Passes that hand over everything. */
  readonly all: number;
  /** Passes that hand over nothing. */
  readonly none: number;
  /** Incremental passes that are told where to begin. */
  readonly since: number;
  readonly discard: number;
  /** A process that works in slices starts amid one. */
  readonly start: number;
}

export const NO_CALLS: Calls = { adopt: 0, forget: 0, all: 0, none: 0, since: 0, discard: 0, start: 0 };

/** By dice of their own, so that a run without them is what it was before there were any. */
function callsOf(seed: number): Calls {
  const dice = new Dice(seed, "calls");
  if (dice.chance(0.4)) return NO_CALLS;
  return {
    adopt: dice.probability(0.5, 0.15),
    forget: dice.probability(0.5, 0.1),
    all: dice.probability(0.5, 0.15),
    none: dice.probability(0.5, 0.15),
    since: dice.probability(0.5, 0.2),
    discard: dice.probability(0.5, 0.15),
    start: dice.probability(0.5, 0.1),
  };
}

export function scenarioOf(seed: number): Scenario {
  const dice = new Dice(seed, "scenario");
  const store = storeOf(dice.random());
  const versions = dice.pick(["number", "number", "instant", "none"] as const);
  const calmProvider = dice.chance(0.2);
  const rough = (off: number, most: number) => (calmProvider ? 0 : dice.probability(off, most));
  // Where nothing tells an old state from a new one, an API that shows old ones cannot be seen through.
  const mayLag = versions !== "none";
  const lag = mayLag ? rough(0.4, 1) : 0;
  const staleRead = mayLag ? rough(0.7, 0.1) : 0;
  const listItems = dice.chance(0.7) ? "full" : "summary";
  const ticks = dice.chance(0.15);
  const drawn: Scenario = {
    seed,
    store,
    commits: store !== "keyv" && dice.chance(0.65),
    batches: dice.chance(0.3),
    listItems,
    fetchMany: dice.chance(0.35),
    incremental: dice.chance(0.8),
    coalesceMs: dice.chance(0.2) ? 2_000 : 0,
    versions,
    hinted: dice.chance(0.75),
    schedules: dice.chance(0.5),
    every: { incremental: "45s", full: "4m" },
    ticks,
    receiver: store !== "keyv" && dice.chance(0.3),
    concurrency: dice.pick([1, 2, 8, 32]),
    pageSize: dice.between(1, 5),
    rateLimit: dice.chance(0.15) ? { requests: dice.between(2, 6), perMs: 1_000 } : undefined,
    objects: dice.between(2, 6),
    steps: dice.between(8, 30),
    faults: {
      dropWebhook: rough(0.4, 0.5),
      duplicateWebhook: rough(0.4, 0.5),
      reorderWebhook: rough(0.5, 0.4),
      delayWebhook: rough(0.4, 0.6),
      webhookDelayMs: dice.pick([500, 5_000, 60_000]),
      lag,
      lagMs: dice.pick([300, 3_000, 10_000]),
      staleRead,
      rateLimit: rough(0.7, 0.05),
      rateLimitMs: dice.pick([2_000, 20_000]),
      serverError: rough(0.6, 0.2),
      reset: rough(0.7, 0.15),
      hang: rough(0.8, 0.05),
      outage: rough(0.8, 0.03),
      outageMs: dice.pick([3_000, 60_000]),
      truncatedBody: rough(0.8, 0.1),
      repeatedCursor: rough(0.8, 0.3),
      expiredCursor: rough(0.8, 0.3),
      ignoredFilter: rough(0.8, 0.5),
      missingRows: rough(0.7, 0.2),
    },
    latencyMs: dice.pick([0, 20, 500]),
    clockSkewMs: calmProvider ? 0 : dice.pick([0, 0, 0, -90_000, 90_000]),
    clockTurns: { chance: 0.03, byMs: [-3_600_000, 3_600_000, -5_000, 5_000] },
    webhookRetryDelaysMs: dice.pick([[], [1_000], [500, 5_000, 30_000]]),
    // A summary that says nothing new, and lies, cannot be seen through either.
    lies:
      lag === 0 && staleRead === 0 && (listItems === "full" || versions === "none")
        ? dice.probability(0.6, 0.3)
        : 0,
    quietChanges: dice.probability(0.5, 0.3),
    crash: dice.probability(0.3, 0.03),
    crashAfterAnswer: dice.probability(0.6, 0.2),
    stalls: store !== "keyv" ? dice.probability(0.6, 0.15) : 0,
    storeFailure: dice.probability(0.8, 0.03),
    handlerFailure: dice.probability(0.5, 0.25),
    eventTtlMs: dice.chance(0.15) ? 20_000 : WEEK_MS,
    wholeResource: dice.probability(0.7, 0.1),
    budget: dice.chance(0.12) ? "safety" : "liveness",
    workers: store === "shared" ? dice.between(2, 4) : 1,
    storeLatencyMs: store === "shared" ? dice.pick([0, 0, 10, 200]) : 0,
    queue: !ticks && dice.chance(0.25),
    polls: !ticks && dice.chance(0.25),
    accounts: dice.chance(0.2) ? 2 : 1,
    calls: callsOf(seed),
  };
  // Before a store that keeps nothing, an ack waits for the handling: repeats have to be known for as long as that takes.
  return drawn.queue && store === "keyv" ? { ...drawn, eventTtlMs: WEEK_MS } : drawn;
}

const WEEK_MS = 7 * 86_400_000;

function storeOf(roll: number): Scenario["store"] {
  if (roll < 0.4) return "sqlite";
  return roll < 0.7 ? "keyv" : "shared";
}
