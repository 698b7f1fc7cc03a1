/**
 * Passes over lists: pages with their checkpoints, and which objects a pass has seen.
 *
 * What a pass has seen is a string of bits, one for each number that its scope has given: 125 kB for a million objects.
 *
 * @module
 */

import { hash } from "node:crypto";
import { TrueupError } from "../../core/errors.ts";
import type { Scope } from "../../core/event.ts";
import type { Claim, Lock, PageRecord } from "../../core/store.ts";
import { scopeName } from "./append.ts";
import { type ClaimsReply, LEASES, toClaims } from "./leases.ts";
import type { Link } from "./link.ts";
import { HOLDS_LOCK, type Named } from "./named.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script, urgentScript } from "./script.ts";
import type { Tickets } from "./tickets.ts";

/** How many numbers one script looks through. */
const SLICE = 2_000;

/**
 * What an interrupted pass has seen is kept for so long: of one that is never taken up again (its connection is
 * forgotten, say) nothing stays. After that, objects count as not seen, and are fetched before anything is believed.
 */
const SEEN_MS = 30 * 86_400_000;

// EXTRA: what the pass has seen.
const recordPage = urgentScript(
  String.raw`
local session, ticket, name = argument(), number(), argument()
local lock, lockFence = optional(), argument()
local mark, leasing, pass, checkpoint = number(), argument() == '1', argument(), argument()
local seen, differing = {}, {}
for i = 1, number() do seen[i] = argument() end
for i = 1, number() do differing[i] = argument() end
evenWhenFull()

if not isLive(session) then return false end
if not useTicket(session, ticket) then return 0 end
if lock and not holdsLock(lock, lockFence) then return 1 end

local scope = demandScope(name)
local fields = {}
for _, id in ipairs(seen) do fields[#fields + 1] = fieldOf(scope, id) end
for _, id in ipairs(differing) do fields[#fields + 1] = fieldOf(scope, id) end
load(fields)

-- Clean, not touched since the page was requested, and not to rest.
local function isFree(o) return not o.due and not o.dead and (o.touched or 0) <= mark and (o.notBefore or 0) <= now end

local held, leased, once = format('%s:%d:%d', session, ticket, tick()), {}, {}
for _, id in ipairs(differing) do
  local field = fieldOf(scope, id)
  local o = object[field]
  if once[id] then
    -- twice on one page
  elseif leasing and (not o or isFree(o)) then
    -- Dirty in the repair lane, so that a crash leaves it due.
    o = change(field) or create(scope, id)
    local generation = tick()
    o.touched, o.generation, o.lane, o.due, o.dirty = generation, generation, scope * 2 + 1, now, now
    o.attempts, o.lags, o.origin = nil, nil, 'reconcile'
    lease[field] = held
    put(LEASES, field, held)
    leased[#leased + 1] = field
  elseif not o or (not o.dead and (not o.due or lease[field])) then
    -- What waits and what is dead stays as it is.
    markDirty(scope, id, { origin = 'reconcile', repair = 1 })
  end
  once[id] = true
end

-- Ids that the store has not heard of get a number too: they may be recorded later, and were seen all the same.
local bits, empty = {}, {}
for _, id in ipairs(seen) do
  local field = fieldOf(scope, id)
  if not object[field] then
    create(scope, id)
    empty[#empty + 1] = field
  end
  for _, part in ipairs({ 'SET', 'u1', object[field].n, 1 }) do bits[#bits + 1] = part end
end
if #empty > 0 then logEmpty(empty) end
if lock then put(CHECKPOINTS, pass, checkpoint) end
many('BITFIELD', EXTRA, bits)
call('PEXPIRE', EXTRA, ${SEEN_MS})
flush()
return claimsOf(held, { scope, string.match(name, '^%Z*%z(%Z*)') }, leased)
`,
  LEASES,
  HOLDS_LOCK,
);

// EXTRA: what the pass has seen.
const unseen = script(String.raw`
local scope, mark, n, limit = findScope(argument()), number(), number(), number()
if not scope then return { -1 } end
local highest = tonumber(call('HGET', NUMBERS, 'objects:' .. scope) or 0)
local last = min(highest, n + ${SLICE})
-- Whole bytes: the first is the one that the first number is in.
local first = floor((n + 1) / 8)
local bytes = call('GETRANGE', EXTRA, first, floor(last / 8))
local numbers = {}
for i = n + 1, last do
  local byte = string.byte(bytes, floor(i / 8) - first + 1) or 0
  if floor(byte / 2 ^ (7 - i % 8)) % 2 == 0 then numbers[#numbers + 1] = scope .. ':' .. format('%d', i) end
end
local names, fields, places = gather('HMGET', NAMES, numbers), {}, {}
for i, id in ipairs(names) do
  if id then
    fields[#fields + 1] = fieldOf(scope, id)
    places[#places + 1] = string.match(numbers[i], '%d+$')
  end
end
load(fields)
local found = { last < highest and last or -1 }
for i, field in ipairs(fields) do
  local o = object[field]
  if o and not o.due and not o.dead and (o.touched or 0) <= mark and isPresent(o) then
    if #found > limit then
      found[1] = tonumber(places[i]) - 1
      return found
    end
    found[#found + 1] = { string.match(field, '^%d+:(.*)$'), places[i] }
  end
end
return found
`);

