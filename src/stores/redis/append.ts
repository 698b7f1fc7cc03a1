/**
 * Appending: the ledger, the event, and the dirty mark, in one step.
 *
 * @module
 */

import { batcher } from "../../core/batcher.ts";
import { invalidOption } from "../../core/errors.ts";
import { DEDUPE_KEY_BYTES, type Scope } from "../../core/event.ts";
import type { AppendEntry, AppendResult } from "../../core/store.ts";
import type { Argument } from "./client.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** What one script takes in, so that it does not keep the others waiting: but a call is never cut. */
const MAX_ENTRIES = 500;
const MAX_BYTES = 1_048_576;

// Of what is accepted it answers the generation, and of duplicates that of their object, taken from -1.
// Keys join the ledger together with the work that they stand for, so that nothing is taken for seen that is not done.
const append = script(String.raw`
local entries, fields, asked = {}, {}, {}
local scopes = {}
for i = 1, number() do scopes[i] = demandScope(argument()) end
for i = 1, number() do
  local e = { scope = scopes[number()], id = argument(), key = optional(), event = optional(), origin = argument(),
    repair = number(), force = argument() == '1', hint = optional(), version = optional(), order = optional() }
  entries[i], fields[i] = e, fieldOf(e.scope, e.id)
  asked[i] = e.key or ''
end
load(fields)

local known, seen, results, first, keys = gather('SMISMEMBER', LEDGER, asked), {}, {}, nil, {}
for i, e in ipairs(entries) do
  local o = object[fields[i]]
  if e.key and (seen[e.key] or known[i] == 1) then
    results[i] = -1 - (o and o.due and o.generation or 0)
  else
    if e.key then
      seen[e.key] = true
      keys[#keys + 1] = e.key
    end
    local generation = markDirty(e.scope, e.id, e)
    first = first or generation
    results[i] = generation
  end
end
if first then write('RPUSH', LOG, cjson.encode({ at = now, first = first, last = counter, keys = #keys > 0 and keys or nil })) end
flush()
many('SADD', LEDGER, keys)
return results
`);

export class Appender {
  readonly #partitions: Partitions;
  readonly #batches: readonly ((entries: readonly AppendEntry[]) => Promise<AppendResult[]>)[];

  constructor(link: Link, partitions: Partitions) {
    this.#partitions = partitions;
    this.#batches = partitions.all.map((partition) =>
      batcher((calls: (readonly AppendEntry[])[]) => appendCalls(link, partition, calls)),
    );
  }

  async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    for (const { dedupeKey } of entries) {
      if (dedupeKey !== undefined && dedupeKey.length !== DEDUPE_KEY_BYTES) {
        throw invalidOption(`a dedupeKey has ${DEDUPE_KEY_BYTES} bytes, not ${dedupeKey.length}`);
      }
    }
    const byPartition = Map.groupBy(entries.keys(), (i) => {
      const { provider, connection } = (entries[i] as AppendEntry).ref;
      return this.#partitions.of(provider, connection).n;
    });
    const results: AppendResult[] = [];
    await Promise.all(
      [...byPartition].map(async ([n, places]) => {
        const own = await this.#batches[n]?.(places.map((i) => entries[i] as AppendEntry));
        places.forEach((i, j) => (results[i] = own?.[j] as AppendResult));
      }),
    );
    return results;
  }
}

/** An entry as the script takes it. */
interface Line {
  readonly scope: string;
  readonly event: string;
  readonly entry: AppendEntry;
}

/** All appends of a turn of the event loop to one partition. */
async function appendCalls(
  link: Link,
  partition: Partition,
  calls: readonly (readonly AppendEntry[])[],
): Promise<AppendResult[][]> {
  const replies = chunks(calls.map((call) => call.map(lineOf))).map(async (chunk) => {
    const reply = (await link.run(append, partition, argumentsOf(chunk.flat()))) as readonly number[];
    const results = reply.map(toResult);
    let start = 0;
    return chunk.map((call) => results.slice(start, (start += call.length)));
  });
  return (await Promise.all(replies)).flat();
}

function chunks(calls: readonly (readonly Line[])[]): (readonly Line[])[][] {
  const found: (readonly Line[])[][] = [];
  let [lines, bytes] = [Infinity, Infinity];
  for (const call of calls) {
    if (lines + call.length > MAX_ENTRIES || bytes > MAX_BYTES) {
      found.push([]);
      [lines, bytes] = [0, 0];
    }
    found.at(-1)?.push(call);
    lines += call.length;
    for (const { event } of call) bytes += event.length;
  }
  return found;
}

function toResult(generation: number): AppendResult {
  return generation < 0
    ? { status: "duplicate", generation: -1 - generation }
    : { status: "accepted", generation };
}

function lineOf(entry: AppendEntry): Line {
  const event = entry.event === undefined ? "" : JSON.stringify(entry.event);
  return { scope: scopeName(entry.ref), event, entry };
}

function argumentsOf(lines: readonly Line[]): Argument[] {
  const scopes = new Map<string, number>();
  const args: Argument[] = [];
  for (const { scope: name, event, entry } of lines) {
    let scope = scopes.get(name);
    if (scope === undefined) scopes.set(name, (scope = scopes.size + 1));
    const { ref, dedupeKey, origin, lane, force, hint = "", version = "", versionOrder = "" } = entry;
    const key = dedupeKey === undefined ? "" : Buffer.from(dedupeKey).toString("base64url");
    const [repair, forced] = [Number(lane === "repair"), Number(force === true)];
    args.push(scope, ref.id, key, event, origin, repair, forced, hint, version, versionOrder);
  }
  return [scopes.size, ...scopes.keys(), lines.length, ...args];
}

/** What scripts know a scope by. */
export function scopeName({ provider, connection, resource }: Scope): string {
  return `${provider}\0${connection}\0${resource}`;
}
