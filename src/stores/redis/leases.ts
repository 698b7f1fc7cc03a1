/**
 * Leases as scripts take and void them, and claims as they answer with them.
 *
 * @module
 */

import type { Random } from "../../core/clock.ts";
import type { Hint, Origin, StoredEvent } from "../../core/event.ts";
import type { Claim } from "../../core/store.ts";
import { type IndexParts, toIndex } from "./index-text.ts";

/** How many leases one script voids. */
export const VOIDED_AT_ONCE = 500;

/**
 * For scripts. A lease names its session and ticket: a session has a ticket for each of its claims, in their order. One
 * that comes out of order is a claim that was given up, or one that a client sent twice: it leases nothing.
 */
export const LEASES = String.raw`
local function isLive(session) return call('ZSCORE', SESSIONS, session) end

local function useTicket(session, ticket)
  local latest = tonumber(call('HGET', TICKETS, session) or 0)
  if ticket <= latest then return false end
  put(TICKETS, session, ticket)
  return true
end

-- Claims as they are answered: of each object its connection, its field, its record as it stands, and how many of its
-- events follow it.
local function claimsOf(connections, fields)
  local records, seqs, counts = gather('HMGET', OBJECTS, fields), {}, {}
  for i, record in ipairs(records) do
    local before = #seqs
    for seq in string.gmatch(string.match(record, '"seqs":%[([%d,]+)%]') or '', '%d+') do seqs[#seqs + 1] = seq end
    counts[i] = #seqs - before
  end
  local events, answer, next = gather('HMGET', EVENTS, seqs), {}, 0
  for i, record in ipairs(records) do
    answer[#answer + 1] = connections[i]
    answer[#answer + 1] = fields[i]
    answer[#answer + 1] = record
    answer[#answer + 1] = counts[i]
    for _ = 1, counts[i] do
      next = next + 1
      answer[#answer + 1] = events[next] -- false, if it has expired
    end
  end
  return answer
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

/** What leases objects answers: their fence, what moments of theirs have to be moved back by, and `claimsOf` them. */
export type ClaimsReply = readonly [
  fence: number,
  shift: number,
  claims: readonly (string | number | null)[],
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
}

/** Objects are numbered within their scope. */
const OBJECTS_PER_SCOPE = 2 ** 32;

export function objectKey(field: string, n: number): number {
  return Number(field.slice(0, field.indexOf(":"))) * OBJECTS_PER_SCOPE + n;
}

export function toClaims(
  [fence, shift, parts]: ClaimsReply,
  { provider, resource }: { readonly provider: string; readonly resource: string },
): Claim[] {
  const claims: Claim[] = [];
  for (let at = 0; at < parts.length;) {
    const [connection, field, text, eventCount] = parts.slice(at, (at += 4)) as [
      string,
      string,
      string,
      number,
    ];
    const events: StoredEvent[] = [];
    for (const end = at + eventCount; at < end; at += 1) {
      const event = parts[at] as string | null;
      if (event !== null) events.push(JSON.parse(event) as StoredEvent);
    }
    const record = JSON.parse(text) as DirtyRecord;
    claims.push({
      ref: { provider, connection, resource, id: field.slice(field.indexOf(":") + 1) },
      key: objectKey(field, record.n),
      fence,
      generation: record.generation,
      attempt: (record.attempts ?? 0) + 1,
      lags: record.lags ?? 0,
      begun: record.begun === 1,
      forced: record.forced !== undefined,
      lane: record.lane % 2 === 1 ? "repair" : "live",
      origin: record.origin,
      hint: record.hint,
      hintVersion: record.version,
      events,
      eventCount: record.events ?? 0,
      dirtySince: record.dirty - shift,
      index: record.index === undefined ? undefined : toIndex(record.index),
    });
  }
  return claims;
}