const endPass = script(
  String.raw`
local lock, fence, pass, checkpoint = optional(), argument(), argument(), optional()
evenWhenFull()
if lock and not holdsLock(lock, fence) then return 1 end
call('UNLINK', EXTRA)
if lock and checkpoint then put(CHECKPOINTS, pass, checkpoint) elseif lock then drop(CHECKPOINTS, pass) end
flush()
return 0
`,
  HOLDS_LOCK,
);

export interface UnseenOptions {
  readonly mark: number;
  readonly after: string | undefined;
  readonly limit: number;
}

interface Parts {
  readonly link: Link;
  readonly partitions: Partitions;
  readonly named: Named;
}

export class Passes {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** @throws TrueupError `STORE_LOST`, `LEASE_LOST` */
  async recordPage(tickets: Tickets, page: PageRecord): Promise<Claim[]> {
    const { link } = this.#parts;
    const { scope, pass, lock, mark, seen, differing, checkpoint } = page;
    const partition = this.#partitionOf(scope);
    return await this.#underLock(scope, pass, lock, checkpoint, async (heldHere) => {
      const ids = [seen.length, ...seen, differing.length, ...differing];
      const args = [scopeName(scope), ...heldHere, mark, Number(page.lease), pass, checkpoint, ...ids];
      return await tickets.use(
        partition,
        (session, ticket) =>
          link.run(recordPage, partition, [session, ticket, ...args], seenKey(partition, scope, pass)),
        async (reply: ClaimsReply | 1) => {
          if (reply === 1) throw lockLost(lock);
          return await toClaims(link, partition, reply, scope);
        },
      );
    });
  }

  /** @throws TrueupError `LEASE_LOST` */
  async endPass(scope: Scope, pass: string, lock: Lock, checkpoint: string | null): Promise<void> {
    const partition = this.#partitionOf(scope);
    await this.#underLock(scope, pass, lock, checkpoint, async (heldHere) => {
      const args = [...heldHere, pass, checkpoint ?? ""];
      const reply = await this.#parts.link.run(endPass, partition, args, seenKey(partition, scope, pass));
      if (reply === 1) throw lockLost(lock);
    });
  }

  /** In the order in which objects were first heard of; a position is an object's number. */
  async unseen(
    scope: Scope,
    pass: string,
    { mark, after, limit }: UnseenOptions,
  ): Promise<{ id: string; position: string }[]> {
    const partition = this.#partitionOf(scope);
    const found: { id: string; position: string }[] = [];
    for (let n = Number(after ?? 0); n >= 0 && found.length < limit;) {
      const args = [scopeName(scope), mark, n, limit - found.length];
      const reply = await this.#parts.link.run(unseen, partition, args, seenKey(partition, scope, pass));
      const [next, ...objects] = reply as [number, ...[id: string, n: string][]];
      found.push(...objects.map(([id, position]) => ({ id, position })));
      n = next;
    }
    return found;
  }

  /**
   * Runs what writes under the pass's lock, in one script with the checkpoint. Names that begin with no connection's
   * key may lie in another partition than the scope: then the lock is asked for before, and the checkpoint, under the
   * lock too, is written after the work that it stands for (I6).
   */
  async #underLock<T>(
    scope: Scope,
    pass: string,
    lock: Lock,
    checkpoint: string | null,
    run: (heldHere: [name: string, fence: number]) => Promise<T>,
  ): Promise<T> {
    const { named, partitions } = this.#parts;
    const home = this.#partitionOf(scope);
    if (partitions.ofName(lock.name) === home && partitions.ofName(pass) === home) {
      return await run([lock.name, lock.fence]);
    }
    if (!(await named.holds(lock))) throw lockLost(lock);
    const result = await run(["", 0]);
    if (!(await named.holds(lock))) throw lockLost(lock);
    await named.setCheckpoint(pass, checkpoint);
    return result;
  }

  #partitionOf({ provider, connection }: Scope): Partition {
    return this.#parts.partitions.of(provider, connection);
  }
}

function seenKey(partition: Partition, scope: Scope, pass: string): string {
  return partition.key(`seen:${hash("sha1", `${scopeName(scope)}\0${pass}`, "base64url")}`);
}

function lockLost({ name }: Lock): TrueupError<"LEASE_LOST"> {
  return new TrueupError("LEASE_LOST", `the lock ${name} is no longer held`);
}
