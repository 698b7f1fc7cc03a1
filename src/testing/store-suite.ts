/**
 * The conformance suite of the store contract (`src/core/store.ts`): what it says, as tests.
 *
 * @module
 */

import { appendTopic } from "./store-suite/append.ts";
import { claimTopic } from "./store-suite/claim.ts";
import { commitTopic } from "./store-suite/commit.ts";
import { connectionTopic } from "./store-suite/connections.ts";
import { deadLetterTopic } from "./store-suite/dead-letters.ts";
import { eventTopic } from "./store-suite/events.ts";
import { type Need, StoreTest, type StoreSuiteOptions, type TestRunner } from "./store-suite/fixture.ts";
import { indexTopic } from "./store-suite/object-index.ts";
import { namedTopic } from "./store-suite/named.ts";
import { ownershipTopic } from "./store-suite/ownership.ts";
import { passTopic } from "./store-suite/passes.ts";
import { pauseTopic } from "./store-suite/pauses.ts";
import { reopeningTopic } from "./store-suite/reopening.ts";
import { sharingTopic } from "./store-suite/sharing.ts";
import { settleTopic } from "./store-suite/settle.ts";

const topics = [
  appendTopic,
  eventTopic,
  claimTopic,
  settleTopic,
  commitTopic,
  passTopic,
  indexTopic,
  namedTopic,
  pauseTopic,
  connectionTopic,
  deadLetterTopic,
  reopeningTopic,
  ownershipTopic,
  sharingTopic,
];

/**
 * Tests a store against the whole contract. Each test makes a store of its own and moves its time by hand with a
 * {@link TestClock}: a store must take time from the clock that `open` hands it, and from nowhere else.
 *
 * Guarantees that a store does not give are not asked of it: the tests that need them are reported as skipped, with
 * the reason (where the runner cannot skip, they pass without doing anything). A guarantee that is given has to be
 * proved: a durable store without `reopen`, or a transactional one without `transaction`, fails.
 *
 * @example
 * import { describe, it } from "node:test";
 * import { testStore } from "trueup/testing";
 *
 * testStore({ describe, it }, { create: () => myStore() });
 */
export function testStore<Tx = never>(runner: TestRunner, options: StoreSuiteOptions<Tx>): void {
  for (const topic of topics) {
    runner.describe(topic.name, () => {
      topic.define<Tx>((name, body, ...needs) => {
        // A rest parameter: runners that count parameters would take a first one for a callback.
        runner.it(name, async function run(this: unknown, ...context: unknown[]) {
          await runTest(options, body, needs, (reason) => skip([context[0], this], reason));
        });
      });
    });
  }
}

async function runTest<Tx>(
  options: StoreSuiteOptions<Tx>,
  body: (test: StoreTest<Tx>) => Promise<void>,
  needs: readonly Need[],
  skipTest: (reason: string) => void,
): Promise<void> {
  const test = await StoreTest.start(options);
  try {
    const reason = test.missing(needs);
    if (reason !== undefined) {
      skipTest(reason);
      return;
    }
    await test.open();
    await body(test);
  } finally {
    await test.end();
  }
}

/** Test contexts that can skip: the first argument (vitest, node:test) or `this` (mocha). Some throw to do it. */
function skip(contexts: readonly unknown[], reason: string): void {
  for (const context of contexts) {
    const { skip: skipIt } = (context ?? {}) as { skip?: unknown };
    if (typeof skipIt === "function") {
      (skipIt as (this: unknown, reason: string) => void).call(context, reason);
      return;
    }
  }
}
