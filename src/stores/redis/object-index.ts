/**
 * The object index: what the user's copy is known to hold; and the counter.
 *
 * @module
 */

import type { Scope } from "../../core/event.ts";
import type { IndexEntry, Lookup } from "../../core/store.ts";
import { scopeName } from "./append.ts";
import { type IndexParts, indexText, toIndex } from "./index-text.ts";
import { objectKey } from "./leases.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** How many objects one script looks at. */
const SLICE = 1_000;

const lookup = script(String.raw`
local scope = findScope(argument())
local found = {}
if not scope then return found end
local fields = {}
for i = 1, number() do fields[i] = fieldOf(scope, argument()) end
load(fields)
for i, field in ipairs(fields) do
  local o = object[field]
  local pending = o and (o.due or o.dead)
  -- A record that was only ever numbered, by a pass that saw the id, knows nothing.
  found[i] = o and (o.touched or o.index or pending) and
    { field, o.n, o.index and cjson.encode(o.index) or false, pending and 1 or 0, max(o.touched or 0, tonumber(string.match(lease[field] or '', '(%d+)%+?$') or 0)) } or 0
end
return found
`);

const record = script(String.raw`
local scope = demandScope(argument())
local entries, fields = {}, {}
for i = 1, number() do
  entries[i] = { id = argument(), index = cjson.decode(argument()) }
  fields[i] = fieldOf(scope, entries[i].id)
end
load(fields)
local written = 0
for i, field in ipairs(fields) do
  local o = object[field]
  local pending = o and (o.due or o.dead)
  local newer = o and o.index and o.index[6] > entries[i].index[6]
  if not pending and not newer then
    o = change(field) or create(scope, entries[i].id)
    o.index = entries[i].index
    written = written + 1
  end
end
flush()
return written
`);

const counter = script(String.raw`
return tonumber(call('HGET', NUMBERS, 'counter') or 0)
`);

const countPresent = script(String.raw`
local scope = findScope(argument())
return scope and tonumber(call('HGET', NUMBERS, 'present:' .. scope) or 0) or 0
`);

type Line = readonly [field: string, n: number, index: string | null, pending: 0 | 1, touched: number] | 0;

export class ObjectIndex {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  async lookup(scope: Scope, ids: readonly string[]): Promise<(Lookup | undefined)[]> {
    const slices = sliced(ids).map(async (slice) => {
      const args = [scopeName(scope), slice.length, ...slice];
      const lines = (await this.#link.run(lookup, this.#partitionOf(scope), args)) as Line[];
      return slice.map((_, i) => toLookup(lines[i] ?? 0));
    });
    return (await Promise.all(slices)).flat();
  }

  /** Writes entries of objects that are not pending, nor have a newer one; returns how many. */
  async record(
    scope: Scope,
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
  ): Promise<number> {
    let written = 0;
    for (const slice of sliced(entries)) {
      const lines = slice.flatMap(({ id, index }) => [id, indexText(index)]);
      const args = [scopeName(scope), slice.length, ...lines];
      written += (await this.#link.run(record, this.#partitionOf(scope), args)) as number;
    }
    return written;
  }

  async counter(scope: Scope): Promise<number> {
    return (await this.#link.run(counter, this.#partitionOf(scope), [])) as number;
  }

  async countPresent(scope: Scope): Promise<number> {
    return (await this.#link.run(countPresent, this.#partitionOf(scope), [scopeName(scope)])) as number;
  }

  #partitionOf({ provider, connection }: Scope): Partition {
    return this.#partitions.of(provider, connection);
  }
}

function toLookup(line: Line): Lookup | undefined {
  if (line === 0) return undefined;
  const [field, n, index, pending, touched] = line;
  return {
    key: objectKey(field, n),
    index: index === null ? undefined : toIndex(JSON.parse(index) as IndexParts),
    pending: pending === 1,
    touched,
  };
}

function sliced<T>(items: readonly T[]): (readonly T[])[] {
  const found: (readonly T[])[] = [];
  for (let start = 0; start < items.length; start += SLICE) found.push(items.slice(start, start + SLICE));
  return found;
}
