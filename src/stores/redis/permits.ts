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
 * EXTRA: the grants of the window, as `<when>:<permits given before it>:<and with it>`. EXTRA2: who waits, and since when.
 */
const take = script(String.raw`
local caller, requests, perMs, wanted = argument(), number(), number(), number()
evenWhenFull()

local function grantAt(place)
  local at, from, to = string.match(call('LINDEX', EXTRA, place) or '', '^(%d+):(%d+):(%d+)$')
  return tonumber(at), tonumber(from), tonumber(to)
end
-- One that lies far ahead is of a clock that was set back since.
local oldest, from = grantAt(0)
while oldest and (oldest + perMs <= now or oldest > now + perMs) do
  call('LPOP', EXTRA)
  oldest, from = grantAt(0)
end
local _, _, given = grantAt(-1)
given, from = given or 0, from or given or 0

call('ZREM', EXTRA2, caller)
call('ZREMRANGEBYSCORE', EXTRA2, '-inf', now - perMs)
local free = max(requests - (given - from), 0)
local permits = min(wanted, math.ceil(free / (1 + call('ZCARD', EXTRA2))))
if permits > 0 then
  call('RPUSH', EXTRA, format('%d:%d:%d', now, given, given + permits))
  oldest = oldest or now
end
if permits < wanted then call('ZADD', EXTRA2, now, caller) end
if ARGV[2] == 'server' then
  call('PEXPIRE', EXTRA, perMs * 2)
  call('PEXPIRE', EXTRA2, perMs * 2)
end
if permits == wanted then return { permits, 0 } end
return { permits, max(1, free > permits and floor(perMs / requests) or oldest + perMs - now) }
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
