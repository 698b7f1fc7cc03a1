/**
 * Deliberately broken variants: what a simulation that finds nothing has to find, or it proves nothing.
 *
 * @module
 */

import {
  RejectError,
  type AppendEntry,
  type AppendResult,
  type Claim,
  type Lock,
  type PageRecord,
  type Store,
  type WorkSession,
} from "trueup";
import { connectionKey } from "../../../src/core/store.ts";
import { RESOURCE } from "./accounts.ts";
import type { Driver } from "./broker.ts";
import { CANARY } from "./provider.ts";
import { NO_CALLS } from "./scenario.ts";
import type { SimulationOptions } from "./simulate.ts";

export interface BrokenVariant {
  readonly name: string;
  /** Which invariants it may be caught by. */
  readonly breaks: readonly string[];
  /** What is said of it then, where one check of several is to be proven. */
  readonly says?: RegExp;
  /** Made anew for each run: some have a memory. */
  readonly options: () => SimulationOptions;
}

type AnyStore = Store<unknown>;
type Session = WorkSession<unknown>;

/** A store or a session with other calls in the place of its own. */
function withCalls<Target extends object>(own: Target, calls: (own: Target) => Partial<Target>): Target {
  const others = calls(own);
  return new Proxy(own, {
    get: (target, name) => {
      if (Reflect.has(others, name)) return Reflect.get(others, name) as unknown;
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
}

/** A store whose sessions have them. */
function withSession(store: AnyStore, calls: (own: Session) => Partial<Session>): AnyStore {
  return withCalls(store, (own) => ({
    work: async (options) => withCalls(await own.work(options), calls),
  }));
}

/** A store whose locks exclude nobody, and bind nobody to them. */
function withoutLocks(): (store: AnyStore) => AnyStore {
  const newest = new Map<string, Lock>();
  return (store) =>
    withCalls(
      withSession(store, (own) => ({
        recordPage: (page) => own.recordPage({ ...page, lock: newest.get(page.lock.name) ?? page.lock }),
      })),
      (own) => ({
        lock: async (name, ttlMs, held) => {
          if (held !== undefined) return held;
          const before = newest.get(name);
          if (before !== undefined) await own.unlock(before);
          const lock = await own.lock(name, ttlMs);
          if (lock !== undefined) newest.set(name, lock);
          return lock;
        },
      }),
    );
}

/** A store that hands out once more what another has, now and then. */
function withDoubles(): (store: AnyStore) => AnyStore {
  let last: Claim | undefined;
  let calls = 0;
  return (store) =>
    withSession(store, (own) => ({
      claim: async (request) => {
        const claims = await own.claim(request);
        const double = last;
        last = claims.at(-1) ?? last;
        calls += 1;
        const same = claims.some(({ ref }) => ref.id === double?.ref.id);
        return double === undefined || same || calls % 3 !== 0 ? claims : [...claims, double];
      },
    }));
}

/** A client of the broker that acks otherwise. */
function withAck(driver: Driver, when: "at once" | "late"): Driver {
  return {
    connect: async (environment, signal) => {
      const own = await driver.connect(environment, signal);
      if (when === "late") {
        const { clock } = environment;
        const ack: typeof own.ack = async (message) => {
          await new Promise<void>((resolve) => void clock.setTimer(resolve, 30_000));
          await own.ack(message);
        };
        return { ...own, ack };
      }
      return {
        ...own,
        receive: async (limit, stop) => {
          const messages = await own.receive(limit, stop);
          for (const message of messages) await own.ack(message).catch(() => {});
          return messages;
        },
      };
    },
  };
}

const onSqlite = { store: "sqlite" } as const;
const onShared = { store: "shared", workers: 3 } as const;
const throughBroker = { queue: true, ticks: false } as const;
const calm = { budget: "liveness" } as const;

export const brokenVariants: readonly BrokenVariant[] = [
  {
    name: "a store that takes settlements of whoever lost the lease",
    breaks: ["I3"],
    options: () => ({
      scenario: { ...onSqlite, ...calm, commits: false, stalls: 0.4, latencyMs: 2_000, crash: 0 },
      wrapStore: (store) =>
        withSession(store, (own) => ({
          settle: async (settlements) => {
            await own.settle(settlements);
            return settlements.map(() => "settled");
          },
        })),
    }),
  },
  {
    name: "a store that forgets a dirty mark now and then",
    breaks: ["I2"],
    options: () => {
      let calls = 0;
      return {
        scenario: { ...calm, schedules: false },
        wrapStore: (store) =>
          withCalls(store, (own) => ({
            append: async (entries) => {
              calls += 1;
              if (calls % 4 !== 0) return own.append(entries);
              return entries.map((): AppendResult => ({ status: "accepted", generation: 0 }));
            },
          })),
      };
    },
  },
  {
    name: "a store that answers before it has written",
    breaks: ["I1", "I2"],
    options: () => ({
      scenario: { ...onSqlite, ...calm, schedules: false, crashAfterAnswer: 0.3 },
      wrapStore: (store) =>
        withCalls(store, (own) => ({
          append: async (entries) => {
            void (async () => {
              for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
              await own.append(entries);
            })().catch(() => {});
            return entries.map((): AppendResult => ({ status: "accepted", generation: 1 }));
          },
        })),
    }),
  },
  {
    name: "a store that loses what comes while its object is leased",
    breaks: ["I2"],
    options: () => {
      const leased = new Set<string>();
      const remembered = (claims: Claim[]) => {
        for (const { ref } of claims) leased.add(ref.id);
        return claims;
      };
      return {
        scenario: { ...calm, schedules: false, commits: false, latencyMs: 5_000, crash: 0 },
        wrapStore: (store) =>
          withCalls(
            withSession(store, (own) => ({
              claim: async (request) => remembered(await own.claim(request)),
              settle: async (settlements) => {
                const outcomes = await own.settle(settlements);
                for (const { claim } of settlements) leased.delete(claim.ref.id);
                return outcomes;
              },
            })),
            (own) => ({
              append: async (entries) => {
                const kept = entries.filter(({ ref }) => !leased.has(ref.id));
                const results = await own.append(kept);
                return entries.map(
                  (entry): AppendResult =>
                    results[kept.indexOf(entry)] ?? { status: "accepted", generation: 0 },
                );
              },
            }),
          ),
      };
    },
  },
  {
    name: "a store that knows no event again",
    breaks: ["I9"],
    options: () => ({
      scenario: { ...onSqlite, faults: { duplicateWebhook: 0.5 } },
      wrapStore: (store) =>
        withCalls(store, (own) => ({
          append: (entries) =>
            own.append(entries.map((entry): AppendEntry => ({ ...entry, dedupeKey: undefined }))),
        })),
    }),
  },
  {
    name: "a store that moves the checkpoint on and forgets what the page showed",
    breaks: ["I6"],
    options: () => ({
      scenario: { ...calm },
      wrapStore: (store) =>
        withSession(store, (own) => ({
          recordPage: (page) => own.recordPage({ ...page, differing: [] }),
        })),
    }),
  },
  {
    name: "a store that hands out what was touched since the page was asked for",
    breaks: ["I4"],
    says: /was leased from a page/,
    options: () => ({
      scenario: {
        ...calm,
        listItems: "full",
        versions: "none",
        schedules: true,
        every: { incremental: "2s", full: "3s" }, // nearly always one under way
        ticks: false,
        latencyMs: 2_000,
        stalls: 0,
        concurrency: 8,
        accounts: 1,
        queue: false,
        coalesceMs: 0,
        handlerFailure: 0,
        faults: {},
      },
      wrapStore: (store) =>
        withCalls(
          withSession(store, (own) => ({
            recordPage: (page: PageRecord) => own.recordPage({ ...page, mark: Number.MAX_SAFE_INTEGER }),
          })),
          (own) => ({
            lookup: async (scope, ids) =>
              (await own.lookup(scope, ids)).map((found) =>
                found === undefined ? undefined : { ...found, touched: 0 },
              ),
          }),
        ),
    }),
  },
  {
    name: "an adapter that takes a broken API for a deletion",
    breaks: ["I7"],
    options: () => ({
      mistake: { resource: { gone: [404, 500, 502, 503, 504] } },
      scenario: { hinted: false, crash: 0, faults: { serverError: 0.7 } },
    }),
  },
  {
    name: "an adapter that gives a lagging API no time",
    breaks: ["I13"],
    options: () => ({
      mistake: { resource: { freshness: { believeAfterMs: 0 } } },
      scenario: {
        ...calm,
        hinted: true,
        versions: "number",
        schedules: false,
        faults: { lag: 1, lagMs: 10_000 },
      },
    }),
  },
  {
    name: "a shared store that takes settlements of whoever lost the lease",
    breaks: ["I3"],
    says: /was taken with fence/,
    options: () => ({
      scenario: {
        ...onShared,
        ...calm,
        commits: false,
        stalls: 0.4,
        latencyMs: 2_000,
        storeLatencyMs: 200,
        crash: 0,
      },
      wrapStore: (store) =>
        withSession(store, (own) => ({
          settle: async (settlements) => {
            await own.settle(settlements);
            return settlements.map(() => "settled");
          },
        })),
    }),
  },
  {
    name: "a shared store that gives away the work of those who live",
    breaks: ["I3"],
    says: /was leased though/,
    options: () => ({
      scenario: { ...onShared, ...calm, latencyMs: 2_000, crash: 0, stalls: 0 },
      wrapStore: (store) => withCalls(store, (own) => ({ work: () => own.work({ leaseMs: 1 }) })),
    }),
  },
  {
    name: "a shared store that hands an object to two",
    breaks: ["I3"],
    says: /at once/,
    options: () => ({
      scenario: { ...onShared, ...calm, latencyMs: 500, crash: 0, commits: false },
      wrapStore: withDoubles(),
    }),
  },
  {
    name: "a shared store whose locks bind nobody",
    breaks: ["I6"],
    says: /under the lock/,
    options: () => ({
      scenario: {
        ...onShared,
        ...calm,
        schedules: true,
        ticks: false,
        latencyMs: 2_000,
        pageSize: 1,
        crash: 0,
      },
      wrapStore: withoutLocks(),
    }),
  },
  {
    name: "a shared store that has a permit for everybody",
    breaks: ["I10"],
    says: /requests within/,
    options: () => ({
      scenario: { ...onShared, ...calm, rateLimit: { requests: 2, perMs: 1_000 }, concurrency: 8 },
      wrapStore: (store) =>
        withCalls(store, () => ({
          takePermits: async (_budget, wanted) => ({ permits: wanted, retryInMs: 0 }),
        })),
    }),
  },
  {
    name: "a client of the broker that acks what it gets",
    breaks: ["I8"],
    says: /is not recorded/,
    options: () => ({
      scenario: { ...throughBroker },
      wrapDriver: (driver) => withAck(driver, "at once"),
    }),
  },
  {
    name: "a client of the broker that acks when another may have the message",
    breaks: ["I8"],
    says: /not its own any more/,
    options: () => ({
      scenario: { ...throughBroker, crash: 0, budget: "safety" },
      wrapDriver: (driver) => withAck(driver, "late"),
    }),
  },
  {
    name: "an adapter that tells a secret which is none of the connection's credentials",
    breaks: ["I12"],
    options: () => ({
      credentials: { token: "another-secret-of-the-connection" },
      mistake: {
        resource: {
          fetch: () => {
            throw new RejectError(`refused with ${CANARY}`);
          },
        },
      },
      scenario: { crash: 0 },
    }),
  },
  {
    name: "a store that forgets a connection and leaves its index",
    breaks: ["I5"],
    says: /before it was forgotten/,
    options: () => ({
      scenario: { ...onSqlite, ...calm, crash: 0, calls: { ...NO_CALLS, forget: 0.3 } },
      wrapStore: (store) =>
        withCalls(store, (own) => ({
          forget: async (provider, connection) => {
            const locks = `${connectionKey(provider, connection)}pass:${RESOURCE}:full`;
            await own.setCheckpoint(locks, null);
          },
        })),
    }),
  },
  {
    name: "a store in which adopted rows take the place of what was handled since",
    breaks: ["I4"],
    says: /in the place of what was handled since/,
    options: () => ({
      scenario: { ...onShared, ...calm, storeLatencyMs: 200, crash: 0, calls: { ...NO_CALLS, adopt: 0.6 } },
      wrapStore: (store) =>
        withCalls(store, (own) => ({
          lookup: async (scope, ids) =>
            (await own.lookup(scope, ids)).map((found) => found && { ...found, touched: 0, pending: false }),
          record: (scope, entries) =>
            own.record(
              scope,
              entries.map(({ id, index }) => ({
                id,
                index: { ...index, evidence: Number.MAX_SAFE_INTEGER - 1 },
              })),
            ),
        })),
    }),
  },
  {
    name: "a store that hands nothing over whatever it is",
    breaks: ["I2"],
    says: /was to hand over everything/,
    options: () => ({
      scenario: {
        ...calm,
        crash: 0,
        schedules: false,
        storeFailure: 0,
        handlerFailure: 0,
        concurrency: 1,
        latencyMs: 500,
        calls: { ...NO_CALLS, all: 0.4 },
      },
      wrapStore: (store) =>
        withCalls(store, (own) => ({
          append: (entries) =>
            own.append(entries.map((entry): AppendEntry => ({ ...entry, force: undefined }))),
        })),
    }),
  },
  {
    name: "an adapter that moves the feed's cursor past what it keeps to itself",
    breaks: ["I6"],
    says: /the feed's cursor is at/,
    options: () => ({
      scenario: { ...calm, polls: true, ticks: false, faults: { dropWebhook: 1 } },
      mistake: { told: (events) => events.slice(1) },
    }),
  },
];
