/**
 * What is left to do, and when.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
import type { Pending, RouteCounts } from "../../core/store.ts";
import { toFailure } from "./index-text.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** How many scopes or lanes one script counts. */
const SLICE = 500;
/** Among how many of a lane's objects, at both ends of it, the one that has waited longest is looked for. */
const OLDEST_AMONG = 500;
/** How many lanes are looked at for one that has work. */
const HEADS = 100;

/** Behind more lanes than are looked at something may be due that they do not show: then too early beats too late. */
const nextDue = script(String.raw`
local earliest
for i = 1, number() do
  local route = argument() .. '\0' .. argument() .. '\0'
  -- A lane that has work now, unless it was taken by other means: then what it has left may be due later than others' work.
  local ready = call('ZRANGEBYLEX', QUEUE, '[' .. route .. 'a', '(' .. route .. 'c', 'LIMIT', 0, ${HEADS})
  if #ready == ${HEADS} then earliest = now end
  for _, member in ipairs(ready) do
    local due = headDue(laneIn(member))
    earliest = min(earliest or FOREVER, due or FOREVER)
    if earliest <= now then break end
  end
  local waiting = range(QUEUE, route .. 'z', ${HEADS})
  for nth, member in ipairs(waiting) do
    local _, at = placeIn(member)
    if at >= (earliest or FOREVER) then break end
    local due = nth == ${HEADS} and at or headDue(laneIn(member))
    if due then earliest = min(earliest or FOREVER, max(at, due)) end
  end
end
return earliest and earliest < FOREVER and format('%d', earliest - shift)
`);

/**
 * Lanes with work, from one on: how many of their objects are due by a moment, and how many later; and what else there
 * is, at the same moment. By the stamp one can tell whether anything has come to be waiting or leased since.
 */
const pending = script(String.raw`
local by, after = moment(), optional()
local members = call('ZRANGEBYLEX', QUEUE, after and '(' .. after or '-', '+', 'LIMIT', 0, ${SLICE})
local due, later = 0, 0
for _, member in ipairs(members) do
  local lane = laneIn(member)
  local prefix = format('%010d', lane)
  local waiting = count(WAITING, prefix)
  local name = nameOf(floor(lane / 2))
  local pause = name and pauseOf(name)
  local soon = (not pause or pause <= by)
    and call('ZLEXCOUNT', WAITING, '[' .. prefix, '[' .. prefix .. moment14(max(by, 0)) .. '\255') or 0
  due, later = due + soon, later + waiting - soon
end
local counter, turn = unpack(call('HMGET', NUMBERS, 'counter', 'turn'))
local stamp = (counter or '') .. ' ' .. (turn or '')
return { due, later, call('HLEN', LEASES), call('ZCARD', DEAD), stamp, #members == ${SLICE} and members[#members] or false }
`);

/** A slice, as the script counts it. */
type PendingLine = readonly [
  due: number,
  later: number,
  leased: number,
  dead: number,
  stamp: string,
  next: string | null,
];

/** How often the slices of very many lanes are counted again because some have moved meanwhile. */
const RECOUNTS = 3;

const counts = script(String.raw`
local members = call('ZRANGEBYLEX', SCOPES, argument(), '+', 'LIMIT', 0, ${SLICE})
local leases = {}
for _, field in ipairs(call('HKEYS', LEASES)) do
  local scope = string.match(field, '^%d+')
  leases[scope] = (leases[scope] or 0) + 1
end
local lines = {}
for i, member in ipairs(members) do
  local name, scope = string.match(member, '^(.*)%z(%d+)$')
  local dirty, oldest = 0, nil
  for lane = scope * 2, scope * 2 + 1 do
    local prefix = format('%010d', lane)
    local waiting = count(WAITING, prefix)
    dirty = dirty + waiting
    if waiting > 0 then
      local ends = { range(WAITING, prefix, ${OLDEST_AMONG}),
        waiting > ${OLDEST_AMONG} and call('ZREVRANGEBYLEX', WAITING, '(' .. prefix .. '\255', '[' .. prefix, 'LIMIT', 0, ${OLDEST_AMONG}) or {} }
      for _, members in ipairs(ends) do
        for _, one in ipairs(members) do
          local since = tonumber(string.sub(one, 25, 38))
          oldest = min(oldest or since, since)
        end
      end
    end
  end
  lines[i] = { member, name, dirty, leases[scope] or 0, count(DEAD, format('%010d', scope)),
    tonumber(call('HGET', NUMBERS, 'present:' .. scope) or 0), oldest and format('%d', oldest - shift) or false,
    call('HGET', ERRORS, scope) }
end
return lines
`);

