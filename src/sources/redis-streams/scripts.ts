/**
 * What has to be one step in Redis. A delivery is known by its entry, its consumer, and how often the entry was
 * delivered: whoever claims an entry changes one of them, and the one before can no longer settle it.
 *
 * @module
 */

/** KEYS: stream. ARGV: group, consumer, entry, deliveries. */
const OWNED = `
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #held == 0 or held[1][2] ~= ARGV[2] or held[1][4] ~= tonumber(ARGV[4]) then return 0 end
`;

/** Of several at once. ARGV: group, consumer, and of each its entry and its deliveries. Returns of each whether it was ours. */
export const ACK = `
local acked = {}
for i = 3, #ARGV, 2 do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  local owned = #held > 0 and held[1][2] == ARGV[2] and held[1][4] == tonumber(ARGV[i + 1])
  acked[#acked + 1] = owned and redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) or 0
end
return acked`;

/** ARGV[5]: for how long it has been left alone, as is to be believed. Its lease runs on from there. */
export const TOUCH = `${OWNED}
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[5], 'JUSTID')
return 1`;

/** KEYS[2]: the stream of dead letters. ARGV[5]: its most entries. ARGV[6…]: the fields. */
export const REJECT = `${OWNED}
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, 6))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])`;

/** KEYS: stream. ARGV: group, consumer. A consumer that holds nothing leaves nothing behind. */
export const LEAVE = `
local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #held > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1`;

/** KEYS: stream. Drops the entries that every group has done with; never one that a group has not acked. */
export const TRIM = `
local least
local function before(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if #am ~= #bm then return #am < #bm end
  if am ~= bm then return am < bm end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #fields, 2 do group[fields[i]] = fields[i + 1] end
  local done = group['last-delivered-id']
  local held = redis.call('XPENDING', KEYS[1], group['name'])
  if held[1] > 0 then done = held[2] end
  if least == nil or before(done, least) then least = done end
end
if least == nil then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', least)`;
