/**
 * What all scripts begin with: the time, the keys of their partition, and records of objects that keep the indexes over
 * them right by themselves.
 *
 * A script reads, decides on Lua tables, and writes at its end, in `flush`: what fails before has changed nothing. Redis
 * rolls nothing back, but once a script has written it refuses none of its writes for want of memory; so either the
 * first write is refused, or all are made.
 *
 * An object's record is JSON, under `<scope>:<id>`. What is nil in Lua is absent:
 *
 * - `n`: its number within the scope; `index`: its IndexEntry, as `index-text.ts` writes it; `touched`; `notBefore`.
 * - Dirty: `lane`, `due` (waiting or leased), `dirty` (since when), `generation`, `attempts` (without that of an open
 *   lease), `lags`, `begun`, `forced` (generation of the last append with force), `origin`, `hint`, `version`, `order`,
 *   `seqs` (its newest events, oldest first), `events` (how many there were), `error`. Given up: the same with `dead`,
 *   and no `due`.
 * - What was appended under its lease: `newDirty`, `newOrigin`, `newHint`, `newVersion`, `newOrder`, `newEvents`.
 * - `empty`: since when it has held nothing, for a record of an object of which nothing is known.
 *
 * @module
 */

/** The keys of a partition, in the order in which scripts get them. Their Lua names are these in capitals. */
export const PARTITION_KEYS = [
  "numbers", // hash: counter, turn, scopes, and objects:<scope> and present:<scope>
  "scopes", // sorted set, by name: <provider>\0<connection>\0<resource>\0<scope>
  "scope", // hash: scope → <provider>\0<connection>\0<resource>
  "objects", // hash: <scope>:<id> → record
  "names", // hash: <scope>:<n> → id
  "events", // hash: generation → JSON
  "ledger", // set of dedupe keys
  "log", // list: what expires, in the order in which it does
  "waiting", // sorted set, by name: <lane><due><dirty><id>, of fixed widths but for the id
  "queue", // sorted set, by name: <provider>\0<resource>\0<a, b or z><turn or due>\0<lane>
  "lane", // hash: lane → its member of the queue
  "leases", // hash: <scope>:<id> → <session>:<ticket>:<fence>, and + where something was appended since
  "sessions", // sorted set, by when they expire
  "tickets", // hash: session → its latest ticket
  "dead", // sorted set, by name: <scope><n><id>
  "pauses", // hash: <provider>\0<connection> → { until, reason } as JSON
  "checkpoints", // hash
  "locks", // hash: name → <fence>:<when it expires>
  "errors", // hash: scope → its last failure
  "forgotten", // hash: scope → how many of its objects' numbers were swept
] as const;

const KEY_LOCALS = `local ${PARTITION_KEYS.map((key) => key.toUpperCase()).join(", ")}, EXTRA, EXTRA2 = unpack(KEYS)`;

// Arguments that every script gets first: the caller's time, whose time counts, the channel that wakes workers, and how
// many of an object's events are kept.
export const PRELUDE = `${KEY_LOCALS}
${String.raw`
local call, floor, format, max, min = redis.call, math.floor, string.format, math.max, math.min
local find, sub = string.find, string.sub

local now = tonumber(ARGV[1])
-- What a caller's moment has to be moved by to be one of ours.
local shift = 0
if ARGV[2] == 'server' then
  local time = call('TIME')
  local here = time[1] * 1000 + floor(time[2] / 1000)
  shift = here - now
  now = here
end

local MOST_EVENTS = tonumber(ARGV[4])
local position = 4
local function argument()
  position = position + 1
  return ARGV[position]
end
local function number() return tonumber(argument()) end
-- '' stands for nothing
local function optional()
  local value = argument()
  if value ~= '' then return value end
end
local function moment()
  local value = optional()
  return value and tonumber(value) + shift
end

-- How many arguments of one command fit on Lua's stack with room to spare. Even, since some come in pairs.
local STACK = 2000
local function many(command, key, list)
  for i = 1, #list, STACK do call(command, key, unpack(list, i, min(i + STACK - 1, #list))) end
