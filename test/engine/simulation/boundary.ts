import type {
  AppendEntry,
  AppendResult,
  Claim,
  Lock,
  Lookup,
  PageRecord,
  Settlement,
  Store,
  WorkSession,
} from "trueup";
import type { Life } from "./life.ts";

/** A session as witnesses tell it from others. */
export type SessionName = symbol;

/** What the simulation hears of a store's answers, at the moment when they are given: before anybody may die of them. */
export interface StoreWitness {
  /** A process has the right to work, from now on. */
  began(session: SessionName): void;
  /** It was told that it has it still. */
  beat(session: SessionName): void;
  /** It has given it up. */
  released(session: SessionName): void;
  leased(session: SessionName, claims: readonly Claim[]): void;
  /** The settlement was written, or a commit's callback is told that it will be. */
  accepted(session: SessionName, settlement: Settlement): void;
  settled(settlement: Settlement): void;
  appended(entries: readonly AppendEntry[], results: readonly AppendResult[]): void;
  locked(lock: Lock): void;
  checkpointed(key: string, value: string | null): void;
  /** @param found what the store knows then of the objects that differed */
  recorded(page: PageRecord, claims: readonly Claim[], found: readonly (Lookup | undefined)[]): void;
}

/** Calls that wait for something else than the store. */
const WAITING = new Set(["work"]);
const PLAIN = new Set(["guarantees", "subscribe"]);

/**
 * A store as a mortal process has it.
 *
 * @param truth the same store, where a broken variant stands before it: what the witness is told is read there
 */
export function mortalStore<Tx>(
  store: Store<Tx>,
  truth: Store<unknown>,
  life: Life,
  witness: StoreWitness,
): Store<Tx> {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof name !== "string" || typeof member !== "function" || PLAIN.has(name)) return member;
      const call = (...args: unknown[]) => Reflect.apply(member, target, args) as Promise<unknown>;
      if (name === "work") {
        return (...args: unknown[]) =>
          life.act(name, async () => {
            const session = (await call(...args)) as WorkSession<Tx>;
            return mortalSession(session, truth, life, witness);
          });
      }
      if (name === "append") {
        return (entries: readonly AppendEntry[]) =>
          life.store(name, async () => {
            const results = await target.append(entries);
            witness.appended(entries, results);
            return results;
          });
      }
      if (name === "setCheckpoint") {
        return (key: string, value: string | null) =>
          life.store(name, async () => {
            await target.setCheckpoint(key, value);
            witness.checkpointed(key, value);
          });
      }
      if (name === "lock") {
        return (...args: Parameters<Store["lock"]>) =>
          life.store(name, async () => {
            const lock = await target.lock(...args);
            if (lock !== undefined) witness.locked(lock);
            return lock;
          });
      }
      if (WAITING.has(name)) return (...args: unknown[]) => life.act(name, () => call(...args));
      return (...args: unknown[]) => life.store(name, () => call(...args));
    },
  });
}

function mortalSession<Tx>(
  session: WorkSession<Tx>,
  truth: Store<unknown>,
  life: Life,
  witness: StoreWitness,
): WorkSession<Tx> {
  const name: SessionName = Symbol(life.name);
  witness.began(name);
  const leased = (claims: Claim[]) => {
    witness.leased(name, claims);
    return claims;
  };
  const told = (settlements: readonly Settlement[], outcomes: readonly string[]) => {
    for (const [i, settlement] of settlements.entries()) {
      if (outcomes[i] === "lost") continue;
      witness.accepted(name, settlement);
      witness.settled(settlement);
    }
  };
  const mortal: WorkSession<Tx> = {
    claim: (request) => life.store("claim", async () => leased(await session.claim(request))),
    settle: (settlements) =>
      life.store("settle", async () => {
        const outcomes = await session.settle(settlements);
        told(settlements, outcomes);
        return outcomes;
      }),
    recordPage: (page) =>
      life.store("recordPage", async () => {
        const claims = leased(await session.recordPage(page));
        witness.recorded(page, claims, await truth.lookup(page.scope, page.differing));
        return claims;
      }),
    heartbeat: () =>
      life.store("heartbeat", async () => {
        const lives = await session.heartbeat();
        if (lives) witness.beat(name);
        return lives;
      }),
    // Whatever becomes of it, the session is over: a disk that fails is simulated below the store, where it has one.
    release: () =>
      life.act("release", async () => {
        await session.release();
        witness.released(name);
      }),
  };
  if (session.commit === undefined) return mortal;
  const commit = session.commit.bind(session);
  return {
    ...mortal,
    commit: (settlements, write, options) =>
      life.store("commit", async () => {
        const witnessed: typeof write = (tx, live) => {
          for (const [i, settlement] of settlements.entries())
            if (live[i] === true) witness.accepted(name, settlement);
          return write(tx, live);
        };
        const outcomes = await commit(settlements, witnessed, options);
        for (const [i, settlement] of settlements.entries())
          if (outcomes[i] !== "lost") witness.settled(settlement);
        return outcomes;
      }),
  };
}
