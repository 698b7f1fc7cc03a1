/**
 * Claiming: which objects are next, over lanes that take turns and partitions that do.
 *
 * @module
 */

import type { Random } from "../../core/clock.ts";
import { type Claim, type ClaimRequest, REPAIR_AGING_MS } from "../../core/store.ts";
import { type ClaimsReply, LEASES, seedFrom, toClaims } from "./leases.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script, urgentScript } from "./script.ts";
import type { Tickets } from "./tickets.ts";

/** So many objects of one lane are taken out of it as a run, and not one by one. */
const RUN = 4;

/** Lanes whose time has come that join the queue at one claim: a bound, not a share. */
const PROMOTIONS = 512;

const claim = urgentScript(
  String.raw`
local session, ticket, limit = argument(), number(), number()
local onlyUrgent = argument() == '1'
local route = argument() .. '\0' .. argument() .. '\0'
local seed, except = number(), {}
for i = 1, number() do except[argument()] = true end
evenWhenFull()

if not isLive(session) then return false end
if not useTicket(session, ticket) then return 0 end
buryOthers(session, seed)
flush()

-- Where a lane stands in its member of the queue: behind the route, a tag, 16 digits and a zero byte.
local laneStarts = #route + 19

-- Lanes join the queue whose time has come.
local due = call('ZRANGEBYLEX', QUEUE, '[' .. route .. 'z', '[' .. route .. 'z' .. format('%016d', now) .. '\255', 'LIMIT', 0, ${PROMOTIONS})
for _, member in ipairs(due) do
  local lane = laneIn(member)
  setLane(lane, member, memberOf(route, lane % 2 == 0 and 'a' or 'b', nextTurn(), lane))
end

-- The lanes that have work now, the one that has waited longest first.
local function front(tag)
  local found, after = {}, '[' .. route .. tag
  local wanted = next(except) and limit * 2 or limit
  repeat
    local members = call('ZRANGEBYLEX', QUEUE, after, '(' .. route .. tag .. '\255', 'LIMIT', 0, wanted)
    local scopes, numbers = {}, {}
    for i, member in ipairs(members) do
      numbers[i] = tonumber(sub(member, laneStarts))
      scopes[i] = format('%d', floor(numbers[i] / 2))
    end
    local names = gather('HMGET', SCOPE, scopes)
    for i, member in ipairs(members) do
      local connection = string.match(names[i] or '', '^%Z*%z(%Z*)%z') or ''
      if #found < limit and not except[connection] then
        found[#found + 1] = { lane = numbers[i], member = member, connection = connection, taken = 0, scope = scopes[i],
          fields = scopes[i] .. ':' }
      end
    end
    after = '(' .. (members[#members] or '')
  until #found == limit or #members < wanted
  return found
end

-- What waits in a lane and is due by then, oldest first, and whether there is more.
local function fill(lane, by, share)
  local prefix = format('%010d', lane.lane)
  lane.due = call('ZRANGEBYLEX', WAITING, '[' .. prefix, '[' .. prefix .. by, 'LIMIT', 0, share + 1)
  lane.more = #lane.due > share
  if lane.more then lane.due[share + 1] = nil end
end

local function choose(tag, dueBy)
  local lanes = front(tag)
  local share, found, by = math.ceil(limit / max(#lanes, 1)), 0, moment14(max(dueBy, 0)) .. '\255'
  for _, lane in ipairs(lanes) do
    fill(lane, by, share)
    found = found + #lane.due
  end
  for _, lane in ipairs(lanes) do
    if found < limit and lane.more then fill(lane, by, limit) end
    if dueBy < now then lane.more = true end -- what is too young to be taken yet is still there
  end
  -- One of each lane after the other: what waits, and in which lane.
  local members, laneOf = {}, {}
  if #lanes == 1 then
    members = lanes[1].due
    for i = 1, #members do laneOf[i] = lanes[1] end
    return lanes, members, laneOf
  end
  local round = 0
  repeat
    local before = #members
    round = round + 1
    for _, lane in ipairs(lanes) do
      local member = lane.due[round]
      if member and #members < limit then
        local place = #members + 1
        members[place], laneOf[place] = member, lane
      end
    end
  until #members == before or #members == limit
  return lanes, members, laneOf
end

local function dueOf(member) return tonumber(sub(member, 11, 24)) end

-- Live work first; repair work goes before what is due so much later.
local function merge(live, liveLane, repair, repairLane)
  if #repair == 0 then return live, liveLane end
  local merged, laneOf, l, r = {}, {}, 1, 1
  while #merged < limit and (live[l] or repair[r]) do
    local place = #merged + 1
    if not live[l] or (repair[r] and dueOf(repair[r]) + ${REPAIR_AGING_MS} < dueOf(live[l])) then
      merged[place], laneOf[place], r = repair[r], repairLane[r], r + 1
    else
      merged[place], laneOf[place], l = live[l], liveLane[l], l + 1
    end
  end
  return merged, laneOf
end

local chosen, laneOf, emptied
repeat
  local liveLanes, live, liveLane = choose('a', now)
  local last = live[limit] and dueOf(live[limit]) or onlyUrgent and now
  local repairLanes, repair, repairLane = choose('b', last and last - ${REPAIR_AGING_MS} or now)
  chosen, laneOf = merge(live, liveLane, repair, repairLane)
  emptied = false
  for i = 1, #chosen do laneOf[i].taken = laneOf[i].taken + 1 end
  -- Served lanes go to the end of the queue, and empty ones leave it.
  local gone, come, names, left = {}, {}, {}, {}
  local lanes = liveLanes
  for _, lane in ipairs(repairLanes) do lanes[#lanes + 1] = lane end
  for _, lane in ipairs(lanes) do
    local more = lane.more or #lane.due > lane.taken
    if more and lane.taken > 0 then
      local member = memberOf(route, lane.lane % 2 == 0 and 'a' or 'b', nextTurn(), lane.lane)
      gone[#gone + 1] = lane.member
      come[#come + 1], come[#come + 2] = 0, member
      names[#names + 1], names[#names + 2] = lane.lane, member
    elseif not more then
      emptied = emptied or lane.taken == 0
      left[#left + 1] = lane
    end
  end
  many('ZREM', QUEUE, gone)
  many('ZADD', QUEUE, come)
  many('HSET', LANE, names)
  for _, lane in ipairs(left) do
    -- What waits in it for later brings it back. What is taken now is not counted.
    local prefix = format('%010d', lane.lane)
    local later = call('ZRANGEBYLEX', WAITING, '(' .. prefix .. moment14(now) .. '\255', '(' .. prefix .. '\255', 'LIMIT', 0, 1)[1]
    setLane(lane.lane, lane.member, later and memberOf(route, 'z', tonumber(sub(later, 11, 24)), lane.lane))
  end
until #chosen > 0 or not emptied -- behind lanes with nothing to give may be others

-- The records stay as they are: that they are leased is written beside them.
local held = format('%s:%d:%d', session, ticket, #chosen > 0 and tick() or 0)
local fields, leases, scopes, single = {}, {}, {}, {}
for i = 1, #chosen do
  local lane, field = laneOf[i], laneOf[i].fields .. sub(chosen[i], 39)
  fields[i], leases[i * 2 - 1], leases[i * 2] = field, field, held
  if lane.taken < ${RUN} then single[#single + 1] = chosen[i] end
  if not lane.told then
    lane.told = true
    scopes[#scopes + 1], scopes[#scopes + 2] = lane.scope, lane.connection
    -- What is taken of a lane lies side by side at its front.
    if lane.taken >= ${RUN} then call('ZREMRANGEBYLEX', WAITING, '[' .. lane.due[1], '[' .. lane.due[lane.taken]) end
  end
end
many('ZREM', WAITING, single)
many('HSET', LEASES, leases)
flush()
return claimsOf(held, scopes, fields)
`,
  LEASES,
);

