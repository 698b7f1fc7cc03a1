/**
 * Deliberately broken variants: what a simulation that finds nothing has to find, or it proves nothing.
 *
 * @module
 */

import type { AppendEntry, AppendResult, Claim, PageRecord, Store, WorkSession } from "trueup";
import type { SimulationOptions } from "./simulate.ts";

export interface BrokenVariant {
  readonly name: string;
  /** Which invariants it may be caught by. */
  readonly breaks: readonly string[];
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

const onSqlite = { store: "sqlite" } as const;
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
    breaks: ["I5"],
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
    breaks: ["I4", "I7"],
    options: () => ({
      scenario: {
        ...calm,
        listItems: "full",
        versions: "none",
        schedules: true,
        latencyMs: 2_000,
        stalls: 0,
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
      mistake: { gone: [404, 500, 502, 503, 504] },
      scenario: { hinted: false, crash: 0, faults: { serverError: 0.7 } },
    }),
  },
  {
    name: "an adapter that gives a lagging API no time",
    breaks: ["I2", "I5", "I7"],
    options: () => ({
      mistake: { freshness: { believeAfterMs: 0 } },
      scenario: {
        ...calm,
        hinted: true,
        versions: "number",
        schedules: false,
        faults: { lag: 1, lagMs: 10_000 },
      },
    }),
  },
];
