/**
 * Stores that each break one word of the contract, made by wrapping a store that keeps it. The suite has to fail for
 * every one of them.
 */

import type { AppendEntry, Claim, Settlement, Store, WorkSession } from "../../src/core/store.ts";

/** A store that is all of `store` but what is given. */
export function over(store: Store, changes: Partial<Store>): Store {
  return wrapped(store, changes);
}

/** A store whose sessions are all of `store`'s but what `change` gives for them. */
export function overSession(store: Store, change: (session: WorkSession) => Partial<WorkSession>): Store {
  return over(store, {
    async work(options) {
      const session = await store.work(options);
      return wrapped(session, change(session));
    },
  });
}

export function wrapped<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = name in changes ? changes[name as keyof T] : target[name as keyof T];
      return typeof value === "function" && !(name in changes) ? (value.bind(target) as unknown) : value;
    },
  });
}

const mapEntries = (store: Store, change: (entry: AppendEntry) => AppendEntry) =>
  over(store, { append: (entries) => store.append(entries.map(change)) });

const mapClaims = (store: Store, change: (claim: Claim) => Claim) =>
  overSession(store, (session) => ({
    claim: async (request) => (await session.claim(request)).map(change),
    // A changed claim still carries the fence, which is all that settling asks for.
  }));

const mapSettlements = (store: Store, change: (settlement: Settlement) => Settlement) =>
  overSession(store, (session) => ({ settle: (settlements) => session.settle(settlements.map(change)) }));

/** What is broken; the topic of the suite that is there to notice; and how. */
export type Broken = readonly [what: string, topic: string, break_: (store: Store) => Store];