/** Whether a route has work now in a partition, at little cost. */
const peek = script(String.raw`
local route = argument() .. '\0' .. argument() .. '\0'
if #call('ZRANGEBYLEX', QUEUE, '[' .. route .. 'a', '(' .. route .. 'c', 'LIMIT', 0, 1) > 0 then return 1 end
if #call('ZRANGEBYLEX', QUEUE, '[' .. route .. 'z', '[' .. route .. 'z' .. format('%016d', now) .. '\255', 'LIMIT', 0, 1) > 0 then return 1 end
return #call('ZRANGEBYSCORE', SESSIONS, '-inf', now, 'LIMIT', 0, 1)
`);

/** All partitions are looked at again at the latest after so many claims that were filled without. */
const FILLED_WITHOUT_LOOKING = 8;

interface Parts {
  readonly link: Link;
  readonly partitions: Partitions;
  readonly tickets: Tickets;
  readonly random: Random;
}

/** What is remembered of a route: where there was work at the last look, the next to be asked first. */
interface Round {
  busy: Partition[];
  filled: number;
}

export class Claimer {
  readonly #parts: Parts;
  readonly #rounds = new Map<string, Round>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** @throws TrueupError `STORE_LOST` */
  async claim(request: ClaimRequest): Promise<Claim[]> {
    if (request.limit < 1) return [];
    const { partitions } = this.#parts;
    if (partitions.all.length === 1) return this.#claimIn(partitions.all[0] as Partition, request, false);
    const round = this.#roundOf(request);
    const claims: Claim[] = [];
    try {
      if (round.filled % FILLED_WITHOUT_LOOKING === 0) await this.#look(round, request);
      await this.#claimFrom(round, request, claims);
      if (claims.length < request.limit && round.filled % FILLED_WITHOUT_LOOKING !== 0) {
        await this.#look(round, request);
        await this.#claimFrom(round, request, claims);
      }
    } catch (error) {
      // What other partitions have leased is held, and has to be handed on; the trouble will be met again.
      if (claims.length === 0) throw error;
    }
    round.filled = claims.length < request.limit ? 0 : round.filled + 1;
    return claims;
  }

