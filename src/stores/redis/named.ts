/**
 * Small named values: checkpoints and locks.
 *
 * @module
 */

import type { Lock } from "../../core/store.ts";
import type { Link } from "./link.ts";
import type { Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** For scripts. A lock that has run out stays its holder's until another takes it: the fence decides, not the moment. */
export const HOLDS_LOCK = String.raw`
local function holdsLock(name, fence)
  local lock = call('HGET', LOCKS, name)
  return lock and string.match(lock, '^%d+') == fence
end
`;

const take = script(
  String.raw`
local name, ttlMs, held = argument(), number(), optional()
local lock = call('HGET', LOCKS, name)
if held and not holdsLock(name, held) then return 0 end
if not held and lock and tonumber(string.match(lock, '%d+$')) > now then return 0 end
evenWhenFull()
local fence = held or format('%d', tick())
put(LOCKS, name, fence .. ':' .. format('%d', now + ttlMs))
flush()
return tonumber(fence)
`,
  HOLDS_LOCK,
);

const holds = script(
  String.raw`
return holdsLock(argument(), argument()) and 1 or 0
`,
  HOLDS_LOCK,
);

const free = script(
  String.raw`
local name, fence = argument(), argument()
if holdsLock(name, fence) then call('HDEL', LOCKS, name) end
return 0
`,
  HOLDS_LOCK,
);

export class Named {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  async getCheckpoint(name: string): Promise<string | undefined> {
    const key = this.#partitions.ofName(name).key("checkpoints");
    return ((await this.#link.command("HGET", key, name)) as string | null) ?? undefined;
  }

  async setCheckpoint(name: string, value: string | null): Promise<void> {
    const key = this.#partitions.ofName(name).key("checkpoints");
    if (value === null) await this.#link.command("HDEL", key, name);
    else await this.#link.command("HSET", key, name, value);
  }

  async lock(name: string, ttlMs: number, held: Lock | undefined): Promise<Lock | undefined> {
    const partition = this.#partitions.ofName(name);
    const fence = (await this.#link.run(take, partition, [name, ttlMs, held?.fence ?? ""])) as number;
    return fence === 0 ? undefined : { name, fence };
  }

  async unlock({ name, fence }: Lock): Promise<void> {
    await this.#link.run(free, this.#partitions.ofName(name), [name, fence]);
  }

  async holds({ name, fence }: Lock): Promise<boolean> {
    return (await this.#link.run(holds, this.#partitions.ofName(name), [name, fence])) === 1;
  }
}
