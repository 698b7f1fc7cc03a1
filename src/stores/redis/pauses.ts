/**
 * Pauses of connections: their lanes wait for the end of them.
 *
 * @module
 */

import type { Pause } from "../../core/store.ts";
import type { Link } from "./link.ts";
import type { Partitions } from "./partition.ts";
import { script } from "./script.ts";

/** For scripts: what becomes of the lanes of a connection whose pause has changed. */
const LANES_OF = String.raw`
local function placeLanes(connection)
  for _, member in ipairs(range(SCOPES, connection .. '\0', -1)) do
    local scope = tonumber(string.match(member, '%d+$'))
    for lane = scope * 2, scope * 2 + 1 do
      local old = call('HGET', LANE, lane)
      if old then setLane(lane, old, nil) end
      local due = headDue(lane)
      if due then wake(lane, due) end
    end
  end
end
`;

const pause = script(
  String.raw`
local connection, till, reason = argument(), moment(), argument()
evenWhenFull()
local present = call('HGET', PAUSES, connection)
present = present and cjson.decode(present)
if present then
  local inForce = not present['until'] or present['until'] > now
  if inForce and (not present['until'] or (till and till < present['until'])) then return 0 end
end
call('HSET', PAUSES, connection, cjson.encode({ ['until'] = till, reason = reason }))
placeLanes(connection)
flush()
return 1
`,
  LANES_OF,
);

const resume = script(
  String.raw`
local connection = argument()
evenWhenFull()
call('HDEL', PAUSES, connection)
placeLanes(connection)
flush()
return 1
`,
  LANES_OF,
);

const list = script(String.raw`
local found, all = {}, call('HGETALL', PAUSES)
for i = 1, #all, 2 do
  local pause = cjson.decode(all[i + 1])
  local till = pause['until']
  if not till or till > now then
    found[#found + 1] = { all[i], till and format('%d', till - shift) or false, pause.reason }
  end
end
return found
`);

type Line = readonly [connection: string, until: string | null, reason: string];

export class Pauses {
  readonly #link: Link;
  readonly #partitions: Partitions;

  constructor(link: Link, partitions: Partitions) {
    this.#link = link;
    this.#partitions = partitions;
  }

  async pause({ provider, connection, until, reason }: Pause): Promise<void> {
    const partition = this.#partitions.of(provider, connection);
    await this.#link.run(pause, partition, [`${provider}\0${connection}`, until ?? "", reason]);
  }

  async resume(provider: string, connection: string): Promise<void> {
    const partition = this.#partitions.of(provider, connection);
    await this.#link.run(resume, partition, [`${provider}\0${connection}`]);
  }

  async list(): Promise<Pause[]> {
    const lines = await Promise.all(
      this.#partitions.all.map((partition) => this.#link.run(list, partition, [])),
    );
    return (lines.flat() as Line[])
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, until, reason]) => {
        const [provider = "", connection = ""] = name.split("\0");
        return { provider, connection, until: until === null ? null : Number(until), reason };
      });
  }
}
