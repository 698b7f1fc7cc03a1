/** A store with `commit`, made of one without: for the suite's tests of it, and for breaking. */

import { TrueupError } from "../../src/core/errors.ts";
import type { Claim, Store, StoreEnvironment, WorkSession } from "../../src/core/store.ts";
import type { StoreSuiteOptions } from "../../src/testing/index.ts";
import { keyvStore } from "../../src/stores/keyv.ts";
import { wrapped } from "./broken-stores.ts";

/** A transaction: the lines that it would write. */
type Tx = string[];

/** Parts of `commit` that can be left out. */
export type CommitFault =
  | "writes without settling"
  | "settles without writing"
  | "keeps what a failed callback wrote"
  | "has no timeout"
  | "calls back without a lease"
  | "says that all leases are live";

/** What to hand to `testStore`; `fault` names what is broken, if anything is. */
export function transactionalStore(fault?: CommitFault): StoreSuiteOptions<Tx> {
  const lines = new WeakMap<Store<Tx>, string[]>();
  return {
    create() {
      const written: string[] = [];
      const store = withCommit(keyvStore(), written, fault);
      lines.set(store, written);
      return store;
    },
    transaction: {
      write: (tx, line) => void tx.push(line),
      read: (store) => lines.get(store) ?? [],
    },
  };
}

function withCommit(base: Store, lines: string[], fault: CommitFault | undefined): Store<Tx> {
  let environment: StoreEnvironment | undefined;
  return wrapped(base as unknown as Store<Tx>, {
    guarantees: { ...base.guarantees, transactional: true },
    async open(given) {
      environment = given;
      await base.open(given);
    },
    async work(options) {
      const session = await base.work(options);
      if (environment === undefined) throw new Error("not open");
      return committing(session, lines, { fault, clock: environment.clock });
    },
  });
}

function committing(
  session: WorkSession,
  lines: string[],
  { fault, clock }: { readonly fault: CommitFault | undefined; readonly clock: StoreEnvironment["clock"] },
): WorkSession<Tx> {
  const leases = new Map<number, number>();
  const isLive = (claim: Claim) => leases.get(claim.key) === claim.fence;
  const commit: NonNullable<WorkSession<Tx>["commit"]> = async (settlements, write, { timeoutMs }) => {
    const live = settlements.map(({ claim }) => isLive(claim));
    if (!live.includes(true) && fault !== "calls back without a lease") {
      throw new TrueupError("LEASE_LOST", "no lease is live");
    }
    const tx: Tx = fault === "keeps what a failed callback wrote" ? lines : [];
    const shown = fault === "says that all leases are live" ? live.map(() => true) : live;
    let cancel = () => {};
    const timeout = new Promise<never>((_, reject) => {
      if (fault === "has no timeout") return;
      cancel = clock.setTimer(() => reject(new TrueupError("COMMIT_TIMEOUT", "too slow")), timeoutMs);
    });
    try {
      await Promise.race([write(tx, shown), timeout]);
    } finally {
      cancel();
    }
    if (tx !== lines && fault !== "settles without writing") lines.push(...tx);
    if (fault === "writes without settling") return live.map((one) => (one ? "settled" : "lost"));
    const outcomes = await session.settle(settlements);
    for (const { claim } of settlements) if (isLive(claim)) leases.delete(claim.key);
    return outcomes;
  };
  return wrapped(session as unknown as WorkSession<Tx>, {
    commit,
    async claim(request) {
      const claims = await session.claim(request);
      for (const claim of claims) leases.set(claim.key, claim.fence);
      return claims;
    },
    async settle(settlements) {
      for (const { claim } of settlements) if (isLive(claim)) leases.delete(claim.key);
      return await session.settle(settlements);
    },
  });
}
