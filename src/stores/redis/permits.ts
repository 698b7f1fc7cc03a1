/**
 * Permits of a configured rate, for all processes together.
 *
 * @module
 */

import type { PermitGrant, RateBudget } from "../../core/store.ts";
import type { Link } from "./link.ts";
import type { Partitions } from "./partition.ts";
import { script } from "./script.ts";

/**
 * Those who were given less than they wanted share what is free: one who asks for much leaves a part to each of them.
 *
 * EXTRA: the grants that count, as `<when>:<until when it counts>:<permits given before it>:<and with it>`. One counts for
 * the span with which it was given, and no less long than those before it. EXTRA2: who waits, and since when.
 */
const take = script(String.raw`
local caller, requests, perMs, wanted = argument(), number(), number(), number()
evenWhenFull()

local function grantAt(place)
  local line = call('LINDEX', EXTRA, place) or ''
  local at, ends, from, to = string.match(line, '^(%d+):(%d+):(%d+):(%d+)$')
  return tonumber(at), tonumber(ends), tonumber(from), tonumber(to)
end
local function give(ends, from, to)
  call('RPUSH', EXTRA, format('%d:%d:%d:%d', now, ends, from, to))
end

local _, back, from = grantAt(0)
while back and back <= now do
  call('LPOP', EXTRA)
  _, back, from = grantAt(0)
end
local at, ends, _, given = grantAt(-1)
given, from, ends = given or 0, from or given or 0, ends or 0
-- A clock that was set back must not make what was given before count for longer than its span.
if at and at > now + perMs then
  back, ends = now + ends - at, now + ends - at
  call('DEL', EXTRA)
  give(ends, from, given)
end

call('ZREM', EXTRA2, caller)
call('ZREMRANGEBYSCORE', EXTRA2, '-inf', now - perMs)
local free = max(requests - (given - from), 0)
local permits = min(wanted, math.ceil(free / (1 + call('ZCARD', EXTRA2))))
if permits > 0 then
  ends = max(ends, now + perMs)
  give(ends, given, given + permits)
  back = back or ends
end
if permits < wanted then call('ZADD', EXTRA2, now, caller) end
if ARGV[2] == 'server' then
  call('PEXPIRE', EXTRA, max(ends - now, 0) + perMs)
  call('PEXPIRE', EXTRA2, perMs * 2)
end
if permits == wanted then return { permits, 0 } end
return { permits, min(perMs, max(1, free > permits and floor(perMs / requests) or (back or now) - now)) }
`);

export class Permits {
  readonly #link: Link;
  readonly #partitions: Partitions;
  readonly #caller: string;

  constructor(link: Link, partitions: Partitions, caller: string) {
    this.#link = link;
    this.#partitions = partitions;
    this.#caller = caller;
  }

  async take(budget: RateBudget, wanted: number): Promise<PermitGrant> {
    const { provider, connection, requests, perMs } = budget;
    const partition = this.#partitions.of(provider, connection);
    const name = JSON.stringify([provider, connection]);
    const keys = [partition.key(`permits:${name}`), partition.key(`callers:${name}`)];
    const args = [this.#caller, requests, perMs, Math.max(0, wanted)];
    const [permits, retryInMs] = (await this.#link.run(take, partition, args, ...keys)) as [number, number];
    return { permits, retryInMs };
  }
}