export const brokenStores: readonly Broken[] = [
  [
    "append ignores dedupe keys",
    "append",
    (store) => mapEntries(store, (e) => ({ ...e, dedupeKey: undefined })),
  ],
  [
    "append looks for duplicates only in earlier calls",
    "append",
    (store) =>
      over(store, {
        append(entries) {
          const seen = new Set<string>();
          const unique = (key: Uint8Array | undefined) => {
            const text = String(key);
            const isNew = key !== undefined && !seen.has(text);
            seen.add(text);
            return isNew ? key : undefined;
          };
          return store.append(entries.map((entry) => ({ ...entry, dedupeKey: unique(entry.dedupeKey) })));
        },
      }),
  ],
  [
    "append takes one event id for the same in all connections",
    "append",
    (store) => mapEntries(store, (e) => ({ ...e, dedupeKey: e.dedupeKey && new Uint8Array(16).fill(1) })),
  ],
  [
    "append answers duplicates with no generation",
    "append",
    (store) =>
      over(store, {
        append: async (entries) =>
          (await store.append(entries)).map((r) => (r.status === "duplicate" ? { ...r, generation: 0 } : r)),
      }),
  ],
  ["ledger and events are never swept", "append", (store) => over(store, { sweep: async () => false })],
  [
    "an event shortens a backoff",
    "append",
    (store) => mapSettlements(store, (s) => (s.kind === "retry" ? { ...s, due: 0 } : s)),
  ],
  ["all lanes are live", "append", (store) => mapEntries(store, (e) => ({ ...e, lane: "live" }))],
  ["all lanes are repair", "claim", (store) => mapEntries(store, (e) => ({ ...e, lane: "repair" }))],
  ["force is lost", "events, hints and force", (store) => mapEntries(store, (e) => ({ ...e, force: false }))],
  [
    "force is never spent",
    "events, hints and force",
    (store) => mapEntries(store, (e) => ({ ...e, force: true })),
  ],
  [
    "the latest hint wins, whatever its version",
    "events, hints and force",
    (store) => mapEntries(store, (e) => ({ ...e, version: undefined, versionOrder: undefined })),
  ],
  [
    "there is no cap on events",
    "events, hints and force",
    (store) =>
      over(store, { open: (environment) => store.open({ ...environment, maxEventsPerChange: 1_000 }) }),
  ],
  [
    "eventCount stops at the cap",
    "events, hints and force",
    (store) => mapClaims(store, (c) => ({ ...c, eventCount: c.events.length })),
  ],
  [
    "events come newest first",
    "events, hints and force",
    (store) => mapClaims(store, (c) => ({ ...c, events: c.events.toReversed() })),
  ],
  [
    "copies of claims have no events",
    "events, hints and force",
    (store) =>
      mapClaims(store, (c) =>
        Object.defineProperty({ ...c }, "events", { get: () => c.events, enumerable: false }),
      ),
  ],
  ["claim ignores pauses", "pauses", (store) => over(store, { pause: async () => {} })],
  [
    "a shorter pause replaces a longer one",
    "pauses",
    (store) =>
      over(store, {
        async pause(pause) {
          await store.resume(pause.provider, pause.connection);
          await store.pause(pause);
        },
      }),
  ],
  ["resume does nothing", "pauses", (store) => over(store, { resume: async () => {} })],
  [
    "claim ignores exceptConnections",
    "claim",
    (store) =>
      overSession(store, (session) => ({
        claim: (request) => session.claim({ ...request, exceptConnections: [] }),
      })),
  ],
  [
    "claim ignores its limit",
    "claim",
    (store) =>
      overSession(store, (session) => ({
        claim: (request) => session.claim({ ...request, limit: request.limit + 1 }),
      })),
  ],
  ["claim drains one connection after another", "claim", drainingStore],
  ["claims say nothing of attempts", "claim", (store) => mapClaims(store, (c) => ({ ...c, attempt: 1 }))],
  ["nextDue is always now", "claim", (store) => over(store, { nextDue: async () => 0 })],
  ["settle ignores the fence", "settle", unfencedStore],
  ["done clears an object that was dirtied meanwhile", "settle", clearingStore],
  [
    "notBefore is ignored",
    "settle",
    (store) => mapSettlements(store, (s) => (s.kind === "done" ? { ...s, notBefore: undefined } : s)),
  ],
  [
    "done writes no index entry",
    "settle",
    (store) => mapSettlements(store, (s) => (s.kind === "done" ? { ...s, index: null } : s)),
  ],
  [
    "settle forgets that a handler may have begun",
    "dead letters",
    (store) => mapSettlements(store, (s) => (s.kind === "done" ? s : { ...s, begun: false })),
  ],
  [
    "a pass leases what was touched since",
    "passes",
    (store) =>
      overSession(store, (session) => ({
        recordPage: (page) => session.recordPage({ ...page, mark: Number.MAX_SAFE_INTEGER }),
      })),
  ],
  [
    "a pass without its lock moves its checkpoint",
    "passes",
    (store) =>
      overSession(store, (session) => ({
        async recordPage(page) {
          await store.setCheckpoint(page.pass, page.checkpoint);
          return await session.recordPage(page);
        },
      })),
  ],
  [
    "a pass remembers nothing",
    "passes",
    (store) =>
      overSession(store, (session) => ({ recordPage: (page) => session.recordPage({ ...page, seen: [] }) })),
  ],
  [
    "passes share what they have seen",
    "passes",
    (store) =>
      over(
        overSession(store, (session) => ({ recordPage: (page) => session.recordPage({ ...page }) })),
        {
          unseen: (scope, _, options) => store.unseen(scope, "pass:contacts", options),
        },
      ),
  ],
  [
    "a pass that ended is remembered",
    "passes",
    (store) =>
      over(store, { endPass: (_scope, pass, _lock, checkpoint) => store.setCheckpoint(pass, checkpoint) }),
  ],
  [
    "unseen forgets the mark",
    "passes",
    (store) =>
      over(store, {
        unseen: (scope, pass, options) =>
          store.unseen(scope, pass, { ...options, mark: Number.MAX_SAFE_INTEGER }),
      }),
  ],
  [
    "record handles what it records",
    "object index",
    (store) =>
      over(store, {
        async record(scope, entries) {
          const written = await store.record(scope, entries);
          const refs = entries.map(({ id }) => ({ ...scope, id }));
          await store.append(refs.map((ref) => ({ ref, origin: "poll", lane: "live" })));
          return written;
        },
      }),
  ],
  [
    "record goes back behind what was handled",
    "object index",
    (store) =>
      over(store, {
        record: (scope, entries) =>
          store.record(
            scope,
            entries.map(({ id, index }) => ({ id, index: { ...index, evidence: Number.MAX_SAFE_INTEGER } })),
          ),
      }),
  ],
  ["the counter stands still", "object index", (store) => over(store, { counter: async () => 1 })],
  [
    "a lock is anybody's",
    "checkpoints and locks",
    (store) => over(store, { lock: async (name) => ({ name, fence: 1 }) }),
  ],
  [
    "a lock cannot be renewed",
    "checkpoints and locks",
    (store) => over(store, { lock: (name, ttlMs) => store.lock(name, ttlMs) }),
  ],
  [
    "a lock never ends",
    "checkpoints and locks",
    (store) => over(store, { lock: (name, _ttlMs, held) => store.lock(name, 1e12, held) }),
  ],
  ["unlock does nothing", "checkpoints and locks", (store) => over(store, { unlock: async () => {} })],
  [
    "a checkpoint is never deleted",
    "checkpoints and locks",
    (store) => over(store, { setCheckpoint: (key, value) => store.setCheckpoint(key, value ?? "") }),
  ],
  ["forget does nothing", "connections and counts", (store) => over(store, { forget: async () => {} })],
  [
    "pending counts later work as due",
    "connections and counts",
    (store) => over(store, { pending: () => store.pending(Number.MAX_SAFE_INTEGER) }),
  ],
  [
    "dead letters are listed without their filter",
    "dead letters",
    (store) => over(store, { listDead: (_, page) => store.listDead({}, page) }),
  ],
  [
    "dead letters have one page",
    "dead letters",
    (store) =>
      over(store, {
        listDead: async (filter, page) => ({ ...(await store.listDead(filter, page)), next: undefined }),
      }),
  ],
  [
    "discarding retries",
    "dead letters",
    (store) => over(store, { discardDead: (filter) => store.retryDead(filter) }),
  ],
  [
    "anybody may work",
    "the right to work",
    (store) => {
      let current: WorkSession | undefined;
      return over(store, {
        async work(options) {
          await current?.release();
          current = await store.work(options);
          return current;
        },
      });
    },
  ],
  [
    "work waits for ever",
    "the right to work",
    (store) => over(store, { work: ({ leaseMs }) => store.work({ leaseMs }) }),
  ],
  [
    "release keeps its leases",
    "claim",
    (store) => {
      let held: WorkSession | undefined;
      return over(store, {
        work: async (options) => (held ??= wrapped(await store.work(options), { release: async () => {} })),
      });
    },
  ],
];

