import { guardsOf } from "./guards-of.ts";
import type { Mutant } from "./mutant.ts";

const RECONCILE = ["engine/reconcile", "engine/pass-guards", "core/lister", "engine/outage"];

/** Guards of passes over lists. */
export const mutants: readonly Mutant[] = [
  ...guardsOf("core/lister.ts", RECONCILE, [
    [
      "a list runs in a circle",
      `    if (page.next !== null && repeats(cycle, page.next)) {`,
      `    if (page.next !== null && repeats(cycle, page.next) && cycle.limit > 1_000) {`,
      "I10",
    ],
    [
      "what was touched while the page was under way is not seen",
      `  return {\n    mark,\n    rows:`,
      `  return {\n    mark: await request.mark(),\n    rows:`,
      "I4",
    ],
    [
      "a list that cannot be read is empty",
      `  if (rows.size === 0 && unreadable.length > 0) {`,
      `  if (rows.size < 0) {`,
      "I7",
    ],
    [
      "a cursor has any length",
      `  if (typeof next === "string" && next.length > MAX_CURSOR_LENGTH) {`,
      `  if (typeof next === "string" && next.length < 0) {`,
      "I10",
    ],
    [
      "the first of two rows of one object counts",
      `    else rows.set(row.id, row);`,
      `    else if (!rows.has(row.id)) rows.set(row.id, row);`,
      "I4",
    ],
    [
      "an empty cursor is the list's end",
      `(typeof next !== "string" || next === "")`,
      `typeof next !== "string"`,
      "I7",
    ],
  ]),
  ...guardsOf("core/pass-run.ts", RECONCILE, [
    [
      "the checkpoint runs ahead of a page that fails",
      `    const { differing, settled } = await repair(context,`,
      `    Object.assign(state, after);\n    const { differing, settled } = await repair(context,`,
      "I6",
    ],
    [
      "the cursor moves on before the page's last slice",
      `      cursor: page.last ? page.next : state.cursor,`,
      `      cursor: page.next,`,
      "I6",
    ],
    [
      "the list counts as read before its last slice",
      `      phase: page.last && page.next === null ? "listed" : "list",`,
      `      phase: page.next === null ? "listed" : "list",`,
      "I6",
    ],
    [
      "an incremental list proves deletions",
      `      if (this.#pass.mode === "full")\n        await sweepDeletes`,
      `      if (this.#pass.mode !== undefined)\n        await sweepDeletes`,
      "I7",
    ],
    [
      "the watermark is that of the last page",
      `      watermark: state.watermark ?? page.asOf ?? clock.now(),`,
      `      watermark: page.asOf ?? clock.now(),`,
      "I5",
    ],
    [
      "an unreadable row is forgotten by the next page",
      `      unreadable: state.unreadable || page.unreadable.length > 0,`,
      `      unreadable: page.unreadable.length > 0,`,
      "I7",
    ],
    [
      "a pass whose cursor has expired fails for ever",
      `      if (!this.#checkpoint.resumed || !refusesCursor(thrown)) throw thrown;`,
      `      throw thrown;`,
      "I5",
    ],
    [
      "a list that ran in a circle goes on from within it",
      `      if (thrown instanceof TrueupError && thrown.code === "CURSOR_REPEATED")`,
      `      if (thrown === null)`,
      "I5",
    ],
    [
      "what died in an outage stays dead",
      `      if (!this.#revived) await this.#reviveUnanswered();`,
      ``,
      "I5",
    ],
  ]),
  ...guardsOf("core/pass-checkpoint.ts", RECONCILE, [
    [
      "a new pass has seen what the one before saw",
      `    await this.#end(); // what an earlier pass has seen is not what this one sees`,
      ``,
      "I7",
    ],
    [
      "an incremental pass begins where the last one ended, to the millisecond",
      `    return watermark === undefined ? null : watermark - resource.overlapMs;`,
      `    return watermark === undefined ? null : watermark;`,
      "I5",
    ],
    [
      "a pass that left a gap hides it",
      `    return last !== undefined && since <= last;`,
      `    return true;`,
      "I5",
    ],
    [
      "a pass that others asked for otherwise is resumed",
      `    if (current === null || handle === undefined || since !== undefined) return this.anew();`,
      `    if (current === null || handle === undefined) return this.anew();`,
      "I6",
    ],
  ]),
  ...guardsOf("core/repair.ts", RECONCILE, [
    [
      "a row counts against work that waits",
      `  return lookup.pending || lookup.touched > mark || (lookup.index?.evidence ?? 0) > mark;`,
      `  return mark < 0;`,
      "I4",
    ],
    [
      "a row counts against what is known by newer evidence",
      `    const newer = (claim.index?.evidence ?? 0) > mark;`,
      `    const newer = mark < 0;`,
      "I4",
    ],
    [
      "what was handled during a fetch is recorded as gone",
      `index === undefined || isBusy(lookups[i], requested) ?`,
      `index === undefined ?`,
      "I4",
    ],
    [
      "a row of another version is taken for another view of the object",
      `  if (versionsDiffer(route.resource, row.evidence.version, index.version)) return;`,
      ``,
      "I5",
    ],
    [
      "an object that was touched since is handled from an old page",
      `  const claims = await record(\n    context,\n    page.mark,`,
      `  const claims = await record(\n    context,\n    Number.MAX_SAFE_INTEGER,`,
      "I4",
    ],
    [
      "the index learns from an old page",
      `    if (isUnchanged(entry) || entry.busy) continue;`,
      `    if (isUnchanged(entry)) continue;`,
      "I4",
    ],
    [
      "a pass does not remember what it saw",
      `    seen: remembers ? seen : [],`,
      `    seen: remembers ? [] : [],`,
      "I7",
    ],
    [
      "what is to be handled again is compared",
      `    const claim = all ? { ...leased, forced: true, begun: true } : leased;`,
      `    const claim = leased;`,
      "reconcile",
    ],
    [
      "what is to be handled again is compared once it has failed",
      `    const claim = all ? { ...leased, forced: true, begun: true } : leased;`,
      `    const claim = all ? { ...leased, forced: true } : leased;`,
      "I2",
    ],
    [
      "what is to be handled again is compared where it waits",
      `  if (all) await force(context, busy);`,
      `  if (all) await force(context, []);`,
      "I2",
    ],
    [
      "what is to be handled again is forgotten in a crash",
      `    all ? context.before() : context.checkpoint(),`,
      `    context.checkpoint(),`,
      "I6",
    ],
    [
      "handling everything again revives the dead",
      `    .filter((id) => !dead.has(id))`,
      `    .filter((id) => id !== "")`,
      "reconcile",
    ],
    [
      "what a feed says is deleted is not learned where no handler runs",
      `  await forgetGone(context, await presentOf(context, page.deleted));`,
      ``,
      "I7",
    ],
    [
      "a feed's deletions of unknown objects are fetched",
      `  return named.filter((_, i) => lookups[i]?.index?.state === "present");`,
      `  return named.filter((_, i) => lookups[i] !== null);`,
      "I10",
    ],
    [
      "a deletion is believed without a fetch",
      `    const index = result?.kind === "gone" ? indexOf(result, route, requested) : undefined;`,
      `    const index = result === undefined ? undefined : indexOf({ kind: "gone" }, route, requested);`,
      "I7",
    ],
  ]),
  ...guardsOf("core/pass.ts", RECONCILE, [
    [
      "what others handled otherwise counts as handled again",
      `  return handle === asked ? asked : undefined;`,
      `  return asked;`,
      "I2",
    ],
    [
      "a pass that was to hand over everything forgets it",
      `return handle === "all" ? "all" : "changed";`,
      `return "changed";`,
      "I2",
    ],
  ]),
  ...guardsOf("core/delete-sweep.ts", RECONCILE, [
    [
      "a list that shrank too much is believed",
      `  if (!(await listIsCredible(context))) return;`,
      `  await listIsCredible(context);`,
      "I7",
    ],
    ["a list with unreadable rows proves deletions", `  if (state.unreadable) return false;`, ``, "I7"],
    [
      "an empty list proves deletions",
      `  const emptied = state.counts.listed === 0 && route.resource.shrinkGuard !== false;`,
      `  const emptied = state.counts.listed < 0 && route.resource.shrinkGuard !== false;`,
      "I7",
    ],
    [
      "what came after the pass began is swept",
      `{ mark: state.startMark, after: after ?? undefined, limit }`,
      `{ mark: Number.MAX_SAFE_INTEGER, after: after ?? undefined, limit }`,
      "I7",
    ],
    [
      "the sweep moves on before its candidates are recorded",
      `    await (context.indexOnly ? forgetGone(context, ids) : repairCandidates(context, ids));`,
      `    state.sweptTo = last.position;
    await (context.indexOnly ? forgetGone(context, ids) : repairCandidates(context, ids));`,
      "I6",
    ],
  ]),
  ...guardsOf(
    "core/scope-lock.ts",
    ["core/scope-lock", "engine/reconcile"],
    [
      [
        "who lost the lock lists on",
        `            if (renewed === undefined)
              lost.abort(new TrueupError("LEASE_LOST", \`another process took over \${name}\`));`,
        `            if (renewed === undefined) held = false;`,
        "I6",
      ],
      [
        "two passes of one process run at once",
        `    for (let held = this.#held.get(name); held`,
        `    for (let held = this.#held.get(""); held`,
        "I6",
      ],
      ["a lock is not renewed", `    renewLater();\n    try {`, `    try {`, "I6"],
      [
        "a lock is not given back",
        `      await store.unlock(lock).catch(() => {}); // it ends by itself`,
        ``,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/scheduler.ts",
    ["core/scheduler"],
    [
      [
        "what another process ran runs again",
        `    if (last === undefined || last + schedule.everyMs <= now) return true;`,
        `    if (last !== null) return true;`,
        "I10",
      ],
      [
        "a paused connection is listed",
        `      if (paused !== undefined) {`,
        `      if (paused === null) {`,
        "I10",
      ],
      [
        "a pass runs beside itself",
        `      if (job.running || job.nextAt > clock.now()`,
        `      if (job.nextAt > clock.now()`,
        "I6",
      ],
      [
        "a provider whose connections cannot be listed loses its passes",
        `        for (const [key, job] of this.#jobs) if (job.schedule === schedule) found.add(key);`,
        ``,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/verifier.ts",
    ["engine/reconcile", "engine/pass-guards"],
    [
      [
        "a list with unreadable rows proves that nothing differs",
        `    if (unreadable !== undefined) {`,
        `    if (unreadable === null) {`,
        "I7",
      ],
      [
        "what a list lacks is extra without a fetch",
        `        if (result.kind !== "gone") continue;`,
        ``,
        "I7",
      ],
      [
        "a failed fetch proves something",
        `        if (result.kind === "error") throw result.error;`,
        ``,
        "I7",
      ],
    ],
  ),
  ...guardsOf(
    "core/adopt.ts",
    ["engine/pass-guards"],
    [
      [
        "adopted rows outlive what comes later",
        `  const evidence = await store.counter(scope);`,
        `  const evidence = Number.MAX_SAFE_INTEGER;`,
        "I4",
      ],
      [
        "an adopted row takes the place of what was in work",
        `    return !isBusy(lookup, index.evidence) && !knowsMore(`,
        `    return !knowsMore(`,
        "I4",
      ],
      ["an adopted row that says less is believed", `  if (row.version === null) return true;\n`, ``, "I4"],
    ],
  ),
  ...guardsOf(
    "core/fetcher.ts",
    ["core/fetcher", "engine/failures"],
    [
      [
        "another object than was asked for is believed",
        `    if (id !== expected.id) {`,
        `    if (id === "") {`,
        "I4",
      ],
      [
        "an answer gives no slot back",
        `      (value) => {\n        slots.release();`,
        `      (value) => {`,
        "I5",
      ],
      [
        "a failure gives no slot back",
        `      (thrown: unknown) => {\n        slots.release();`,
        `      (thrown: unknown) => {`,
        "I5",
      ],
      [
        "a call waits for no slot",
        `slots.acquire().then(() => this.#ask(asked, call))`,
        `this.#ask(asked, call)`,
        "I10",
      ],
      [
        "a batch's missing status means that its objects are gone",
        `        { scope, lane, objects: ids.length, what: () => \`\${ids.length} objects\`, gone: [], onRequest },`,
        `        { scope, lane, objects: ids.length, what: () => \`\${ids.length} objects\`, gone: resource.gone, onRequest },`,
        "I7",
      ],
      [
        "what a batch leaves out is gone",
        `    return Promise.all(ids.map(async (id) => found.get(id) ?? single(id)));`,
        `    return Promise.all(ids.map(async (id) => found.get(id) ?? { kind: "gone" as const }));`,
        "I7",
      ],
    ],
  ),
];
