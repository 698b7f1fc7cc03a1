import type {
  AppendEntry,
  AppendResult,
  Claim,
  IndexEntry,
  Lock,
  Lookup,
  PageRecord,
  Settlement,
  Store,
  WorkSession,
} from "trueup";
import { RESOURCE } from "./accounts.ts";
import type { Life } from "./life.ts";

/** A session as witnesses tell it from others. */
export type SessionName = symbol;

/** What the simulation hears of a store's answers, at the moment when they are given: before anybody may die of them. */
export interface StoreWitness {
  /** The number of what happens now: by it calls that were under way at a moment can be told from later ones. */
  step(): number;
  /** A process has the right to work, from now on. */
  began(session: SessionName): void;
  /** It was told that it has it still. */
  beat(session: SessionName): void;
  /** It has given it up. */
  released(session: SessionName): void;
  leased(session: SessionName, claims: readonly Claim[]): void;
  /** The settlement was written, or a commit's callback is told that it will be. */
  accepted(session: SessionName, settlement: Settlement, asked: number): void;
  settled(settlement: Settlement, asked: number): void;
  appended(entries: readonly AppendEntry[], results: readonly AppendResult[], asked: number): void;
  /** Somebody is about to settle these. @returns what to call when it is answered, which never is where it dies */
  settling(settlements: readonly Settlement[]): () => void;
  counted(counter: number): void;
  /** Whether {@link indexed} is called: a look more shifts what comes next, and old runs are to stay what they were. */
  readonly watchesIndex: boolean;
  /** @param found what the store knows then of these objects */
  indexed(
    whose: { readonly life: Life; readonly connection: string },
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
    found: readonly (Lookup | undefined)[],
  ): void;
  /** A connection is about to be forgotten. @param counter as it is before */
  forgetting(connection: string, life: Life, counter: number): Forgotten;
  /** Dead letters are about to be discarded, or were. */
  discarding(): void;
  locked(lock: Lock): void;
  checkpointed(key: string, value: string | null): void;
  /** @param found what the store knows then of the objects that differed */
  recorded(
    page: PageRecord,
    claims: readonly Claim[],
    found: readonly (Lookup | undefined)[] | undefined,
    asked: number,
  ): void;
}

/** What comes after a connection is forgotten. */
export interface Forgotten {
  /** Objects that the store may have known. */
  readonly ids: readonly string[];
  /** @param found what it knows of them now */
  readonly done: (counter: number, found: readonly (Lookup | undefined)[]) => void;
  readonly failed: () => void;
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
            const asked = witness.step();
            const results = await target.append(entries);
            witness.appended(entries, results, asked);
            return results;
          });
      }
      if (name === "counter") {
        return (...args: Parameters<Store["counter"]>) =>
          life.store(name, async () => {
            const counter = await target.counter(...args);
            witness.counted(counter);
            return counter;
          });
      }
      if (name === "record") {
        return (...[scope, entries]: Parameters<Store["record"]>) =>
          life.store(name, async () => {
            const written = await target.record(scope, entries);
            if (!witness.watchesIndex) return written;
            const ids = entries.map(({ id }) => id);
            const { connection } = scope;
            const found = await truth.lookup(scope, ids).catch(() => []);
            witness.indexed({ life, connection }, entries, found);
            return written;
          });
      }
      if (name === "forget") {
        return (...[provider, connection]: Parameters<Store["forget"]>) =>
          life.store(name, async () => {
            const scope = { provider, connection, resource: RESOURCE };
            const forgotten = witness.forgetting(connection, life, await truth.counter(scope));
            try {
              await target.forget(provider, connection);
              forgotten.done(await truth.counter(scope), await truth.lookup(scope, forgotten.ids));
            } catch (error) {
              forgotten.failed();
              throw error;
            }
          });
      }
      if (name === "discardDead") {
        return (...args: Parameters<Store["discardDead"]>) =>
          life.store(name, async () => {
            witness.discarding();
            const discarded = await target.discardDead(...args);
            witness.discarding();
            return discarded;
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
  const told = (settlements: readonly Settlement[], outcomes: readonly string[], asked: number) => {
    for (const [i, settlement] of settlements.entries()) {
      if (outcomes[i] === "lost") continue;
      witness.accepted(name, settlement, asked);
      witness.settled(settlement, asked);
    }
  };
  const mortal: WorkSession<Tx> = {
    claim: (request) => life.store("claim", async () => leased(await session.claim(request))),
    settle: (settlements) =>
      life.store("settle", async () => {
        const asked = witness.step();
        const answered = witness.settling(settlements);
        try {
          const outcomes = await session.settle(settlements);
          told(settlements, outcomes, asked);
          return outcomes;
        } finally {
          answered();
        }
      }),
    recordPage: (page) =>
      life.store("recordPage", async () => {
        const asked = witness.step();
        const claims = leased(await session.recordPage(page));
        let found: readonly (Lookup | undefined)[] | undefined;
        try {
          found = await truth.lookup(page.scope, page.differing);
        } catch {
          // Of a process that is dead by now, the store may be closed.
        }
        witness.recorded(page, claims, found, asked);
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
        const asked = witness.step();
        const witnessed: typeof write = (tx, live) => {
          for (const [i, settlement] of settlements.entries())
            if (live[i] === true) witness.accepted(name, settlement, asked);
          return write(tx, live);
        };
        const outcomes = await commit(settlements, witnessed, options);
        for (const [i, settlement] of settlements.entries())
          if (outcomes[i] !== "lost") witness.settled(settlement, asked);
        return outcomes;
      }),
  };
}
