/**
 * What an operator does with an engine now and then, and what must come of it. Whether it came is seen where all is
 * seen; here stands only what a call itself promises.
 *
 * @module
 */

import type { AdoptRow } from "trueup";
import { type Account, ownerOf } from "./accounts.ts";
import type { Dice } from "./dice.ts";
import { copyRows } from "./invariants.ts";
import type { Process } from "./process.ts";
import { ROUTE, thingSchema } from "./provider.ts";
import type { Calls, Scenario } from "./scenario.ts";
import type { World } from "./world.ts";

interface Call {
  readonly world: World;
  readonly dice: Dice;
  readonly worker: Process;
  readonly account: Account;
}

const CALLS: Readonly<Record<keyof Calls, (call: Call) => Promise<void>>> = {
  adopt,
  forget,
  all,
  none,
  since,
  discard: async ({ worker }) => void (await worker.engine.deadLetters.discard({})),
  start,
};

export function operate(world: World, dice: Dice): void {
  const { calls } = world.scenario;
  for (const name of Object.keys(CALLS) as (keyof Calls)[]) {
    if (calls[name] === 0 || !dice.chance(calls[name])) continue;
    const { accounts, workers } = world;
    if (workers.length === 0) return;
    const [worker, account] = [dice.pick(workers), dice.pick(accounts)];
    world.note(`${worker.life.name} is told: ${name} ${account.connection}`);
    CALLS[name]({ world, dice, worker, account }).catch((error: unknown) =>
      world.note(`${worker.life.name}: ${name} fails: ${String(error)}`),
    );
  }
}

/** The index is told what the copy holds, and nothing else. */
async function adopt({ account, dice, worker, world }: Call): Promise<void> {
  const { faults, lies, versions } = world.scenario;
  // A version is believed, so a user whose provider changes objects without moving it says what they are.
  const says = dice.pick(lies > 0 || versions === "none" ? ["object"] : ["object", "version", "id"]);
  const { connection } = account;
  if (world.ledger.forgettings.underWay(connection)) return;
  const rows = function* (): Generator<AdoptRow> {
    for (const [id, mark] of copyRows(world))
      if (ownerOf(id).connection === connection) yield rowOf(world, id, mark, says);
  };
  // Rows that were read before the call may be older than what was handled by then. It is found out, but what a slow
  // replica shows may be later than the one and earlier than the other.
  const early = (faults.staleRead ?? 0) === 0 && dice.chance(0.5);
  const adopting = { worker, connection };
  world.adopting.add(adopting);
  try {
    await worker.engine.adopt(ROUTE, early ? [...rows()] : rows(), { connection });
  } finally {
    world.adopting.delete(adopting);
  }
}

function rowOf(world: World, id: string, mark: string, says: string): AdoptRow {
  const object = thingSchema.parse(
    world.history(id).find((state) => state.object?.["mark"] === mark)?.object,
  );
  if (says === "object") return { id, object };
  if (says === "id") return { id };
  return { id, version: world.scenario.versions === "number" ? object.version : object.updated_at };
}

/** The user may throw away what the copy holds of it, too. Webhooks and passes bring it all back. */
async function forget({ account, dice, worker, world }: Call): Promise<void> {
  const { connection } = account;
  // What is adopted meanwhile comes before it or after it: nobody could say.
  for (const one of world.adopting) if (one.connection === connection && !one.worker.life.dead) return;
  const clears = dice.chance(0.5);
  await worker.engine.forget("fake", connection);
  if (clears) world.copy.clear(connection, world.ledger.forgettings.lastOf(connection));
}

async function all({ account, dice, worker, world }: Call): Promise<void> {
  const { connection } = account;
  const { fake, ledger, scenario } = world;
  const mode = scenario.incremental && dice.chance(0.3) ? "incremental" : "full";
  const timeoutMs = dice.chance(0.3) ? dice.between(500, 60_000) : undefined;
  const step = ledger.step();
  const before = fake.all(account.resource).map(({ id }) => ({ id, deleted: deletions(world, id) }));
  const stillThere = () =>
    before.flatMap(({ deleted, id }) => (deletions(world, id) === deleted ? [id] : []));
  const call = mode === "full" ? ledger.everything.asked(connection, { step, stillThere }) : undefined;
  const { complete, resumed } = await worker.engine
    .reconcile(ROUTE, { mode, connection, handle: "all", timeoutMs })
    .finally(() => call?.over());
  if (!complete || call === undefined) return;
  const leftOut = call.completed(resumed);
  if (!showsAll(scenario) || ledger.forgettings.since(connection, step)) return;
  for (const id of leftOut) world.violated("I2", `${id}: a pass over everything left it out`);
}

function deletions(world: World, id: string): number {
  return world.history(id).filter(({ object }) => object === undefined).length;
}

/** Whether a list shows all that there is. */
function showsAll({ faults }: Scenario): boolean {
  const { lag = 0, missingRows = 0, staleRead = 0 } = faults;
  return lag + missingRows + staleRead === 0;
}

async function none({ account, dice, worker, world }: Call): Promise<void> {
  const { connection } = account;
  const mode = world.scenario.incremental && dice.chance(0.3) ? "incremental" : "full";
  await silently({ world, worker, account }, () =>
    worker.engine.reconcile(ROUTE, { mode, connection, handle: "none" }),
  );
}

async function silently(
  { account, worker, world }: Pick<Call, "world" | "worker" | "account">,
  run: () => Promise<unknown>,
): Promise<void> {
  const ended = world.ledger.index.silent(worker.life, account.connection);
  try {
    await run();
  } finally {
    ended();
  }
}

/** Begins somewhere: before the last pass ended, after it, or in what is yet to come. */
async function since({ account, dice, worker, world }: Call): Promise<void> {
  if (!world.scenario.incremental) return;
  const { connection } = account;
  const { clock, scenario } = world;
  const providerNow = clock.monotonic() + world.startedAt + scenario.clockSkewMs;
  const from = new Date(providerNow + dice.pick([-600_000, -60_000, -5_000, 0, 60_000]));
  const handle = dice.pick(["changed", "changed", "changed", "all", "none"] as const);
  const pass = () => worker.engine.reconcile(ROUTE, { mode: "incremental", connection, since: from, handle });
  if (handle === "none") await silently({ world, worker, account }, pass);
  else await pass();
}

async function start({ dice, worker }: Call): Promise<void> {
  if (!worker.ticks) return;
  worker.engine.tick({ timeoutMs: dice.between(100, 5_000) }).catch(() => {});
  await worker.start();
}
