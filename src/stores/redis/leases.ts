/**
 * Leases as scripts take and void them, and claims as they answer with them.
 *
 * @module
 */

import type { Random } from "../../core/clock.ts";
import type { Hint, Origin } from "../../core/event.ts";
import type { Claim } from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import { type IndexParts, toIndex } from "./index-text.ts";
import type { Link } from "./link.ts";
import type { Partition } from "./partition.ts";

/** How many leases one script voids. */
export const VOIDED_AT_ONCE = 500;

/** How many events one command asks for. */
const EVENTS_AT_ONCE = 1_000;

/**
 * For scripts. A lease names its session and ticket: a session has a ticket for each of its claims, in their order. One
 * that comes out of order is a claim that was given up, or one that a client sent twice: it leases nothing. To a lease
 * under which something was appended, a plus is added.
 */
export const LEASES = String.raw`
local function isLive(session) return call('ZSCORE', SESSIONS, session) end

local function useTicket(session, ticket)
  local latest = tonumber(call('HGET', TICKETS, session) or 0)
  if ticket <= latest then return false end
  put(TICKETS, session, ticket)
  return true
end

-- Claims as they are answered: as whose they are leased, what their moments have to be moved back by, the connections of
-- their scopes, their fields as JSON, and line by line (JSON has no line breaks of its own) their records as they stand.
-- Their events are left to whoever asks: Redis' Lua looks at each byte of each string that it is handed.
local function claimsOf(held, scopes, fields)
  if #fields == 0 then return { held, shift, scopes, '[]', '' } end
  return { held, shift, scopes, cjson.encode(fields), table.concat(gather('HMGET', OBJECTS, fields), '\n') }
end

-- A random part of a time that doubles with the attempts; none after the first.
local function spread(attempts)
  if attempts < 2 then return 0 end
  return floor(math.random() * min(60000, 1000 * 2 ^ min(attempts, 16)))
end

-- Voids some of the leases under a name: a session's (with a colon at its end), or those of one of its tickets. Those of
-- a holder that died were an attempt; and since the object may be what kills the process, one that was under way at a
-- crash before comes back alone, at a moment of its own. Those of a lost answer were none, and no handler began.
local function void(holder, how, limit)
  local fields, all = {}, call('HGETALL', LEASES)
  for i = 1, #all, 2 do
    if #fields < limit and string.sub(all[i + 1], 1, #holder) == holder then fields[#fields + 1] = all[i] end
  end
  if #fields == 0 then return 0 end
  load(fields)
  local touched = tick()
  for _, field in ipairs(fields) do
    local o = change(field)
    local since = endLease(field, o)
    if since then setHint(o, mergeHints(o, since.hint)) end
    o.touched, o.due = touched, now
    if how ~= 'unanswered' then o.begun = 1 end
    if how == 'died' then
      o.attempts = (o.attempts or 0) + 1
      o.due = now + spread(o.attempts)
    end
  end
  return #fields
end

local function endSession(session)
  write('ZREM', SESSIONS, session)
  drop(TICKETS, session)
end

-- Whoever lives finds out who has died, in slices too. To be flushed.
local function buryOthers(session, seed)
  math.randomseed(seed)
  for _, one in ipairs(call('ZRANGEBYSCORE', SESSIONS, '-inf', now, 'LIMIT', 0, 2)) do
    if one ~= session and void(one .. ':', 'died', ${VOIDED_AT_ONCE}) < ${VOIDED_AT_ONCE} then endSession(one) end
  end
end
`;

/** For what scripts leave to chance. */
export function seedFrom(random: Random): number {
  return Math.floor(random() * 2 ** 31);
}

/** What leases objects answers: see `claimsOf`. */
export type ClaimsReply = readonly [
  held: string,
  shift: number,
  scopes: readonly (string | number)[],
  fields: string,
  records: string,
];

