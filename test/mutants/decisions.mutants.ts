import { guardsOf } from "./guards-of.ts";
import type { Mutant } from "./mutant.ts";

const VERDICT = ["core/verdict", "core/verdict-memory", "engine/freshness"];
const RETRY = ["core/retry", "engine/outage", "engine/failures"];

/** Guards in the decisions of the core. */
export const mutants: readonly Mutant[] = [
  ...guardsOf("core/verdict.ts", VERDICT, [
    [
      "a gone object is believed right after its announcement",
      `  if (claim.hint !== "upsert") return undefined;`,
      `  if (claim.hint !== null) return undefined;`,
      "I13",
    ],
    [
      "an event from before a known deletion doubts it",
      `    if (order !== undefined && order <= 0) return undefined;`,
      ``,
      "I13",
    ],
    [
      "an older version than was handed over is applied",
      `    index?.state === "present" && (compare(index.version) ?? 0) < 0 && !sameContent(index, evidence);`,
      `    index === null;`,
      "I4",
    ],
    [
      "an older version is a regression though its content is the same",
      ` && !sameContent(index, evidence);\n  const behindTombstone`,
      `;\n  const behindTombstone`,
      "I4",
    ],
    [
      "an object behind its tombstone is applied",
      `index?.state === "gone" && !((compare(index.version) ?? 0) > 0);`,
      `index === null;`,
      "I4",
    ],
    [
      "an object is believed right after its deletion was announced",
      `  if (claim.hint === "delete" && !((againstHint ?? 0) > 0)) {`,
      `  if (claim.hint === null) {`,
      "I13",
    ],
    [
      "a newer version than the announced deletion is doubted",
      `  if (claim.hint === "delete" && !((againstHint ?? 0) > 0)) {`,
      `  if (claim.hint === "delete") {`,
      "I13",
    ],
    [
      "an older version than announced is applied",
      `  if (claim.hint !== "delete" && againstHint !== undefined && againstHint < 0) {`,
      `  if (claim.hint === null) {`,
      "I13",
    ],
    [
      "an object without its announced version is applied",
      `  return resource.versionOf !== undefined && evidence.version === null && claim.hintVersion !== undefined;`,
      `  return resource === null && evidence.version === null && claim.hintVersion !== undefined;`,
      "I13",
    ],
    [
      "an API that contradicts is never believed",
      `  if (waited >= freshness.believeAfterMs) return undefined;`,
      ``,
      "I4",
    ],
    [
      "the last question to a lagging API comes late",
      `  return Math.min(freshness.firstRetryMs * 2 ** lags, freshness.believeAfterMs - waited);`,
      `  return freshness.firstRetryMs * 2 ** lags;`,
      "I13",
    ],
    [
      "a regression is handed over as if it were none",
      `  return judgeObject(resource, claim, evidence, doubt?.regressed === true);`,
      `  return judgeObject(resource, claim, evidence, doubt === null);`,
      "I4",
    ],
    [
      "a deletion that a handler may have begun is forgotten",
      `  if (index?.state === "present" || claim.forced || claim.begun) {`,
      `  if (index?.state === "present" || claim.forced) {`,
      "I5",
    ],
    [
      "a tombstone takes the lower version",
      `    version: latest(resource, claim.hintVersion ?? null, index?.version ?? null),`,
      `    version: index?.version ?? claim.hintVersion ?? null,`,
      "I4",
    ],
    [
      "a tombstone is forgotten by the next look",
      `  return { kind: "unchanged", index: index === undefined && !announced ? null : tombstone };`,
      `  return { kind: "unchanged", index: announced ? tombstone : null };`,
      "I4",
    ],
    [
      "a deletion of what nobody knew leaves no tombstone",
      `  return { kind: "unchanged", index: index === undefined && !announced ? null : tombstone };`,
      `  return { kind: "unchanged", index: index === undefined ? null : tombstone };`,
      "I4",
    ],
    [
      "an announcement at the end of another's schedule gets no time of its own",
      `  return left > 0 ? Math.min(Math.max(freshness.firstRetryMs, age), left) : undefined;`,
      `  return undefined;`,
      "I13",
    ],
    [
      "an API that is always behind is waited for as long as events come",
      `  if (lagDelay(Math.floor(claim.lags / 2), freshness) === undefined) return undefined;`,
      ``,
      "I13",
    ],
    [
      "a change that a handler may have begun counts as none",
      `  if (!claim.forced && !claim.begun && index?.state === "present") {`,
      `  if (!claim.forced && index?.state === "present") {`,
      "I5",
    ],
    [
      "a forced change counts as none",
      `  if (!claim.forced && !claim.begun && index?.state === "present") {`,
      `  if (!claim.begun && index?.state === "present") {`,
      "trigger",
    ],
    [
      "an equal version is believed against an event",
      `    const quiet = claim.eventCount === 0;`,
      `    const quiet = claim.eventCount >= 0;`,
      "I5",
    ],
    [
      "an equal version is believed against the content",
      `  if (hash !== null || rowHash !== null) return false;`,
      ``,
      "I5",
    ],
    [
      "what is known of a list's row outlives its content",
      `  const keep = index?.state === "present" && sameContent(index, evidence);`,
      `  const keep = index?.state === "present";`,
      "I5",
    ],
    ["an older row is applied", `  if (order !== undefined && order < 0) return "regressed";`, ``, "I4"],
    [
      "a row revives what was deleted",
      `  if (index.state === "gone") return order !== undefined && order > 0 ? "missing" : "regressed";
  if (index.revision !== resource.revision) {`,
      `  if (index.state === "gone") return "missing";
  if (index.revision !== resource.revision) {`,
      "I4",
    ],
    [
      "a summary revives what was deleted",
      `  if (index.state === "gone") return order !== undefined && order > 0 ? "missing" : "regressed";
  if (index.revision !== resource.revision && resource.onRevision`,
      `  if (index.state === "gone") return "missing";
  if (index.revision !== resource.revision && resource.onRevision`,
      "I4",
    ],
    [
      "a row of another shape is taken for a change",
      `  return comparable ? "stale" : "unclear";`,
      `  return comparable || index !== null ? "stale" : "unclear";`,
      "I4",
    ],
    [
      "a summary without a version is taken for unchanged",
      `  if (order === undefined) return version !== null && index.version !== null ? "stale" : "unclear";`,
      `  if (order === undefined) return version !== null && index.version !== null ? "stale" : "same";`,
      "I5",
    ],
  ]),
  ...guardsOf("core/retry.ts", RETRY, [
    [
      "work that ended its process is tried for ever",
      `    case "ATTEMPTS_EXHAUSTED":\n      return { kind: "dead" };`,
      `      return { kind: "dead" };`,
      "I10",
    ],
    [
      "work that lost a lock counts as lost, and stays leased",
      `      return { kind: "retry", delayMs: backoff(1, policy, random), counts: false };`,
      `      return { kind: "lost" };`,
      "I5",
    ],
    ["who lost the store settles", `    case "STORE_LOST":\n      return { kind: "lost" };`, ``, "I3"],
    ["attempts have no end", `      if (attempt >= policy.attempts) return { kind: "dead" };`, ``, "I10"],
    [
      "an outage uses attempts up",
      `      if (unanswered > policy.attempts) return { kind: "pause", why: "unreachable" };`,
      ``,
      "I5",
    ],
    [
      "what the schema refuses is tried again",
      `  if (error instanceof SchemaError) return { kind: "dead" };`,
      ``,
      "I10",
    ],
    [
      "an answer's header decides how long work waits",
      `  return Math.min(Math.ceil(delayMs), MAX_DELAY_MS);`,
      `  return Math.ceil(delayMs);`,
      "I10",
    ],
    [
      "the backoff grows without end",
      `  const ceiling = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(attempt - 1, 40));`,
      `  const ceiling = policy.minDelayMs * 2 ** Math.min(attempt - 1, 40);`,
      "I10",
    ],
    ["refused credentials use attempts up", `    case "UNAUTHORIZED":\n`, ``, "I13"],
    [
      "held-back deletions use attempts up",
      `      return { kind: "retry", delayMs: policy.maxDelayMs, counts: false };`,
      `      return { kind: "retry", delayMs: policy.maxDelayMs, counts: true };`,
      "I7",
    ],
    [
      "an unreadable error is passed on",
      `  for (const part of ["name", "message", "stack", "cause", "code"]) Reflect.get(thrown, part);`,
      ``,
      "I2",
    ],
  ]),
  ...guardsOf(
    "core/version.ts",
    ["core/version", "core/fuzz"],
    [
      [
        "a version of any length is kept",
        `      if (text.length > MAX_VERSION_LENGTH) {`,
        `      if (text.length < 0) {`,
        "I10",
      ],
      [
        "versions of different kinds are ordered",
        `  if (left === null || right === null || left[0] !== right[0]) return undefined;`,
        `  if (left === null || right === null) return undefined;`,
        "I4",
      ],
      [
        "an order that says nothing counts as equal",
        `    return order === undefined || Number.isNaN(order) ? undefined : order;`,
        `    return order;`,
        "I4",
      ],
      [
        "a day that does not exist is an instant",
        `  if (new Date(date).getUTCDate() !== Number(date.slice(8))) return null;`,
        ``,
        "I4",
      ],
    ],
  ),
  ...guardsOf(
    "core/hint.ts",
    ["core/hint", "stores/sqlite"],
    [
      [
        "an older announcement replaces a newer one",
        `  if (ordered && (later.order ?? "") < (earlier.order ?? "")) return earlier;`,
        ``,
        "I13",
      ],
      [
        "an announcement that says nothing takes the one before away",
        `  if (later.version === null) return { ...earlier, hint: later.hint ?? earlier.hint };`,
        `  if (later.version === null) return { ...earlier, hint: later.hint };`,
        "I13",
      ],
    ],
  ),
  ...guardsOf(
    "core/content.ts",
    ["core/content"],
    [
      [
        "another order of keys is another content",
        `  for (const key of sorted(Object.keys(record))) {`,
        `  for (const key of Object.keys(record)) {`,
        "I9",
      ],
      [
        "a bigint is the string of its digits",
        '      return `#${value}`;\n    case "object":',
        '      return JSON.stringify(String(value));\n    case "object":',
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "core/shrink-guard.ts",
    ["core/shrink-guard", "engine/reconcile"],
    [
      [
        "any number of deletions is believed",
        `  return Math.max(resource.shrinkGuard.count, Math.floor(resource.shrinkGuard.share * indexed));`,
        `  return indexed + Infinity;`,
        "I7",
      ],
      [
        "one object that is there clears the suspicion",
        `    suspicion.gone -= PRESENT_WEIGHT;`,
        `    suspicion.gone = 0;`,
        "I7",
      ],
      [
        "the share is of what the deletions have left",
        `    suspicion.indexed ??= await countIndexed();`,
        `    suspicion.indexed = await countIndexed();`,
        "I7",
      ],
      [
        "scopes share their suspicion",
        "  return `${routeOf(scope)} ${scope.connection}`;",
        "  return routeOf(scope);",
        "I7",
      ],
    ],
  ),
  ...guardsOf(
    "core/pass.ts",
    ["core/pass", "engine/reconcile"],
    [
      [
        "a circle of cursors is only found at its first one",
        `    cycle.anchor = cursor;\n    cycle.steps = 0;`,
        `    cycle.anchor ??= cursor;\n    cycle.steps = 0;`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/event.ts",
    ["core/event"],
    [
      [
        "parts of a dedupe key run into each other",
        "    `${id.length}:${id}${eventId.length}:${eventId}`;",
        "    `${id}${eventId}`;",
        "I9",
      ],
      ["connections share their event ids", "${connection.length}:${connection}", "", "I9"],
      [
        "objects share their event ids",
        "    `${id.length}:${id}${eventId.length}:${eventId}`;",
        "    `${eventId.length}:${eventId}`;",
        "I9",
      ],
      [
        "an event's data has any size",
        `  if (Buffer.byteLength(json) > maxBytes) stored.dataDropped = true;`,
        `  if (Buffer.byteLength(json) < 0) stored.dataDropped = true;`,
        "I10",
      ],
      [
        "an id that has lost digits names an object",
        `  if (typeof id === "number" && !Number.isSafeInteger(id)) {`,
        `  if (typeof id === "number" && Number.isNaN(id)) {`,
        "I9",
      ],
      [
        "an id has any length",
        ` || text === "" || text.length > MAX_ID_LENGTH) {`,
        ` || text === "") {`,
        "I10",
      ],
      [
        "an id may have a NUL or half a character",
        `  if (!text.isWellFormed() || text.includes("\\0")) {`,
        `  if (text === "\\0") {`,
        "I9",
      ],
    ],
  ),
];
