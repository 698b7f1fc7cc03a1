/**
 * Settling: how a claim ends.
 *
 * @module
 */

import type { Settlement, SettleOutcome } from "../../core/store.ts";
import { scopeName } from "./append.ts";
import type { Argument } from "./client.ts";
import { failureText, indexText } from "./index-text.ts";
import type { Link } from "./link.ts";
import type { Partition, Partitions } from "./partition.ts";
import { script } from "./script.ts";
import { settleUntouched, sorted } from "./untouched.ts";

/**
 * How many settlements one script takes: it should not keep the others waiting. Those of one call are of different
 * objects, which nothing binds together.
 */
const MAX_SETTLEMENTS = 500;

const settle = script(String.raw`
evenWhenFull()
local session = argument()
local scopes = {}
for i = 1, number() do scopes[i] = findScope(argument()) or 0 end
local settlements, fields = {}, {}
for i = 1, number() do
  local scope, fence, generation, kind, attempts, lags, begun =
    string.match(argument(), '^(%d+) (%d+) (%d+) (%a+) (%d+) (%d+) (%d+)$')
  local s = { scope = scopes[tonumber(scope)], id = argument(), fence = fence, generation = tonumber(generation), kind = kind,
    attempts = tonumber(attempts), lags = tonumber(lags), begun = begun, at = moment(), index = optional(), error = optional() }
  settlements[i], fields[i] = s, fieldOf(s.scope, s.id)
end
load(fields)
local touched, errors, taken = tick(), {}, {}

-- Everything that belongs to the piece of work that is done, but for what was appended meanwhile.
local function clear(o)
  o.attempts, o.lags, o.begun, o.error = nil, nil, nil, nil
end

local function done(field, o, s, since)
  local later = {}
  for _, seq in ipairs(o.seqs or {}) do
    if seq <= s.generation then drop(EVENTS, seq) else later[#later + 1] = seq end
  end
  o.seqs = #later > 0 and later or nil
  o.index, o.notBefore = s.index and cjson.decode(s.index), s.at
  clear(o)
  if since then
    setHint(o, since.hint)
    o.dirty, o.origin, o.events = since.dirty, since.origin, since.events
    o.due = max(now, s.at or 0)
    if o.forced and o.forced <= s.generation then o.forced = nil end
  else
    setHint(o, {})
    o.lane, o.due, o.dirty, o.generation, o.forced, o.origin, o.events = nil, nil, nil, nil, nil, nil, nil
    -- A record that holds nothing lasts for as long as a pass may need it.
    if not o.index then logEmpty({ field }) end
  end
end

local function failed(o, s, since)
  if since then setHint(o, mergeHints(o, since.hint)) end
  if s.begun == '1' then o.begun = 1 end
  o.error = s.error
  if s.error then errors[s.scope] = s.error end
  if s.kind == 'retry' then
    o.due, o.attempts, o.lags = s.at, s.attempts, s.lags
  elseif since then
    -- Fresh work, by what came meanwhile.
    o.due, o.dirty, o.origin = now, since.dirty, since.origin
    o.attempts, o.lags, o.error = nil, nil, nil
  else
    o.due, o.dead, o.attempts, o.lags = nil, 1, s.attempts, s.lags
  end
end

local outcomes = {}
for i, s in ipairs(settlements) do
  local field = fields[i]
  local o = object[field]
  -- After a failover that lost writes a fence may be given a second time: the session tells those two apart.
  local holder, fence = string.match(lease[field] or '', '^([^:]*):%d+:(%d+)%+?$')
  if taken[field] or not o or holder ~= session or fence ~= s.fence then
    outcomes[i] = 2
  else
    change(field)
    local since = endLease(field, o)
    o.touched = touched
    if s.kind == 'done' then done(field, o, s, since) else failed(o, s, since) end
    outcomes[i], taken[field] = since and 1 or 0, true
  end
end
for scope, text in pairs(errors) do put(ERRORS, scope, text) end
flush()
return outcomes
`);

const outcomes: readonly SettleOutcome[] = ["settled", "dirty", "lost"];

export class Settler {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  async settle(session: string, settlements: readonly Settlement[]): Promise<SettleOutcome[]> {
    const results: SettleOutcome[] = [];
    const byPartition = Map.groupBy(settlements.keys(), (i) => {
      const { provider, connection } = (settlements[i] as Settlement).claim.ref;
      return this.#partitions.of(provider, connection);
    });
    const calls = [...byPartition].flatMap(([partition, places]) =>
      slices(places).map(async (slice) => {
        const own = slice.map((i) => settlements[i] as Settlement);
        const found = await this.#settleIn(partition, session, own);
        slice.forEach((i, j) => (results[i] = found[j] as SettleOutcome));
      }),
    );
    await Promise.all(calls);
    return results;
  }

  async #settleIn(
    partition: Partition,
    session: string,
    settlements: readonly Settlement[],
  ): Promise<SettleOutcome[]> {
    const results = settlements.map((): SettleOutcome => "settled");
    const { untouched, others } = sorted(session, settlements);
    const read = async (places: readonly number[]) => {
      const own = places.map((place) => settlements[place] as Settlement);
      const reply = await this.#settleByReading(partition, session, own);
      places.forEach((place, i) => (results[place] = outcomes[reply[i] ?? 2] as SettleOutcome));
    };
    const [touched] = await Promise.all([settleUntouched(this.#link, partition, untouched), read(others)]);
    await read(touched);
    return results;
  }

  async #settleByReading(
    partition: Partition,
    session: string,
    settlements: readonly Settlement[],
  ): Promise<readonly number[]> {
    if (settlements.length === 0) return [];
    const scopes = new Map<string, number>();
    const lines: Argument[] = [];
    for (const settlement of settlements) {
      const { ref, fence, generation } = settlement.claim;
      const name = scopeName(ref);
      let scope = scopes.get(name);
      if (scope === undefined) scopes.set(name, (scope = scopes.size + 1));
      const { numbers, at, index, error } = details(settlement);
      lines.push(`${scope} ${fence} ${generation} ${settlement.kind} ${numbers}`, ref.id, at, index, error);
    }
    const args = [session, scopes.size, ...scopes.keys(), settlements.length, ...lines];
    return (await this.#link.run(settle, partition, args)) as readonly number[];
  }
}

interface Details {
  /** Attempts, lags, and whether a handler may have begun. */
  readonly numbers: string;
  readonly at: number | "";
  readonly index: string;
  readonly error: string;
}

function details(settlement: Settlement): Details {
  switch (settlement.kind) {
    case "done": {
      const { index, notBefore } = settlement;
      return {
        numbers: "0 0 0",
        at: notBefore ?? "",
        index: index === null ? "" : indexText(index),
        error: "",
      };
    }
    case "retry": {
      const { due, attempts, lags, begun, error } = settlement;
      const text = error === undefined ? "" : failureText(error);
      return { numbers: `${attempts} ${lags} ${Number(begun)}`, at: due, index: "", error: text };
    }
    case "dead": {
      const { claim, begun, error } = settlement;
      const numbers = `${claim.attempt} ${claim.lags} ${Number(begun)}`;
      return { numbers, at: "", index: "", error: failureText(error) };
    }
  }
}

function slices(places: readonly number[]): (readonly number[])[] {
  const found: (readonly number[])[] = [];
  for (let start = 0; start < places.length; start += MAX_SETTLEMENTS)
    found.push(places.slice(start, start + MAX_SETTLEMENTS));
  return found;
}
