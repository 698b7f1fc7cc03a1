import { AssertionError } from "node:assert";
import { Keyv } from "keyv";
import { describe, expect, it } from "vitest";
import type { Store } from "../../src/core/store.ts";
import { keyvStore } from "../../src/stores/keyv.ts";
import { type StoreSuiteOptions, testStore } from "../../src/testing/index.ts";
import { brokenStores, over } from "./broken-stores.ts";
import { type CommitFault, transactionalStore } from "./transactional-store.ts";

interface Report {
  readonly passed: string[];
  readonly skipped: string[];
  /** Failures, with the topic of each. */
  readonly failed: { readonly topic: string; readonly name: string; readonly error: unknown }[];
}

/** Runs the suite as a runner would, all tests at once: each has its own store and clock. */
async function runSuite<Tx>(options: StoreSuiteOptions<Tx>): Promise<Report> {
  const report: Report = { passed: [], skipped: [], failed: [] };
  const tests: (() => Promise<void>)[] = [];
  let topic = "";
  const runner = {
    describe(name: string, body: () => void) {
      topic = name;
      body();
    },
    it(name: string, body: (...context: unknown[]) => Promise<void>) {
      const itsTopic = topic;
      let outcome: keyof Report = "passed";
      const skip = () => {
        outcome = "skipped";
      };
      tests.push(async () => {
        try {
          await body({ skip });
          report[outcome].push(name as never);
        } catch (error) {
          report.failed.push({ topic: itsTopic, name, error });
        }
      });
    },
  };
  testStore(runner, options);
  await Promise.all(tests.map((test) => test()));
  return report;
}

/** What a suite with teeth reports: an assertion of this topic that did not hold. */
function expectCaught({ failed }: Report, topic: string): void {
  const caught = failed.filter((failure) => failure.error instanceof AssertionError);
  expect(caught.map((failure) => failure.topic)).toContain(topic);
}

describe("the store suite", () => {
  it("should pass a store that is wrapped and not broken", async () => {
    const { failed, passed, skipped } = await runSuite({ create: () => over(keyvStore(), {}) });
    expect(failed).toEqual([]);
    expect(passed.length).toBeGreaterThan(90);
    expect(skipped.length).toBeGreaterThan(10);
  });

  it.each(brokenStores)("should fail where %s", async (_what, topic, breakIt) => {
    expectCaught(await runSuite({ create: () => breakIt(keyvStore()) }), topic);
  });
});

describe("the store suite on a transactional store", () => {
  it("should pass one that keeps the contract, and skip nothing of commit", async () => {
    const { failed, skipped } = await runSuite(transactionalStore());
    expect(failed).toEqual([]);
    expect(skipped.filter((name) => name.includes("callback") || name.includes("commit"))).toEqual([]);
  });

  it.each<CommitFault>([
    "writes without settling",
    "settles without writing",
    "keeps what a failed callback wrote",
    "has no timeout",
    "calls back without a lease",
    "says that all leases are live",
  ])("should fail where commit %s", async (fault) => {
    expectCaught(await runSuite(transactionalStore(fault)), "commit");
  });

  it("should demand a proof of what a store promises", async () => {
    const { transaction: _, ...unproved } = transactionalStore();
    const { failed } = await runSuite(unproved);
    expect(failed.map((failure) => failure.topic)).toContain("commit");
  });
});

describe("the store suite on a store that lasts", () => {
  /** A store over a Map that lasts; `lose` takes something away between closing and reopening. */
  const lasting = (lose: (map: Map<string, unknown>) => void): StoreSuiteOptions => {
    const maps = new WeakMap<Store, Map<string, unknown>>();
    const overMap = (map: Map<string, unknown>) => {
      const guarantees = { durability: "process", shared: false, transactional: false } as const;
      const store = over(keyvStore(new Keyv({ store: map })), { guarantees });
      maps.set(store, map);
      return store;
    };
    return {
      create: () => overMap(new Map()),
      reopen(store) {
        const map = maps.get(store)!;
        lose(map);
        return overMap(map);
      },
    };
  };
  const losing = (kind: string) => (map: Map<string, unknown>) => {
    for (const key of map.keys()) if (key.startsWith(`trueup:${kind}`)) map.delete(key);
  };

  it("should pass one that loses nothing", async () => {
    const { failed } = await runSuite(lasting(() => {}));
    // Two Keyvs over one Map are two processes to keyvStore, and it cannot tell that the other one lives.
    expect(failed.map((failure) => failure.name)).toEqual([
      "should be refused to another instance while it is held",
    ]);
  });

  it.each([
    ["everything", ""],
    ["objects", "o"],
    ["the ledger", "d"],
    ["checkpoints", "c"],
    ["pauses", "p"],
    ["locks", "l"],
    ["what passes have seen", "s"],
    ["the counter", "m"],
  ])("should fail where a restart loses %s", async (_, kind) => {
    expectCaught(await runSuite(lasting(losing(kind))), "reopening");
  });

  it("should demand a proof of what a store promises", async () => {
    const options = lasting(() => {});
    const { failed } = await runSuite({ create: () => options.create() });
    expect(failed.map((failure) => failure.topic)).toContain("reopening");
  });
});