// Claims as much as it can of the connection that comes first, before it looks at the next.
function drainingStore(store: Store): Store {
  return overSession(store, (session) => ({
    async claim(request) {
      const connections = (await store.connections(request.provider)).filter(
        (name) => !(request.exceptConnections ?? []).includes(name),
      );
      const claims: Claim[] = [];
      for (const name of connections) {
        const exceptConnections = connections.filter((other) => other !== name);
        exceptConnections.push(...(request.exceptConnections ?? []));
        const limit = request.limit - claims.length;
        if (limit > 0) claims.push(...(await session.claim({ ...request, limit, exceptConnections })));
      }
      return claims;
    },
  }));
}

// Whatever claim is shown, the live one of its object is settled.
function unfencedStore(store: Store): Store {
  const live = new Map<number, Claim>();
  return overSession(store, (session) => ({
    async claim(request) {
      const claims = await session.claim(request);
      for (const claim of claims) live.set(claim.key, claim);
      return claims;
    },
    settle: (settlements) =>
      session.settle(settlements.map((s) => ({ ...s, claim: live.get(s.claim.key) ?? s.claim }))),
  }));
}

// What was appended during a claim is taken for handled by it.
function clearingStore(store: Store): Store {
  return overSession(store, (session) => ({
    async settle(settlements) {
      const outcomes = await session.settle(settlements);
      for (const [i, outcome] of outcomes.entries()) {
        const settlement = settlements[i];
        if (outcome !== "dirty" || settlement?.kind !== "done") continue;
        const claims = await session.claim({ ...settlement.claim.ref, limit: 1 });
        await session.settle(claims.map((claim) => ({ ...settlement, claim })));
      }
      return outcomes;
    },
  }));
}