/** A scope, as the script counts it. */
type CountLine = readonly [
  member: string,
  name: string,
  dirty: number,
  leased: number,
  dead: number,
  present: number,
  oldest: string | null,
  error: string | null,
];

export class Status {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  async nextDue(
    routes: readonly { readonly provider: string; readonly resource: string }[],
  ): Promise<number | undefined> {
    const args = [routes.length, ...routes.flatMap(({ provider, resource }) => [provider, resource])];
    const dues = (await this.#everywhere((partition) => this.#link.run(nextDue, partition, args))) as (
      | string
      | null
    )[];
    const found = dues.filter((due) => due !== null).map(Number);
    return found.length === 0 ? undefined : Math.min(...found);
  }

  /** Of objects whose lanes have very many, {@link RouteCounts.oldestDirtySince} is the oldest that is quickly found. */
  async counts(): Promise<RouteCounts[]> {
    const found = await this.#everywhere(async (partition) => {
      const lines: CountLine[] = [];
      for (let from = "-"; ;) {
        const slice = (await this.#link.run(counts, partition, [from])) as CountLine[];
        lines.push(...slice);
        if (slice.length < SLICE) return lines;
        from = `(${slice.at(-1)?.[0] ?? ""}`;
      }
    });
    return found.flat().map(([, name, dirty, leased, dead, present, oldest, error]) => ({
      ...scopeOf(name),
      dirty,
      leased,
      dead,
      present,
      oldestDirtySince: oldest === null ? undefined : Number(oldest),
      lastError: error === null ? undefined : toFailure(error),
    }));
  }

  async pending(dueBy: number): Promise<Pending> {
    const found = await this.#everywhere((partition) => this.#pendingIn(partition, dueBy));
    return found.reduce((sum, one) => ({
      due: sum.due + one.due,
      leased: sum.leased + one.leased,
      later: sum.later + one.later,
      dead: sum.dead + one.dead,
    }));
  }

  /** All of one moment, so that what is on its way from leased to waiting is not overlooked. */
  async #pendingIn(partition: Partition, dueBy: number): Promise<Pending> {
    for (let recounts = 0; ; recounts += 1) {
      const sum = { due: 0, leased: 0, later: 0, dead: 0 };
      const stamps = new Set<string>();
      for (let after: string | null = ""; after !== null;) {
        const line = (await this.#link.run(pending, partition, [dueBy, after])) as PendingLine;
        const [due, later, leased, dead, stamp, next] = line;
        sum.due += due;
        sum.later += later;
        Object.assign(sum, { leased, dead });
        stamps.add(stamp);
        after = next;
      }
      if (stamps.size === 1 || recounts === RECOUNTS) return sum;
    }
  }

  /** Connections of a provider. */
  async connections(provider: string): Promise<string[]> {
    const names = await this.#everywhere((partition) =>
      this.#link.command("ZRANGEBYLEX", partition.key("scopes"), `[${provider}\0`, `(${provider}\x01`),
    );
    const connections = (names.flat() as string[]).map((name) => name.split("\0")[1] ?? "");
    return [...new Set(connections)].toSorted();
  }

  #everywhere<T>(run: (partition: Partition) => Promise<T>): Promise<T[]> {
    return Promise.all(this.#partitions.all.map(run));
  }
}

export function scopeOf(name: string): Scope {
  const [provider = "", connection = "", resource = ""] = name.split("\0");
  return { provider, connection, resource };
}