  /**
   * From one partition after the other, until there is enough; the last that was asked has its turn last the next time.
   * Where several have work, each gives its share before one gives more, and repair work that can wait is left for when
   * there is nothing else in any of them.
   */
  async #claimFrom(round: Round, request: ClaimRequest, claims: Claim[]): Promise<void> {
    const missing = request.limit - claims.length;
    const share = Math.ceil(missing / Math.max(1, round.busy.length));
    if (round.busy.length > 1) {
      await this.#sweep(round, round.busy.slice(), request, claims, { onlyUrgent: true, share });
      await this.#sweep(round, round.busy.slice(), request, claims, { onlyUrgent: true, share: missing });
    }
    await this.#sweep(round, round.busy.slice(), request, claims, { onlyUrgent: false, share: missing });
  }

  async #sweep(
    round: Round,
    partitions: readonly Partition[],
    request: ClaimRequest,
    claims: Claim[],
    { onlyUrgent, share }: { readonly onlyUrgent: boolean; readonly share: number },
  ): Promise<void> {
    for (const partition of partitions) {
      const limit = Math.min(share, request.limit - claims.length);
      if (limit === 0) return;
      const found = await this.#claimIn(partition, { ...request, limit }, onlyUrgent);
      claims.push(...found);
      round.busy = round.busy.filter((other) => other !== partition);
      if (onlyUrgent || found.length === limit) round.busy.push(partition);
    }
  }

  async #look(round: Round, { provider, resource }: ClaimRequest): Promise<void> {
    const { link, partitions } = this.#parts;
    const others = partitions.all.filter((partition) => !round.busy.includes(partition));
    const found = await Promise.all(
      others.map((partition) => link.run(peek, partition, [provider, resource])),
    );
    round.busy.push(...others.filter((_, i) => found[i] !== 0));
  }

  async #claimIn(partition: Partition, request: ClaimRequest, onlyUrgent: boolean): Promise<Claim[]> {
    const { link, random, tickets } = this.#parts;
    const { provider, resource, limit, exceptConnections = [] } = request;
    const args = [
      Number(onlyUrgent),
      provider,
      resource,
      seedFrom(random),
      exceptConnections.length,
      ...exceptConnections,
    ];
    return await tickets.use(
      partition,
      (session, ticket) => link.run(claim, partition, [session, ticket, limit, ...args]),
      (reply: ClaimsReply) => toClaims(link, partition, reply, request),
    );
  }

  #roundOf({ provider, resource }: ClaimRequest): Round {
    const key = `${provider}\0${resource}`;
    const known = this.#rounds.get(key);
    if (known !== undefined) return known;
    const round: Round = { busy: [], filled: 0 };
    this.#rounds.set(key, round);
    return round;
  }
}
