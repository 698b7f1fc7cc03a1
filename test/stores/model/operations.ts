/** What a run does to a store, as data: so that it can be drawn, printed and shrunk. */
import * as fc from "fast-check";
import { CONNECTIONS, IDS, LOCKS, PASSES, RESOURCES } from "./observe.ts";

/** Which of those that there are is meant, counted from the newest and in turns. */
const pick = fc.nat(7);
const id = fc.nat(IDS.length - 1);
/** Most of it happens in one scope, so that things meet. */
const scope = fc.oneof({ arbitrary: fc.constant(0), weight: 3 }, { arbitrary: fc.nat(3), weight: 1 });
const pass = fc.nat(PASSES.length - 1);
const soon = fc.constantFrom(0, 0, 1_000, 4_000);
const rarely = fc.integer({ min: 0, max: 7 }).map((n) => n === 0);

const entry = fc.record({
  scope,
  id,
  eventId: fc.option(fc.nat(4), { nil: undefined }),
  event: rarely.map((not) => !not),
  hint: fc.option(fc.constantFrom("upsert" as const, "delete" as const), { nil: undefined }),
  version: fc.option(fc.nat(3), { nil: undefined }),
  force: rarely,
  lane: fc.constantFrom("live" as const, "live" as const, "repair" as const),
  origin: fc.constantFrom("webhook" as const, "poll" as const, "trigger" as const),
});

const settlement = fc.record({
  claim: pick,
  how: fc.constantFrom("done" as const, "done" as const, "retry" as const, "dead" as const),
  index: fc.constantFrom("present" as const, "present" as const, "gone" as const, null),
  inMs: soon,
  counted: fc.boolean(),
  lags: fc.nat(2),
  begun: rarely,
  error: fc.boolean(),
});

const filter = fc.record({
  connection: fc.option(fc.nat(CONNECTIONS.length - 1), { nil: undefined }),
  ids: fc.option(fc.array(id, { maxLength: 2 }), { nil: undefined }),
});

const settlements = fc.array(settlement, { minLength: 1, maxLength: 3 });
const of = <Kind extends string, Rest extends object>(kind: Kind, rest: fc.Arbitrary<Rest>) =>
  rest.map((drawn) => ({ kind, ...drawn }));

const append = of(
  "append",
  fc.record({ door: pick, entries: fc.array(entry, { minLength: 1, maxLength: 4 }) }),
);
const claim = of(
  "claim",
  fc.record({
    worker: pick,
    resource: fc.constantFrom(0, 0, 0, 1).map((n) => n % RESOURCES.length),
    limit: fc.integer({ min: 1, max: 5 }),
    except: fc.option(fc.nat(CONNECTIONS.length - 1), { nil: undefined }),
  }),
);
const settle = of("settle", fc.record({ worker: pick, settlements, stale: rarely }));
const commit = of("commit", fc.record({ worker: pick, settlements, fails: rarely }));
const ids = fc.array(id, { maxLength: 3 });
const page = of(
  "page",
  fc.record({
    worker: pick,
    scope,
    pass,
    lock: pick,
    mark: pick,
    differing: ids,
    seen: ids,
    lease: rarely.map((not) => !not),
  }),
);
const mark = of("mark", fc.record({ door: pick, scope }));
const lock = of(
  "lock",
  fc.record({
    door: pick,
    name: fc.nat(LOCKS.length - 1),
    ttlMs: fc.constantFrom(2_000, 30_000),
    held: fc.option(pick, { nil: undefined }),
  }),
);
const unlock = of("unlock", fc.record({ door: pick, lock: pick }));
const endPass = of("endPass", fc.record({ door: pick, scope, pass, lock: pick, keep: fc.boolean() }));
const record = of(
  "record",
  fc.record({
    door: pick,
    scope,
    ids,
    index: fc.constantFrom("present" as const, "gone" as const),
    newest: fc.boolean(),
  }),
);
const pause = of(
  "pause",
  fc.record({
    door: pick,
    connection: fc.nat(CONNECTIONS.length - 1),
    forMs: fc.constantFrom(null, 1_000, 4_000),
  }),
);
const resume = of("resume", fc.record({ door: pick, connection: fc.nat(CONNECTIONS.length - 1) }));
const permits = of(
  "permits",
  fc.record({
    door: pick,
    connection: fc.nat(CONNECTIONS.length - 1),
    perMs: fc.constantFrom(1_000, 1_000, 4_500),
    wanted: fc.integer({ min: 1, max: 6 }),
  }),
);
const retryDead = of("retryDead", fc.record({ door: pick, filter }));
const discardDead = of("discardDead", fc.record({ door: pick, filter }));

/** May run beside others. */
const shareable = fc.oneof(
  { arbitrary: append, weight: 8 },
  { arbitrary: claim, weight: 8 },
  { arbitrary: settle, weight: 7 },
  { arbitrary: commit, weight: 2 },
  { arbitrary: page, weight: 4 },
  { arbitrary: mark, weight: 2 },
  { arbitrary: lock, weight: 2 },
  { arbitrary: unlock, weight: 1 },
  { arbitrary: endPass, weight: 1 },
  { arbitrary: record, weight: 2 },
  { arbitrary: pause, weight: 1 },
  { arbitrary: resume, weight: 1 },
  { arbitrary: permits, weight: 2 },
  { arbitrary: retryDead, weight: 1 },
  { arbitrary: discardDead, weight: 1 },
);

const unseen = of(
  "unseen",
  fc.record({ door: pick, scope, pass, mark: pick, limit: fc.integer({ min: 1, max: 3 }) }),
);
const advance = of("advance", fc.record({ ms: fc.constantFrom(500, 1_000, 4_000, 10_000, 61_000) }));
const sweep = of("sweep", fc.record({ door: pick }));
const forget = of("forget", fc.record({ door: pick, connection: fc.nat(CONNECTIONS.length - 1) }));
const release = of("release", fc.record({ worker: pick }));
const crash = of("crash", fc.record({ worker: pick, all: fc.boolean() }));
const overtake = of("overtake", fc.record({ worker: pick }));

/** Several calls, or what ends sessions: alone. */
const alone = fc.oneof(
  { arbitrary: unseen, weight: 4 },
  { arbitrary: advance, weight: 4 },
  { arbitrary: sweep, weight: 2 },
  { arbitrary: forget, weight: 1 },
  { arbitrary: release, weight: 1 },
  { arbitrary: crash, weight: 2 },
  { arbitrary: overtake, weight: 1 },
);

export type Shareable = typeof shareable extends fc.Arbitrary<infer T> ? T : never;
export type Alone = typeof alone extends fc.Arbitrary<infer T> ? T : never;
export type Operation = Shareable | Alone;
export type SettlementDrawn = typeof settlement extends fc.Arbitrary<infer T> ? T : never;

const single = fc
  .oneof({ arbitrary: shareable, weight: 4 }, { arbitrary: alone, weight: 1 })
  .map((one): Operation[] => [one]);
const together = fc.array(shareable, { minLength: 2, maxLength: 3 });

/** A run: operations one after the other, now and then some at once. */
export const rounds: fc.Arbitrary<Operation[][]> = fc.array(
  fc.oneof({ arbitrary: single, weight: 6 }, { arbitrary: together, weight: 1 }),
  { minLength: 5, maxLength: 40, size: "max" },
);
