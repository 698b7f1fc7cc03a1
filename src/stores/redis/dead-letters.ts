/**
 * Dead letters: objects whose work was given up. Lists of them go on from script to script; so do retrying and
 * discarding, each slice by itself.
 *
 * @module
 */

import { invalidOption } from "../../core/errors.ts";
import type { DeadLetterFilter, DeadRecord } from "../../core/store.ts";
import { withStoredEvents } from "../../core/stored-events.ts";
import type { Argument } from "./client.ts";
import { toFailure, UNKNOWN_PRESENT } from "./index-text.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script } from "./script.ts";
import { scopeOf } from "./status.ts";

/** How many one script looks at. */
const SLICE = 200;

/** For scripts: the dead letters of a slice that a filter lets through, and where the next slice begins. */
const SELECT = String.raw`
local after, limit = optional(), number()
local provider, connection, resource = argument(), argument(), argument()
local hasIds, ids = argument() == '1', {}
for i = 1, number() do ids[argument()] = true end

local members = call('ZRANGEBYLEX', DEAD, after and '(' .. after or '-', '+', 'LIMIT', 0, ${SLICE})
local chosen, nextAfter, names = {}, #members == ${SLICE} and members[#members] or false, {}
local function passes(scope, id)
  if names[scope] == nil then names[scope] = nameOf(scope) end
  local p, c, r = string.match(names[scope] or '', '^(%Z*)%z(%Z*)%z(%Z*)$')
  -- '' is no name of anything, and stands for all.
  return p and (provider == '' or provider == p) and (connection == '=' or connection == '=' .. c)
    and (resource == '' or resource == r) and (not hasIds or ids[id])
end
for i, member in ipairs(members) do
  local scope, id = tonumber(string.sub(member, 1, 10)), string.sub(member, 23)
  if passes(scope, id) then
    if #chosen == limit then
      nextAfter = members[i - 1]
      break
    end
    chosen[#chosen + 1] = { scope = scope, id = id, field = fieldOf(scope, id), member = member }
  end
end
local fields = {}
for i, one in ipairs(chosen) do fields[i] = one.field end
load(fields)
`;

const list = script(
  String.raw`
local lines = { nextAfter }
for _, one in ipairs(chosen) do
  local o = object[one.field]
  local line = { names[one.scope], one.id, o.error, o.attempts or 0, o.events or 0, format('%d', o.dirty - shift) }
  for _, event in ipairs(gather('HMGET', EVENTS, o.seqs or {})) do line[#line + 1] = event or nil end
  lines[#lines + 1] = line
end
return lines
`,
  SELECT,
);

const retry = script(
  String.raw`
evenWhenFull()
for _, one in ipairs(chosen) do
  local o = change(one.field)
  o.dead, o.due, o.dirty, o.attempts, o.lags, o.error = nil, now, now, nil, nil, nil
end
flush()
return { nextAfter, #chosen }
`,
  SELECT,
);

const discard = script(
  String.raw`
evenWhenFull()
for _, one in ipairs(chosen) do
  local o = change(one.field)
  for _, seq in ipairs(o.seqs or {}) do drop(EVENTS, seq) end
  -- Where a handler may have begun, nothing is known any more of what the user's copy holds.
  if o.begun == 1 then
    local evidence = o.index and o.index[6] or 0
    o.index = cjson.decode('${UNKNOWN_PRESENT}')
    o.index[6] = evidence
  end
  object[one.field] = { n = o.n, index = o.index, touched = o.touched, notBefore = o.notBefore, begun = o.begun }
  if not o.index then logEmpty({ one.field }) end
end
flush()
return { nextAfter, #chosen }
`,
  SELECT,
);

type Line = readonly [
  name: string,
  id: string,
  error: string,
  attempts: number,
  eventCount: number,
  dirtySince: string,
  ...events: string[],
];

export class DeadLetters {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  /** Partition by partition, in the order of scopes and numbers. */
  async list(
    filter: DeadLetterFilter,
    page: { readonly cursor: string | undefined; readonly limit: number },
  ): Promise<{ items: DeadRecord[]; next: string | undefined }> {
    const items: DeadRecord[] = [];
    let [n, after] = readCursor(page.cursor);
    for (
      let partition = this.#partitions.all[n];
      partition !== undefined;
      partition = this.#partitions.all[n]
    ) {
      const args = select(filter, after, page.limit - items.length);
      const [next, ...lines] = (await this.#link.run(list, partition, args)) as [string | null, ...Line[]];
      items.push(...lines.map(toRecord));
      [n, after] = next === null ? [n + 1, ""] : [n, next];
      if (items.length >= page.limit) break;
    }
    const more = n < this.#partitions.all.length;
    return { items, next: more ? writeCursor(n, after) : undefined };
  }

  /** @returns how many */
  retry(filter: DeadLetterFilter): Promise<number> {
    return this.#inSlices(retry, filter);
  }

  /** @returns how many */
  discard(filter: DeadLetterFilter): Promise<number> {
    return this.#inSlices(discard, filter);
  }

  async #inSlices(change: typeof retry, filter: DeadLetterFilter): Promise<number> {
    const counts = await Promise.all(
      this.#partitions.all.map((partition) => this.#slicesOf(change, partition, filter)),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async #slicesOf(change: typeof retry, partition: Partition, filter: DeadLetterFilter): Promise<number> {
    let count = 0;
    for (let after: string | null = ""; after !== null;) {
      const reply = await this.#link.run(change, partition, select(filter, after, SLICE));
      const [next, changed] = reply as [string | null, number];
      count += changed;
      after = next;
    }
    return count;
  }
}

function select(filter: DeadLetterFilter, after: string, limit: number): Argument[] {
  const { provider = "", resource = "", connection, ids } = filter;
  const named = connection === undefined ? "=" : `=${connection}`;
  return [
    after,
    limit,
    provider,
    named,
    resource,
    Number(ids !== undefined),
    ids?.length ?? 0,
    ...(ids ?? []),
  ];
}

function toRecord([name, id, error, attempts, eventCount, dirtySince, ...events]: Line): DeadRecord {
  const record = {
    ref: { ...scopeOf(name), id },
    error: toFailure(error),
    attempts,
    eventCount,
    dirtySince: Number(dirtySince),
  };
  return withStoredEvents(record, events);
}

function writeCursor(partition: number, after: string): string {
  return `${partition}.${Buffer.from(after).toString("base64url")}`;
}

function readCursor(cursor: string | undefined): [partition: number, after: string] {
  if (cursor === undefined) return [0, ""];
  const match = /^(\d{1,9})\.([A-Za-z0-9_-]{0,8192})$/.exec(cursor);
  if (match === null) throw invalidOption(`${JSON.stringify(cursor)} is no cursor of a list of dead letters`);
  return [Number(match[1]), Buffer.from(match[2] ?? "", "base64url").toString()];
}
