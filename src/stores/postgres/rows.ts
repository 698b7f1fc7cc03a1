/**
 * Rows as the store contract's values, and the other way round.
 *
 * @module
 */

import type { Hint, Origin } from "../../core/event.ts";
import type {
  AppendEntry,
  AppendResult,
  Claim,
  FailureRecord,
  IndexEntry,
  Lookup,
  Settlement,
  SettleOutcome,
} from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import { booleans, longTexts, numbers, texts } from "./arrays.ts";
import type { Row } from "./database.ts";
import type { StoreTime } from "./time.ts";

/** What `CLAIM_COLUMNS` name; the last row of a call has no `n`, and says how it went. */
type ClaimRow = readonly [
  n: number | null,
  lane: number,
  id: string,
  fence: number,
  generation: number,
  attempts: number,
  lags: number,
  begun: boolean,
  forced: boolean,
  origin: Origin,
  hint: Hint | null,
  hintVersion: string | null,
  eventCount: number,
  dirtySince: number,
  ...index: IndexRow,
  events: string | null,
];

type IndexRow = readonly [
  state: IndexEntry["state"] | null,
  version: string | null,
  hash: string | null,
  rowHash: string | null,
  revision: number | null,
  evidence: number | null,
];

export interface Claimed {
  readonly claims: Claim[];
  /** Where the rings of lanes go on. */
  readonly liveAfter: number;
  readonly repairAfter: number;
  /** Lanes of which it is not known whether they are empty, since somebody was just adding to them. */
  readonly doubtful: number;
}

/** @param connection of all claims, where it is not for the last row to say */
export function toClaims(
  rows: readonly Row[],
  {
    provider,
    resource,
    connection,
  }: { readonly provider: string; readonly resource: string; readonly connection?: string },
  time: StoreTime,
): Claimed {
  const last = rows.at(-1) as ClaimRow;
  const [liveAfter, repairAfter, doubtful, storeNow] = [last[3], last[4], last[12], last[13]];
  const connections = JSON.parse(last[20] ?? "{}") as Readonly<Record<number, string>>;
  // By number, and not taken apart: there are many of both, rows and columns.
  const claims = (rows.slice(0, -1) as unknown as ClaimRow[]).map((row): Claim => {
    const claim: Omit<Claim, "events"> = {
      ref: { provider, connection: connection ?? (connections[row[1]] as string), resource, id: row[2] },
      key: row[0] as number,
      fence: row[3],
      generation: row[4],
      attempt: row[5] + 1,
      lags: row[6],
      begun: row[7],
      forced: row[8],
      lane: row[1] % 2 === 0 ? "live" : "repair",
      origin: row[9],
      hint: row[10] ?? undefined,
      hintVersion: row[11] ?? undefined,
      eventCount: row[12],
      dirtySince: time.local(row[13], storeNow),
      index: row[14] === null ? undefined : toIndex(row.slice(14, 20) as unknown as IndexRow),
    };
    return withStoredEvents(claim, eventTexts(row[20]));
  });
  return { claims, liveAfter, repairAfter, doubtful };
}

/** @param text several JSON values with commas between them */
export function eventTexts(text: string | null): string[] {
  return text === null ? [] : [`[${text}]`];
}

function toIndex([state, version, hash, rowHash, revision, evidence]: IndexRow): IndexEntry | undefined {
  if (state === null) return undefined;
  return { state, version, hash, rowHash, revision: revision ?? 0, evidence: evidence ?? 0 };
}

export function toLookup(row: Row): Lookup | undefined {
  const [n, pending, touched, ...index] = row as readonly [number | null, boolean, number, ...IndexRow];
  // A row that was only ever numbered, by a pass that saw the id, knows nothing.
  if (n === null || (touched === 0 && index[0] === null && !pending)) return undefined;
  return { key: n, index: toIndex(index), pending, touched };
}

/** The parameters of `record` for entries: a column each. */
export function indexColumns(entries: readonly (IndexEntry | null | undefined)[]): string[] {
  return [
    texts(entries, (index) => index?.state),
    texts(entries, (index) => index?.version),
    texts(entries, (index) => index?.hash),
    texts(entries, (index) => index?.rowHash),
    numbers(entries, (index) => index?.revision),
    numbers(entries, (index) => index?.evidence),
  ];
}

