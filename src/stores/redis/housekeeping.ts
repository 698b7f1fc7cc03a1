/**
 * Forgetting connections, and sweeping away what has expired: in slices, each short.
 *
 * @module
 */

import { connectionKey } from "../../core/store.ts";
import type { Link } from "./link.ts";
import type { Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** How many events, keys or objects one script deletes; an entry of the log is never cut. */
const SLICE = 500;

/** The connection is gone at once; what it has left follows with `sweep`, so that this stays short for any number. */
const forget = script(String.raw`
local connection, names = argument(), argument()
evenWhenFull()
tick()
local scopes = {}
for _, member in ipairs(range(SCOPES, connection .. '\0', -1)) do
  local scope = tonumber(string.match(member, '%d+$'))
  scopes[scope] = true
  for lane = scope * 2, scope * 2 + 1 do setLane(lane, call('HGET', LANE, lane), nil) end
  local dead = format('%010d', scope)
  call('ZREMRANGEBYLEX', DEAD, '[' .. dead, '(' .. dead .. '\255')
  call('ZREM', SCOPES, member)
  call('HDEL', SCOPE, scope)
  call('HDEL', ERRORS, scope)
  call('HSET', FORGOTTEN, scope, 0)
end
local leased = {}
for _, field in ipairs(call('HKEYS', LEASES)) do
  if scopes[tonumber(string.match(field, '^%d+'))] then leased[#leased + 1] = field end
end
load(leased)
for _, field in ipairs(leased) do remove(field) end
drop(PAUSES, connection)
for _, key in ipairs({ CHECKPOINTS, LOCKS }) do
  for _, name in ipairs(call('HKEYS', key)) do
    if string.sub(name, 1, #names) == names then drop(key, name) end
  end
end
flush()
return 1
`);

/** Events, dedupe keys and empty records, in the order in which they expire. */
const sweep = script(String.raw`
local expired, swept = now - number(), 0
evenWhenFull()
while swept < ${SLICE} do
  local entry = call('LINDEX', LOG, 0)
  entry = entry and cjson.decode(entry)
  if not entry or entry.at > expired then break end
  for seq = entry.first or 1, entry.last or 0 do drop(EVENTS, seq) end
  many('SREM', LEDGER, entry.keys or {})
  load(entry.empty or {})
  for _, field in ipairs(entry.empty or {}) do
    local o = object[field]
    if o and not (o.index or o.due or o.dead or o.begun) and (o.empty or now) <= expired then remove(field) end
  end
  swept = swept + 1 + (entry.last or 0) - (entry.first or 0) + #(entry.keys or {}) + #(entry.empty or {})
  call('LPOP', LOG)
end

-- What forgotten connections have left.
local scope, done = unpack(call('HRANDFIELD', FORGOTTEN, 1, 'WITHVALUES'))
if scope then
  local highest = tonumber(call('HGET', NUMBERS, 'objects:' .. scope) or 0)
  local last = min(highest, done + ${SLICE})
  local numbers, fields = {}, {}
  for n = done + 1, last do numbers[#numbers + 1] = scope .. ':' .. n end
  for _, id in ipairs(gather('HMGET', NAMES, numbers)) do
    if id then fields[#fields + 1] = fieldOf(scope, id) end
  end
  load(fields)
  for _, field in ipairs(fields) do remove(field) end
  if #numbers > 0 then
    put(FORGOTTEN, scope, last)
  else
    drop(FORGOTTEN, scope)
    drop(NUMBERS, 'objects:' .. scope)
    drop(NUMBERS, 'present:' .. scope)
  end
end
flush()

for _, name in ipairs(call('HKEYS', PAUSES)) do
  local till = cjson.decode(call('HGET', PAUSES, name))['until']
  if till and till <= now then call('HDEL', PAUSES, name) end
end
local locks = call('HGETALL', LOCKS)
for i = 1, #locks, 2 do
  if tonumber(string.match(locks[i + 1], '%d+$')) <= expired then call('HDEL', LOCKS, locks[i]) end
end
return (scope or swept >= ${SLICE}) and 1 or 0
`);

export class Housekeeping {
  readonly #link: Link;
  readonly #partitions: Partitions;
  readonly #eventTtlMs: number;

  constructor(link: Link, partitions: Partitions, eventTtlMs: number) {
    this.#link = link;
    this.#partitions = partitions;
    this.#eventTtlMs = eventTtlMs;
  }

  async forget(provider: string, connection: string): Promise<void> {
    const partition = this.#partitions.of(provider, connection);
    const args = [`${provider}\0${connection}`, connectionKey(provider, connection)];
    await this.#link.run(forget, partition, args);
  }

  /** @returns whether there may be more to do now */
  async sweep(): Promise<boolean> {
    const found = await Promise.all(
      this.#partitions.all.map((partition) => this.#link.run(sweep, partition, [this.#eventTtlMs])),
    );
    return found.includes(1);
  }
}