end
local function gather(command, key, list)
  local found = {}
  for i = 1, #list, STACK do
    local values = call(command, key, unpack(list, i, min(i + STACK - 1, #list)))
    for j = 1, #values do found[i + j - 1] = values[j] end
  end
  return found
end

-- All that lies between two prefixes of a sorted set that is ordered by name.
local function range(key, prefix, limit) return call('ZRANGEBYLEX', key, '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, limit) end
local function count(key, prefix) return call('ZLEXCOUNT', key, '[' .. prefix, '(' .. prefix .. '\255') end

-- At its limit of memory Redis refuses the first write that may need more. What frees memory begins with one that needs none.
local function evenWhenFull() call('ZREM', SESSIONS, '') end

-- Writes that wait for the end of the script: fields of hashes by key, and others.
local puts, drops, writes = {}, {}, {}
local function put(key, field, value)
  local list = puts[key] or {}
  puts[key] = list
  list[#list + 1] = field
  list[#list + 1] = value
end
local function drop(key, field)
  local list = drops[key] or {}
  drops[key] = list
  list[#list + 1] = field
end
local function write(...) writes[#writes + 1] = { ... } end

local counter, turn
local function tick()
  counter = (counter or tonumber(call('HGET', NUMBERS, 'counter') or 0)) + 1
  return counter
end
local function nextTurn()
  turn = (turn or tonumber(call('HGET', NUMBERS, 'turn') or 0)) + 1
  return turn
end

-- Scopes ---------------------------------------------------------------------------------------------------------

local created, scopeCount = {}
local function findScope(name)
  if created[name] then return created[name] end
  local found = range(SCOPES, name .. '\0', 1)[1]
  return found and tonumber(string.sub(found, #name + 2))
end

local newNames = {}
local function demandScope(name)
  local scope = findScope(name)
  if scope then return scope end
  scopeCount = (scopeCount or tonumber(call('HGET', NUMBERS, 'scopes') or 0)) + 1
  created[name] = scopeCount
  newNames[scopeCount] = name
  put(NUMBERS, 'scopes', scopeCount)
  put(SCOPE, scopeCount, name)
  write('ZADD', SCOPES, 0, name .. '\0' .. scopeCount)
  return scopeCount
end
local function nameOf(scope) return newNames[scope] or call('HGET', SCOPE, scope) end

-- Objects --------------------------------------------------------------------------------------------------------

local object, lease, changed, numbered = {}, {}, {}, {}
-- What the indexes held of the objects that have changed.
local wasWaiting, wasDead, wasPresent = {}, {}, {}
-- How many more of a scope's objects are present now.
local present = {}

-- Numbers become text slowly.
local prefixes = {}
local function fieldOf(scope, id)
  local prefix = prefixes[scope]
  if not prefix then
    prefix = scope .. ':'
    prefixes[scope] = prefix
  end
  return prefix .. id
end
local function scopeIn(field) return tonumber(string.match(field, '^%d+')) end
local function idIn(field) return string.sub(field, string.find(field, ':', 1, true) + 1) end

local FOREVER = 99999999999999
local function moment14(value) return format('%014d', min(value, FOREVER)) end

local function waitingOf(field, o)
  if not o.due or lease[field] then return end
  return format('%010d%014d%014d', o.lane, min(o.due, FOREVER), o.dirty) .. idIn(field)
end
local function deadOf(field, o) return o.dead and format('%010d%012d', scopeIn(field), o.n) .. idIn(field) end
local function isPresent(o) return o.index and o.index[1] == 'p' end

local function keep(field, record, leased)
  object[field] = record and cjson.decode(record)
  lease[field] = leased
end
local function load(fields)
  local unknown = {}
  for _, field in ipairs(fields) do
    if object[field] == nil then
      object[field] = false
      unknown[#unknown + 1] = field
    end
  end
  local records, leases = gather('HMGET', OBJECTS, unknown), gather('HMGET', LEASES, unknown)
  for i, field in ipairs(unknown) do keep(field, records[i], leases[i]) end
end

-- To be called before a record is changed.
local function change(field)
  local o = object[field]
  if changed[field] then return o end
  changed[field] = true
  if o then wasWaiting[field], wasDead[field], wasPresent[field] = waitingOf(field, o), deadOf(field, o), isPresent(o) end
  return o
end

local function create(scope, id)
  local field = fieldOf(scope, id)
  local n = (numbered[scope] or tonumber(call('HGET', NUMBERS, 'objects:' .. scope) or 0)) + 1
  numbered[scope] = n
  change(field)
  object[field] = { n = n }
  put(NAMES, scope .. ':' .. n, id)
  return object[field]
end

local function remove(field)
  local o = change(field)
  if not o then return end
  object[field], lease[field] = false, false
  drop(LEASES, field)
  many('HDEL', EVENTS, o.seqs or {})
  drop(NAMES, string.match(field, '^%d+:') .. o.n)
end

-- Records that hold nothing any more, or nothing yet, last for as long as a pass may need them.
local function logEmpty(fields)
  for _, field in ipairs(fields) do object[field].empty = now end
  write('RPUSH', LOG, cjson.encode({ at = now, empty = fields }))
end

-- Lanes: 2 * scope for live work, 2 * scope + 1 for repair work. One that has work now stands in the queue of its route
-- and kind (a: live, b: repair) by turn, one that has work later by when that is due (z). The others are not in it.
------------------------------------------------------------------------------------------------------------------

local announce = false

local function pauseOf(name)
  local second = string.find(name, '\0', (string.find(name, '\0', 1, true)) + 1, true)
  local pause = call('HGET', PAUSES, string.sub(name, 1, second - 1))
  pause = pause and cjson.decode(pause)
  if pause and (not pause['until'] or pause['until'] > now) then return pause['until'] or FOREVER end
end

local function routeOf(name)
  local first = string.find(name, '\0', 1, true)
  local second = string.find(name, '\0', first + 1, true)
  return string.sub(name, 1, first) .. string.sub(name, second + 1) .. '\0'
end

local function memberOf(route, tag, at, lane) return route .. tag .. format('%016d', at) .. '\0' .. lane end
local function laneIn(member) return tonumber(string.match(member, '%d+$')) end
local function placeIn(member)
  local tag, at = string.match(member, '(%a)(%d+)%z%d+$')
  return tag, tonumber(at)
end

local function setLane(lane, old, new)
  if old == new then return end
  if old then call('ZREM', QUEUE, old) end
  if new then
    call('ZADD', QUEUE, 0, new)
    call('HSET', LANE, lane, new)
  elseif old then
    call('HDEL', LANE, lane)
  end
end

-- Something in the lane is due from then on.
local function wake(lane, due, old)
  local tag, at
  if old then
    tag, at = placeIn(old)
    if tag ~= 'z' then return end
  end
  local name = nameOf(floor(lane / 2))
  if not name then return end -- the connection was forgotten
  local route, pause = routeOf(name), pauseOf(name)
  if due <= now and not pause then
    setLane(lane, old, memberOf(route, lane % 2 == 0 and 'a' or 'b', nextTurn(), lane))
    announce = true
  else
    due = min(max(due, pause or 0), FOREVER)
    if not at or due < at then setLane(lane, old, memberOf(route, 'z', due, lane)) end
  end
end

local function headDue(lane)
  local head = range(WAITING, format('%010d', lane), 1)[1]
  return head and tonumber(string.sub(head, 11, 24))
end

------------------------------------------------------------------------------------------------------------------

-- Makes all writes. The script may go on, and flush again.
local function flush()
  local sets, deletes, wakes = {}, {}, {}
  local gone, come = { [WAITING] = {}, [DEAD] = {} }, { [WAITING] = {}, [DEAD] = {} }
  local function move(key, old, new)
    if old == new then return end
    if old then table.insert(gone[key], old) end
    if new then
      table.insert(come[key], 0)
      table.insert(come[key], new)
    end
  end
  for field in pairs(changed) do
    local o, isWaiting, isDead, isThere = object[field], nil, nil, nil
    if o then
      sets[#sets + 1] = field
      sets[#sets + 1] = cjson.encode(o)
      isWaiting, isDead, isThere = waitingOf(field, o), deadOf(field, o), isPresent(o)
    else
      deletes[#deletes + 1] = field
    end
    move(WAITING, wasWaiting[field], isWaiting)
    move(DEAD, wasDead[field] or nil, isDead or nil)
    if isWaiting and isWaiting ~= wasWaiting[field] then wakes[o.lane] = min(wakes[o.lane] or FOREVER, o.due) end
    local more = (isThere and 1 or 0) - (wasPresent[field] and 1 or 0)
    if more ~= 0 then
      local scope = scopeIn(field)
      present[scope] = (present[scope] or 0) + more
    end
  end
  for scope, n in pairs(numbered) do put(NUMBERS, 'objects:' .. scope, n) end
  many('HSET', OBJECTS, sets)
  many('HDEL', OBJECTS, deletes)
  for key, members in pairs(gone) do many('ZREM', key, members) end
  for key, members in pairs(come) do many('ZADD', key, members) end
  for key, pairsOf in pairs(puts) do many('HSET', key, pairsOf) end
  for key, fields in pairs(drops) do many('HDEL', key, fields) end
  for _, one in ipairs(writes) do call(unpack(one)) end
  for scope, more in pairs(present) do call('HINCRBY', NUMBERS, 'present:' .. scope, more) end
  local woken = {}
  for lane in pairs(wakes) do woken[#woken + 1] = lane end
  for i, member in ipairs(gather('HMGET', LANE, woken)) do wake(woken[i], wakes[woken[i]], member) end
  if counter then call('HSET', NUMBERS, 'counter', counter) end
  if turn then call('HSET', NUMBERS, 'turn', turn) end
  if announce and ARGV[3] ~= '' then call('PUBLISH', ARGV[3], '') end
  object, lease, changed, numbered, created, announce = {}, {}, {}, {}, {}, false
  wasWaiting, wasDead, wasPresent, present = {}, {}, {}, {}
  puts, drops, writes = {}, {}, {}
end

-- Hints ----------------------------------------------------------------------------------------------------------

-- The same as mergeHints of core/hint.ts.
local function mergeHints(earlier, later)
  if not later.version then
    return { hint = later.hint or earlier.hint, version = earlier.version, order = earlier.order }
  end
  local ordered = earlier.order and later.order and string.sub(earlier.order, 1, 1) == string.sub(later.order, 1, 1)
  if ordered and later.order < earlier.order then return earlier end
  if ordered and later.order ~= earlier.order then return later end
  return { hint = later.hint or earlier.hint, version = later.version, order = later.order }
end

local function setHint(o, h) o.hint, o.version, o.order = h.hint, h.version, h.order end
local function newHint(o) return { hint = o.newHint, version = o.newVersion, order = o.newOrder } end

-- Ends an object's lease, and gives back what was appended under it: nothing, or when, whence, hints and how many.
local function endLease(field, o)
  local since = o.newDirty and { dirty = o.newDirty, origin = o.newOrigin, hint = newHint(o), events = o.newEvents }
  lease[field] = false
  drop(LEASES, field)
  o.newDirty, o.newOrigin, o.newHint, o.newVersion, o.newOrder, o.newEvents = nil, nil, nil, nil, nil, nil
  return since
end

-- Marks an object dirty, whatever it is now. The mark: event (JSON), origin, repair, force, hint, version, order.
local function markDirty(scope, id, mark)
  local field = fieldOf(scope, id)
  local o = change(field) or create(scope, id)
  local generation = tick()
  o.touched, o.generation = generation, generation
  if mark.force then o.forced = generation end
  if mark.event then
    put(EVENTS, generation, mark.event)
    o.seqs, o.events = o.seqs or {}, (o.events or 0) + 1
    table.insert(o.seqs, generation)
    if #o.seqs > MOST_EVENTS then drop(EVENTS, table.remove(o.seqs, 1)) end
  end
  if not o.due then
    setHint(o, mergeHints(o.dead and o or {}, mark))
    o.due = o.dead and now or max(now, o.notBefore or 0)
    o.lane, o.dirty, o.origin = scope * 2 + mark.repair, now, mark.origin
    o.dead, o.attempts, o.lags, o.error = nil, nil, nil, nil
    return generation
  end
  if mark.repair == 0 then o.lane = scope * 2 end
  if lease[field] then
    o.newDirty, o.newOrigin = o.newDirty or now, o.newOrigin or mark.origin
    o.newEvents = (o.newEvents or 0) + (mark.event and 1 or 0)
    local merged = mergeHints(newHint(o), mark)
    o.newHint, o.newVersion, o.newOrder = merged.hint, merged.version, merged.order
    if sub(lease[field], -1) ~= '+' then
      lease[field] = lease[field] .. '+'
      put(LEASES, field, lease[field])
    end
  else
    setHint(o, mergeHints(o, mark))
  end
  return generation
end
`}`;
