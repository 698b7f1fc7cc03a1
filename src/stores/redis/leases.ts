/**
 * Leases as scripts take and void them, and claims as they answer with them.
 *
 * @module
 */

import type { Hint, Origin, Scope, StoredEvent } from "../../core/event.ts";
import type { Claim, IndexEntry } from "../../core/store.ts";
import { toIndex } from "./index-text.ts";

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

-- Reads the newest events of a chain, at most so many, and gives them oldest first.
local function newestEvents(head, most)
  local found = {}
  while head and #found < most do
    local event = call('HGET', EVENTS, head)
    if not event then break end
    local space = string.find(event, ' ', 1, true)
    table.insert(found, 1, string.sub(event, space + 1))
    head = string.sub(event, 1, space - 1)
    if head == '0' then head = nil end
  end
  return found
end

-- Leases an object, and gives what its claim says.
local function lease(field, session, ticket, fence, most)
  local o = change(field)
  o.lease, o.fence = session .. ':' .. ticket, fence
  return { field, o.n, fence, o.generation, (o.attempts or 0) + 1, o.lags or 0, o.begun or 0,
    (o.forced or 0) > 0 and 1 or 0, o.lane % 2, o.origin, o.hint or false, o.version or false, o.events or 0,
    format('%.0f', o.dirty - shift), o.index or false, o.head and newestEvents(o.head, most) or {} }
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
  local fields = {}
  for i, member in ipairs(range(LEASES, holder, limit)) do fields[i] = string.match(member, '^[^:]*:%d+:(.*)$') end
  if #fields == 0 then return 0 end
  load(fields)
  local touched = tick()
  for _, field in ipairs(fields) do
    local o = change(field)
    local since = endLease(o)
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
`;

/** How many leases one script voids. */
export const VOIDED_AT_ONCE = 500;

/** A claim as `lease` gives it. */
export type ClaimReply = readonly [
  field: string,
  n: number,
  fence: number,
  generation: number,
  attempt: number,
  lags: number,
  begun: 0 | 1,
  forced: 0 | 1,
  repair: 0 | 1,
  origin: Origin,
  hint: Hint | null,
  version: string | null,
  eventCount: number,
  dirtySince: string,
  index: string | null,
  events: readonly string[],
];

/** Objects are numbered within their scope. */
const OBJECTS_PER_SCOPE = 2 ** 32;

export function objectKey(field: string, n: number): number {
  return Number(field.slice(0, field.indexOf(":"))) * OBJECTS_PER_SCOPE + n;
}

export function toClaim(reply: ClaimReply, scope: Scope): Claim {
  const [field, n, fence, generation, attempt, lags, begun, forced, repair, origin] = reply;
  const [, , , , , , , , , , hint, version, eventCount, dirtySince, index, events] = reply;
  const { provider, connection, resource } = scope;
  return {
    ref: { provider, connection, resource, id: field.slice(field.indexOf(":") + 1) },
    key: objectKey(field, n),
    fence,
    generation,
    attempt,
    lags,
    begun: begun === 1,
    forced: forced === 1,
    lane: repair === 1 ? "repair" : "live",
    origin,
    hint: hint ?? undefined,
    hintVersion: version ?? undefined,
    events: events.map((event) => JSON.parse(event) as StoredEvent),
    eventCount,
    dirtySince: Number(dirtySince),
    index: toIndexOrNothing(index),
  };
}

function toIndexOrNothing(text: string | null): IndexEntry | undefined {
  return text === null ? undefined : toIndex(text);
}