/** The parameters of `append` for entries, after the moment: a column each. */
export function appendColumns(
  entries: readonly AppendEntry[],
  scopes: readonly number[],
): (string | Buffer)[] {
  const perObject = new Map<string, number>();
  const seen = new Set<string>();
  const keys = entries.map(({ dedupeKey }) => (dedupeKey === undefined ? null : hex(dedupeKey)));
  const rounds = entries.map(({ ref }, i) => {
    const key = keys[i];
    if (key !== null && key !== undefined) {
      if (seen.has(key)) return -1;
      seen.add(key);
    }
    const object = `${scopes[i]}\0${ref.id}`;
    const round = perObject.get(object) ?? 0;
    perObject.set(object, round + 1);
    return round;
  });
  return [
    numbers(scopes, (scope) => scope),
    texts(entries, ({ ref }) => ref.id),
    numbers(rounds, (round) => round),
    texts(keys, (key) => key),
    longTexts(entries, ({ event }) => (event === undefined ? null : JSON.stringify(event))),
    texts(entries, ({ origin }) => origin),
    booleans(entries, ({ lane }) => lane === "repair"),
    booleans(entries, ({ force }) => force === true),
    texts(entries, ({ hint }) => hint),
    texts(entries, ({ version }) => version),
    texts(entries, (entry) => entry.versionOrder),
  ];
}

/** In the order of entries: a duplicate is told what its object is at after the entries before it. */
export function toAppendResults(
  generations: readonly number[],
  entries: readonly AppendEntry[],
): AppendResult[] {
  if (generations.every((generation) => generation >= 0)) return generations.map(accepted);
  const reached = new Map<string, number>();
  return generations.map((generation, i) => {
    const object = JSON.stringify(entries[i]?.ref);
    if (generation < 0) return { status: "duplicate", generation: reached.get(object) ?? -1 - generation };
    reached.set(object, generation);
    return accepted(generation);
  });
}

function accepted(generation: number): AppendResult {
  return { status: "accepted", generation };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

const KINDS = { done: 0, retry: 1, dead: 2 } as const;

/**
 * The parameters of `settle` for settlements that are in order, after the moment: a column each. One that says nothing of
 * any of them may be empty.
 */
export function settleColumns(settlements: readonly Settlement[], time: StoreTime): string[] {
  const unlessDone = settlements.some(({ kind }) => kind !== "done") ? settlements : [];
  return [
    numbers(settlements, ({ claim }) => claim.key),
    numbers(settlements, ({ claim }) => claim.fence),
    numbers(settlements, ({ claim }) => claim.generation),
    numbers(settlements, ({ kind }) => KINDS[kind]),
    numbers(settlements, (settlement) => restOf(settlement, time)),
    booleans(settlements, ({ claim }) => claim.index?.state === "present"),
    ...indexColumns(settlements.map((settlement) => (settlement.kind === "done" ? settlement.index : null))),
    numbers(unlessDone, (one) => (one.kind === "retry" ? one.attempts : one.claim.attempt)),
    numbers(unlessDone, (one) => (one.kind === "retry" ? one.lags : one.claim.lags)),
    booleans(unlessDone, (one) => one.kind !== "done" && one.begun),
    texts(unlessDone, (one) =>
      one.kind === "done" || one.error === undefined ? null : JSON.stringify(one.error),
    ),
  ];
}

function restOf(settlement: Settlement, time: StoreTime): number | null {
  switch (settlement.kind) {
    case "done":
      return settlement.notBefore === undefined ? null : time.delay(settlement.notBefore);
    case "retry":
      return time.delay(settlement.due);
    case "dead":
      return null;
  }
}

const OUTCOMES: readonly SettleOutcome[] = ["settled", "dirty", "lost"];

export function toOutcome(number: number): SettleOutcome {
  return OUTCOMES[number] as SettleOutcome;
}

export function toFailure(text: string): FailureRecord {
  return JSON.parse(text) as FailureRecord;
}
