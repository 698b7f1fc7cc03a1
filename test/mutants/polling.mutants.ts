import { guardsOf } from "./guards-of.ts";
import type { Mutant } from "./mutant.ts";

const POLL = ["engine/poll", "engine/poll-durable", "engine/poll-http"];
const HEALTH = ["core/delivery-health", "engine/delivery-health"];

/** Guards of polled feeds, and of what is told of deliveries. */
export const mutants: readonly Mutant[] = [
  ...guardsOf("core/feed.ts", POLL, [
    [
      "the cursor moves before its events are recorded",
      `    let accepted = 0;\n`,
      `    let accepted = 0;\n    if (answer.next !== undefined && answer.next !== cursor) await this.#remember(answer.next);\n`,
      "I6",
    ],
    [
      "a 304 alone proves that the page is recorded",
      `if (answer.notModified && !answer.expired && this.#isCommitted(cursor, fingerprint)) return false;`,
      `if (answer.notModified && !answer.expired) return false;`,
      "I5",
    ],
    [
      "a page that is not modified is recorded again",
      `if (answer.notModified && !answer.expired && this.#isCommitted(cursor, fingerprint)) return false;`,
      ``,
      "a 304 costs no work",
    ],
    [
      "a feed that leads back to where it was is followed",
      `      if (repeats(cycle, next as string)) throw this.#circle();\n`,
      ``,
      "I10",
    ],
    ["an expired cursor asks for no pass", `      await askForPasses(provider, connection);\n`, ``, "I5"],
    [
      "a feed without an end gets no pause",
      `page === MOST_PAGES_A_TURN`,
      `page === 3 * MOST_PAGES_A_TURN`,
      "I10",
    ],
    [
      "a paused connection is polled",
      `      if (pausedMs > 0) {`,
      `      if (pausedMs > Infinity) {`,
      "a pause holds",
    ],
    [
      "a failure is repeated at once",
      `    } else if (after.kind === "retry") retryInMs = Math.max(retryInMs, after.delayMs);`,
      `    } else if (after.kind === "retry") retryInMs = 0;`,
      "I10",
    ],
  ]),
  ...guardsOf("core/hinted-pass.ts", POLL, [
    [
      "a feed that lost its place brings an incremental pass",
      `forced ? "full" : route.resource.onHint`,
      `route.resource.onHint`,
      "I5",
    ],
  ]),
  ...guardsOf("core/poller.ts", POLL, [
    [
      "every process polls",
      `await this.#locks.run(this.#lock, signal, (_lock, held) => this.#keepPolling(held));`,
      `await this.#keepPolling(signal);`,
      "one process polls",
    ],
  ]),
  ...guardsOf("engine.ts", POLL, [
    [
      "a page under way outlives its forgotten connection",
      `    await Promise.all(polling.map((poller) => poller.forget(connection)));\n`,
      ``,
      "forget",
    ],
  ]),
  ...guardsOf("core/delivery-watch.ts", HEALTH, [
    [
      "what another process received does not count",
      `    await this.#recall(ref);\n    const quiet`,
      `    const quiet`,
      "no false alarm",
    ],
  ]),
  ...guardsOf("core/delivery-health.ts", HEALTH, [
    [
      "changes from before this process are missed by its webhook",
      `expected: pass.news && row.completed.has(ref.resource)`,
      `expected: pass.news`,
      "no false alarm",
    ],
    ["a first pass is news", `      if (!news) return;\n`, ``, "no false alarm"],
    [
      "connections are remembered without end",
      `if (this.#rows.size >= MOST_CONNECTIONS)`,
      `if (this.#rows.size < 0)`,
      "I10",
    ],
  ]),
];
