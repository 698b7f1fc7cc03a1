import { guardsOf } from "./guards-of.ts";
import type { Mutant } from "./mutant.ts";

/** Guards on the path from an event to its handling. */
export const mutants: readonly Mutant[] = [
  ...guardsOf(
    "core/intake.ts",
    ["engine/broker", "engine/volatile", "engine/path"],
    [
      [
        "a store that keeps nothing is answered for at once",
        `        store.guarantees.durability !== "none" ||`,
        `        store.guarantees.durability !== "disk" ||`,
        "I1",
      ],
      [
        "what is not handled in time is answered for",
        `safe ? outcome : tooLate(outcome)`,
        `safe ? outcome : outcome`,
        "I1",
      ],
      [
        "an older handling answers for a newer event",
        `      if (waiter.generation > claim.generation) continue;`,
        ``,
        "I1",
      ],
      [
        "a duplicate of what is handled is waited for",
        `      if (generation === 0) return; // a duplicate of something that was handled`,
        ``,
        "I1",
      ],
      [
        "no event is told apart by its id",
        `dedupeKey: event.id === undefined ? undefined : dedupeKey(ref, event.id),`,
        `dedupeKey: undefined,`,
        "I9",
      ],
      [
        "events of one delivery are each other's duplicates",
        "          : `${delivery.deliveryId}#${i}`;",
        "          : delivery.deliveryId;",
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/task.ts",
    ["engine/attempts", "engine/failures", "engine/freshness", "engine/reconcile"],
    [
      [
        "a deletion that nobody announced is not counted",
        `        if (verdict.change === "delete") await this.#refuseMassDelete(route, claim);`,
        ``,
        "I7",
      ],
      [
        "a deletion that an event announced is suspicious",
        `    if (claim.hint === "delete" || claim.forced || claim.origin === "reconcile") return;`,
        `    if (claim.forced || claim.origin === "reconcile") return;`,
        "I7",
      ],
      [
        "an object that is there clears no suspicion",
        `    if (result.kind === "object") guard.present(claim.ref);`,
        ``,
        "I7",
      ],
      [
        "an answer does not end the outage",
        `    pauses.answered(claim.ref.provider, claim.ref.connection);`,
        ``,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/task.ts",
    ["engine/lifecycle", "engine/commit", "stores/sqlite-processes"],
    [
      [
        "a lost lease is reported as handled",
        `      if (outcome === "lost") return { kind: "lost" };`,
        ``,
        "I3",
      ],
    ],
  ),
  ...guardsOf(
    "core/ending.ts",
    ["engine/attempts", "engine/failures", "engine/freshness"],
    [
      [
        "a question to a lagging API is an attempt",
        `      attempts: claim.attempt - 1,\n      lags: claim.lags + 1,`,
        `      attempts: claim.attempt,\n      lags: claim.lags + 1,`,
        "I13",
      ],
      [
        "questions to a lagging API are not counted",
        `      lags: claim.lags + 1,\n      begun: claim.begun,`,
        `      lags: claim.lags,\n      begun: claim.begun,`,
        "I13",
      ],
      [
        "a handler that may have begun is forgotten",
        `    const kept = { lags: claim.lags, begun: claim.begun || begun };`,
        `    const kept = { lags: claim.lags, begun: claim.begun };`,
        "I5",
      ],
      [
        "a pause is an attempt",
        `          attempts: attempt - 1,\n          error: this.#record(claim, error),`,
        `          attempts: attempt,\n          error: this.#record(claim, error),`,
        "I13",
      ],
      [
        "a failure that is no attempt counts",
        `          attempts: after.counts ? attempt : attempt - 1,`,
        `          attempts: attempt,`,
        "I13",
      ],
      [
        "a handler's network errors are the API's outage",
        `    const unanswered = !begun && isUnanswered(error) ?`,
        `    const unanswered = isUnanswered(error) ?`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/ending.ts",
    ["engine/crash-attempts", "engine/lifecycle", "engine/commit", "stores/sqlite-processes"],
    [
      [
        "nobody hears of a lost lease",
        `    if (outcome === "lost") this.#lost(claim);
    else this.#over(route, claim, outcome, notBefore);`,
        `    this.#over(route, claim, outcome, notBefore);`,
        "I3",
      ],
      [
        "work that ends its process has any number of attempts",
        `    return claim.attempt > this.#options.limits.retry.attempts;`,
        `    return claim.attempt < 0;`,
        "I10",
      ],
      [
        "a stopped engine's work loses an attempt",
        `    const how = { due, attempts: attempt - 1, lags, begun: claim.begun || begun };`,
        `    const how = { due, attempts: attempt, lags, begun: claim.begun || begun };`,
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/settler.ts",
    ["core/settler"],
    [
      [
        "work that is done is given up for a hiccup of the store",
        `        if (ended.aborted || (error instanceof TrueupError && error.code === "STORE_LOST")) break;`,
        `        if (error instanceof Error) break;`,
        "I2",
      ],
      [
        "what could not be settled counts as settled",
        `    return settlements.map(() => "lost" as const);`,
        `    return settlements.map(() => "settled" as const);`,
        "I3",
      ],
    ],
  ),
  ...guardsOf(
    "core/change.ts",
    ["core/handling", "core/handling-batch", "engine/commit"],
    [
      ["a second commit is made", `    if (this.#used)\n`, `    if (this.#used === undefined)\n`, "I3"],
      [
        "a handler commits after its end",
        `    if (this.#closed || signal.aborted)`,
        `    if (signal.aborted)`,
        "I3",
      ],
      [
        "a handler commits after its time",
        `    if (this.#closed || signal.aborted)`,
        `    if (this.#closed)`,
        "I3",
      ],
      [
        "changes of others are among the live ones",
        `        live = tasks.filter((_, i) => alive[i]);`,
        `        live = tasks.filter((_, i) => i >= 0 || alive[i]);`,
        "I3",
      ],
      [
        "a commit that nobody awaited is not waited for",
        `    return this.#underWay;`,
        `    return undefined;`,
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/handling.ts",
    ["core/handling", "core/handling-batch", "engine/commit"],
    [
      [
        "committed work whose handler failed afterwards is done again",
        `    if (!commits.committed.has(task)) return { ok: false, error };`,
        `    return { ok: false, error };`,
        "I2",
      ],
      [
        "who was not among the live ones of a commit is settled",
        `  if (commits.lost.has(task))`,
        `  if (commits.lost === undefined)`,
        "I3",
      ],
      [
        "what failed by name is committed with its batch",
        `        tasks.filter((task) => !results.has(task)),`,
        `        tasks.filter((task) => task !== null),`,
        "I2",
      ],
      [
        "one bad change fails its batch",
        `  if (thrown !== undefined && (batchSize === 1 || isAbort(thrown))) return { ok: false, error: thrown };`,
        `  if (thrown !== undefined) return { ok: false, error: thrown };`,
        "I2",
      ],
      [
        "one change's own commit settles its whole batch",
        `  if (thrown === undefined && !leftOut) return { ok: true, settled: false };`,
        `  if (thrown === undefined) return { ok: true, settled: leftOut };`,
        "I2",
      ],
      [
        "a batch that was given up fails changes that are tried singly",
        `      if (signal.aborted) return; // the batch was given up: its changes are being tried singly`,
        ``,
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/commit-scope.ts",
    ["core/commit-scope", "engine/commit"],
    [
      [
        "the engine is called inside a commit",
        `  if (scope.getStore()?.open === true) {`,
        `  if (scope.getStore() === null) {`,
        "NESTED_COMMIT",
      ],
      [
        "what a commit started stays inside it",
        `    inside.open = false;`,
        `    inside.open = true;`,
        "NESTED_COMMIT",
      ],
    ],
  ),
  ...guardsOf(
    "core/worker.ts",
    ["engine/shift-guards", "engine/path", "engine/lifecycle", "engine/failures"],
    [
      [
        "a worker goes on with a store that is another's",
        `        if (error instanceof TrueupError && error.code === "STORE_LOST") {`,
        `        if (error === null) {`,
        "I3",
      ],
      [
        "a wake during a claim is lost",
        `    if (claims.length >= limit) lane.ready = true;`,
        `    lane.ready = claims.length >= limit;`,
        "I5",
      ],
      [
        "the end of a due time wakes nobody",
        `    if (due) for (const lane of this.#lanes) lane.ready = true;`,
        `    if (due) for (const lane of this.#lanes) lane.ready = lane.ready;`,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/worker.ts",
    ["core/worker"],
    [
      [
        "what waits for a slot is fetched while the engine stops",
        `    this.#giveBack(this.#lanes.flatMap((lane) => lane.withdraw()));\n`,
        ``,
        "I5",
      ],
      [
        "what was leased ahead is asked for though its connection is paused",
        `      this.#giveBack(lane.withdraw(connection));\n`,
        ``,
        "I10",
      ],
      ["what is paused goes on as fast as it went", `      lane.slowDown(now);\n`, ``, "I10"],
    ],
  ),
  ...guardsOf(
    "core/lane.ts",
    ["core/worker", "core/throughput"],
    [
      [
        "work is leased that nobody has room for",
        `    return Math.min(free, Math.max(share, ahead)) * this.#perSlot;`,
        `    return Math.max(free, 1_000) * this.#perSlot;`,
        "I10",
      ],
      [
        "work is leased ahead of a configured rate",
        `    if (provider.api?.rateLimit?.requests === undefined) this.#throughput`,
        `    this.#throughput`,
        "I10",
      ],
      [
        "all connections suffer when one is paused",
        `connection === undefined || unit.connection === connection;`,
        `connection === undefined || unit.connection !== "";`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/throughput.ts",
    ["core/throughput"],
    [
      [
        "what went fast once is leased ahead for ever",
        `    if (elapsed >= AHEAD_MS && (this.#done > 0 || elapsed >= STALE_MS)) {`,
        `    if (elapsed >= AHEAD_MS && this.#done > 0) {`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/shift-share.ts",
    ["core/shift-share"],
    [
      [
        "a shift that is over is joined",
        `        if (shift.over) continue; // its last holder left in this very moment\n`,
        ``,
        "I3",
      ],
    ],
  ),
  ...guardsOf(
    "core/shift.ts",
    ["engine/shift-guards", "engine/lifecycle"],
    [
      [
        "who lost the store at a heartbeat works on",
        `        this.lost(new TrueupError("STORE_LOST", "another process took over this store"));
        return;`,
        `        return;`,
        "I3",
      ],
    ],
  ),
  ...guardsOf(
    "core/pauses.ts",
    ["core/pauses", "engine/failures", "engine/outage"],
    [
      [
        "a shorter pause replaces a longer one",
        `      if (inForce && paused + SLACK_MS >= (until ?? Infinity)) return;`,
        ``,
        "I10",
      ],
      ["thirty refusals of one moment pause thirty times", `      if (paused > now) return;`, ``, "I10"],
      [
        "probes are further apart each time, without end",
        `      await this.#pause(provider, connection, now + Math.min(firstMs * 2 ** probes[why], mostMs), reason);`,
        `      await this.#pause(provider, connection, now + firstMs * 2 ** probes[why], reason);`,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/deadline.ts",
    ["core/deadline"],
    [
      [
        "what comes after the abort runs",
        `    if (this.#aborted !== undefined) return`,
        `    if (this.#aborted === null) return`,
        "I3",
      ],
      ["a handler's signal never aborts", `          controller.abort(reason);\n`, ``, "I3"],
      [
        "the deadline after the next is nobody's",
        `    this.#earliest = this.#running.reduce((earliest, { dueAt }) => Math.min(earliest, dueAt), Infinity);\n`,
        ``,
        "I5",
      ],
      [
        "an earlier deadline waits for a later one's timer",
        `    if (this.#running.length === 0 || (this.#timer?.at ?? Infinity) <= this.#earliest) return;`,
        `    if (this.#running.length === 0 || this.#timer !== undefined) return;`,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/hinted-pass.ts",
    ["engine/hinted-passes"],
    [
      [
        "every connection's pass runs at once",
        `if (!this.#permits.tryAcquire()) return "no room";`,
        ``,
        "I10",
      ],
      [
        "a hint is settled by the pass of another",
        `    if (report === BUSY) return false;`,
        `    if (report === BUSY) return true;`,
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/hinted-pass.ts",
    ["engine/shift-guards", "engine/lifecycle"],
    [
      ["a hint whose pass did not end is settled", `    if (!report.complete) throw stopped();`, ``, "I2"],
      [
        "a hint is settled by what was listed before it",
        `reconciler.reconcileAfter(route, scope, request, generation);`,
        `reconciler.reconcileAfter(route, scope, request, 0);`,
        "I2",
      ],
    ],
  ),
  ...guardsOf(
    "core/lifecycle.ts",
    ["engine/shift-guards", "engine/lifecycle"],
    [
      [
        "what waited for the store to open works in a stopped engine",
        `    if (this.#stop.signal.aborted) throw stopped(); // while the store was opened\n`,
        ``,
        "I10",
      ],
      [
        "a stopped engine that gets the store back works on",
        `    if (this.#stop.signal.aborted) {
      await this.#shifts.leave(shift);
      throw stopped(); // \`stop\` may have looked for work to end already
    }
`,
        ``,
        "I10",
      ],
      [
        "who lost the store never works again",
        `    shift.ended.signal.addEventListener("abort", () => void this.#regain(), { once: true });`,
        ``,
        "I5",
      ],
      [
        "an engine that stops takes events in",
        `    if (this.#stopping !== undefined) return Promise.reject(stopped());\n    if (this.#isOpen) return undefined;`,
        `    if (this.#isOpen) return undefined;`,
        "I2",
      ],
    ],
  ),
];