/** What a claim is made of; see the prelude. */
interface DirtyRecord {
  readonly n: number;
  readonly index?: IndexParts;
  readonly lane: number;
  readonly dirty: number;
  readonly generation: number;
  readonly attempts?: number;
  readonly lags?: number;
  readonly begun?: 1;
  readonly forced?: number;
  readonly origin: Origin;
  readonly hint?: Hint;
  readonly version?: string;
  readonly events?: number;
  readonly seqs?: readonly number[];
}

/** Objects are numbered within their scope. */
const OBJECTS_PER_SCOPE = 2 ** 32;

export function objectKey(field: string, n: number): number {
  return Number(field.slice(0, field.indexOf(":"))) * OBJECTS_PER_SCOPE + n;
}

/** The number of an object within its scope. */
export function numberIn(key: number): number {
  return key % OBJECTS_PER_SCOPE;
}

/** What a claim can be settled with unread, while nothing has come since it was taken. */
export interface Receipt {
  readonly field: string;
  /** What stands as the object's lease. */
  readonly held: string;
  /** Its events. */
  readonly seqs: readonly number[];
  /** A copy of it is another claim: nobody knows what was changed in it. */
  claim?: Claim;
}

const RECEIPT: unique symbol = Symbol("receipt");

/** With its receipt, so that nothing has to be kept by claim and let go of. */
type LeasedClaim = Claim & { readonly [RECEIPT]?: Receipt };

export function receiptOf(claim: LeasedClaim): Receipt | undefined {
  const receipt = claim[RECEIPT];
  return receipt?.claim === claim ? receipt : undefined;
}

/** Claims, as they were answered, with the events that they have seen. */
export async function toClaims(
  link: Link,
  partition: Partition,
  [held, shift, scopes, fields, lines]: ClaimsReply,
  { provider, resource }: { readonly provider: string; readonly resource: string },
): Promise<Claim[]> {
  const names = JSON.parse(fields) as string[];
  if (names.length === 0) return [];
  const records = lines.split("\n").map((line) => JSON.parse(line) as DirtyRecord);
  const seqs = records.map((record) => (Array.isArray(record.seqs) ? (record.seqs as number[]) : [])); // Lua's empty list is an object
  const texts = await eventTexts(link, partition, seqs.flat());
  const fence = Number(held.slice(held.lastIndexOf(":") + 1));
  const connections = new Map<string, string>();
  for (let i = 0; i < scopes.length; i += 2) connections.set(String(scopes[i]), String(scopes[i + 1]));
  let next = 0;
  return names.map((field, i): Claim => {
    const [record, own] = [records[i] as DirtyRecord, seqs[i] as number[]];
    const colon = field.indexOf(":");
    const events = texts.slice(next, next + own.length).filter((text) => text !== null); // others have expired
    next += own.length;
    const receipt: Receipt = { field, held, seqs: own };
    const leased = {
      ref: {
        provider,
        connection: connections.get(field.slice(0, colon)) as string,
        resource,
        id: field.slice(colon + 1),
      },
      key: objectKey(field, record.n),
      fence,
      generation: record.generation,
      attempt: (record.attempts ?? 0) + 1,
      lags: record.lags ?? 0,
      begun: record.begun === 1,
      forced: record.forced !== undefined,
      lane: record.lane % 2 === 1 ? ("repair" as const) : ("live" as const),
      origin: record.origin,
      hint: record.hint,
      hintVersion: record.version,
      eventCount: record.events ?? 0,
      dirtySince: record.dirty - shift,
      index: record.index === undefined ? undefined : toIndex(record.index),
      [RECEIPT]: receipt,
    };
    const claim: LeasedClaim = withStoredEvents(leased, events);
    receipt.claim = claim;
    return claim;
  });
}

async function eventTexts(
  link: Link,
  partition: Partition,
  seqs: readonly number[],
): Promise<(string | null)[]> {
  const found: (string | null)[] = [];
  for (let start = 0; start < seqs.length; start += EVENTS_AT_ONCE) {
    const asked = seqs.slice(start, start + EVENTS_AT_ONCE);
    found.push(...((await link.command("HMGET", partition.key("events"), ...asked)) as (string | null)[]));
  }
  return found;
}
