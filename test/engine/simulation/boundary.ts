import type { Settlement, Store, WorkSession } from "trueup";
import type { Life } from "./life.ts";

/** What the simulation hears of a store's answers, when they were given. */
export interface StoreWitness {
  /** The settlement was written. */
  settled(settlement: Settlement): void;
}

/** Calls that wait for something else than the store. */
const WAITING = new Set(["work"]);
const PLAIN = new Set(["guarantees", "subscribe"]);

/** A store as a mortal process has it. */
export function mortalStore<Tx>(store: Store<Tx>, life: Life, witness: StoreWitness): Store<Tx> {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof name !== "string" || typeof member !== "function" || PLAIN.has(name)) return member;
      const call = (...args: unknown[]) => Reflect.apply(member, target, args) as Promise<unknown>;
      if (name === "work") {
        return async (...args: unknown[]) => {
          const session = (await life.act(name, () => call(...args))) as WorkSession<Tx>;
          return mortalSession(session, life, witness);
        };
      }
      if (WAITING.has(name)) return (...args: unknown[]) => life.act(name, () => call(...args));
      return (...args: unknown[]) => life.store(name, () => call(...args));
    },
  });
}

function mortalSession<Tx>(session: WorkSession<Tx>, life: Life, witness: StoreWitness): WorkSession<Tx> {
  const mortal: WorkSession<Tx> = {
    claim: (request) => life.store("claim", () => session.claim(request)),
    settle: (settlements) =>
      life.store("settle", async () => {
        const outcomes = await session.settle(settlements);
        tell(settlements, outcomes, witness);
        return outcomes;
      }),
    recordPage: (page) => life.store("recordPage", () => session.recordPage(page)),
    heartbeat: () => life.store("heartbeat", () => session.heartbeat()),
    // Whatever becomes of it, the session is over: a disk that fails is simulated below the store, where it has one.
    release: () => life.act("release", () => session.release()),
  };
  if (session.commit === undefined) return mortal;
  const commit = session.commit.bind(session);
  return {
    ...mortal,
    commit: (settlements, write, options) =>
      life.store("commit", async () => {
        const outcomes = await commit(settlements, write, options);
        tell(settlements, outcomes, witness);
        return outcomes;
      }),
  };
}

function tell(settlements: readonly Settlement[], outcomes: readonly string[], witness: StoreWitness): void {
  for (const [i, settlement] of settlements.entries()) {
    if (outcomes[i] !== "lost") witness.settled(settlement);
  }
}
