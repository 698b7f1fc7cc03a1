/**
 * Settling what is done and has not been touched since it was claimed.
 *
 * @module
 */

import type { Claim, IndexEntry, Settlement } from "../../core/store.ts";
import { indexText } from "./index-text.ts";
import { numberIn, type Receipt, receiptOf } from "./leases.ts";
import type { Link } from "./link.ts";
import type { Partition } from "./partition.ts";
import { script } from "./script.ts";

/**
 * By far the most are done, and nothing came meanwhile, which their leases tell by standing as they were taken. What was
 * read at the claim still holds then, so that nothing is read now, and the record is written as its holder made it.
 * Others are left alone.
 *
 * Groups of one lease and scope, each with what becomes of the presence of its objects, a character an object; then of
 * all fields, as JSON, and records up to what `touched` is and events, line by line: few arguments cost less than many.
 */
const settle = script(String.raw`
local function linesOf(text)
  local lines, start = {}, 1
  repeat
    local stop = find(text, '\n', start, true)
    lines[#lines + 1] = sub(text, start, stop and stop - 1)
    start = stop and stop + 1
  until not start
  return lines
end

evenWhenFull()
local groups = {}
for i = 1, number() do groups[i] = { held = argument(), scope = argument(), presences = argument() } end
local fields, records, seqs = cjson.decode(argument()), linesOf(argument()), linesOf(argument())
local leases = gather('HMGET', LEASES, fields)
local touched = format('%d', tick()) .. '}'
local sets, gone, events, ended, i = {}, {}, {}, {}, 0
for _, group in ipairs(groups) do
  local held, more = group.held, 0
  for j = 1, #group.presences do
    i = i + 1
    local field = fields[i]
    if leases[i] == held and not ended[field] then
      ended[field] = true
      local place = #gone + 1
      gone[place], sets[2 * place - 1], sets[2 * place] = field, field, records[i] .. touched
      local list = seqs[i]
      if find(list, ',', 1, true) then
        for seq in string.gmatch(list, '%d+') do events[#events + 1] = seq end
      elseif list ~= '' then
        events[#events + 1] = list
      end
      local presence = string.byte(group.presences, j)
      if presence == 43 then more = more + 1 elseif presence == 45 then more = more - 1 end -- '+' and '-'
    else
      leases[i] = false
    end
  end
  if more ~= 0 then present[group.scope] = (present[group.scope] or 0) + more end
end
many('HSET', OBJECTS, sets)
many('HDEL', LEASES, gone)
many('HDEL', EVENTS, events)
flush()
if #gone == #fields then return 1 end
for i = 1, #fields do leases[i] = leases[i] and 1 or 0 end
return leases
`);

/** A settlement of work that is done, and whose object may be as it was when it was claimed. */
export interface Untouched {
  readonly place: number;
  readonly claim: Claim;
  readonly index: IndexEntry;
  readonly receipt: Receipt;
}

/** What of settlements may be written unread, and the places of the others: also of all of objects that those are about. */
export function sorted(
  session: string,
  settlements: readonly Settlement[],
): { readonly untouched: readonly Untouched[]; readonly others: readonly number[] } {
  const found = settlements.map((settlement, place) => toUntouched(session, settlement, place));
  const read = new Set(settlements.filter((_, i) => found[i] === undefined).map(({ claim }) => claim.key));
  if (read.size === 0) return { untouched: found as Untouched[], others: [] };
  const isUntouched = (one: Untouched | undefined) => one !== undefined && !read.has(one.claim.key);
  return {
    untouched: found.filter(isUntouched) as Untouched[],
    others: [...found.keys()].filter((place) => !isUntouched(found[place])),
  };
}

function toUntouched(session: string, settlement: Settlement, place: number): Untouched | undefined {
  if (settlement.kind !== "done" || settlement.index === null || settlement.notBefore !== undefined)
    return undefined;
  const { claim, index } = settlement;
  const receipt = receiptOf(claim);
  return receipt?.held.startsWith(session) === true ? { place, claim, index, receipt } : undefined;
}

/** What stands in the record of an object that is clean, up to what `touched` is. */
function recordStart({ key }: Claim, index: IndexEntry): string {
  return `{"n":${numberIn(key)},"index":${indexText(index)},"touched":`;
}

/** What was leased at once, of one scope. */
interface Group {
  readonly held: string;
  readonly scope: string;
  presences: string;
  readonly members: Untouched[];
}

function groupsOf(all: readonly Untouched[]): Group[] {
  const groups = new Map<string, Group>();
  let group: Group | undefined;
  for (const one of all) {
    const { field, held } = one.receipt;
    const scope = field.slice(0, field.indexOf(":"));
    if (group?.scope !== scope || group.held !== held) {
      const name = `${scope} ${held}`;
      group = groups.get(name) ?? { held, scope, presences: "", members: [] };
      groups.set(name, group);
    }
    group.members.push(one);
    group.presences += presenceOf(one);
  }
  return [...groups.values()];
}

function presenceOf({ claim, index }: Untouched): "+" | "-" | "=" {
  const [was, is] = [claim.index?.state === "present", index.state === "present"];
  if (was === is) return "=";
  return is ? "+" : "-";
}

/** @returns the places of those that it has left alone */
export async function settleUntouched(
  link: Link,
  partition: Partition,
  all: readonly Untouched[],
): Promise<number[]> {
  if (all.length === 0) return [];
  const groups = groupsOf(all);
  const ordered = groups.flatMap(({ members }) => members);
  const reply = await link.run(settle, partition, [
    groups.length,
    ...groups.flatMap(({ held, scope, presences }) => [held, scope, presences]),
    JSON.stringify(ordered.map(({ receipt }) => receipt.field)),
    ordered.map(({ claim, index }) => recordStart(claim, index)).join("\n"),
    ordered.map(({ receipt }) => receipt.seqs.join()).join("\n"),
  ]);
  if (reply === 1) return [];
  return ordered.filter((_, i) => (reply as number[])[i] === 0).map(({ place }) => place);
}
