import { createHmac } from "node:crypto";
import { FAKE_SECRET } from "trueup/testing";
import { type Account, ownerOf, RESOURCE } from "./accounts.ts";
import { Dice } from "./dice.ts";
import { FORGED } from "./copy.ts";
import {
  checkAnswered,
  checkBroker,
  checkCaughtUp,
  checkDuplicates,
  checkEqual,
  checkEverything,
  checkOrder,
  checkRate,
  checkTouched,
} from "./invariants.ts";
import { operate } from "./operator.ts";
import { LEASE_MS, type Process } from "./process.ts";
import { ROUTE, TOUCHED } from "./provider.ts";
import { scenarioOf, type Scenario } from "./scenario.ts";
import { virtualTimers } from "./virtual-timers.ts";
import { World, type Violation, type WorldOptions } from "./world.ts";

export interface SimulationResult {
  readonly seed: number;
  readonly scenario: Scenario;
  readonly violations: readonly Violation[];
  /** The same in every run of the seed. */
  readonly hash: string;
  readonly trace: readonly string[];
  readonly crashes: number;
  readonly handed: number;
}

export interface SimulationOptions extends WorldOptions {
  /** Instead of what the seed says. */
  readonly scenario?: Partial<Scenario> | undefined;
}

/** Runs one seed: a stretch of chaos, then peace, then the account. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const scenario = { ...scenarioOf(seed), ...options.scenario };
  const world = new World(scenario, options);
  const everyone: Process[] = [];
  const realTimers = virtualTimers(world.clock);
  try {
    for (let i = 0; i < scenario.workers; i += 1) world.spawn(true);
    if (scenario.receiver) world.spawn(false);
    await chaos(world, everyone);
    if (scenario.budget === "liveness") await peace(world);
    checkOrder(world);
    checkDuplicates(world);
    for (const asked of ratesOf(world, everyone)) checkRate(world, asked);
  } catch (error) {
    world.violated("run", error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    await world.dispose();
    realTimers();
  }
  const { copy, crashes, trace, violations } = world;
  return {
    seed,
    scenario,
    violations,
    hash: trace.hash,
    trace: trace.lines,
    crashes,
    handed: copy.handed.length,
  };
}

/** When those asked the provider who share a rate: all processes, where they share a store, else each by itself. */
function ratesOf(
  { accounts, scenario }: World,
  everyone: readonly Process[],
): readonly (readonly number[])[] {
  const together =
    scenario.store === "shared"
      ? [everyone.flatMap(({ requests }) => requests)]
      : everyone.filter(({ life }) => !life.stalled).map(({ requests }) => requests);
  return accounts.flatMap(({ connection }) =>
    together.map((requests) =>
      requests
        .filter((request) => request.connection === connection)
        .map(({ at }) => at)
        .toSorted((a, b) => a - b),
    ),
  );
}

/** Never deleted, in any account: a list that is suddenly empty is not believed, and rightly so (I7). */
const KEPT = "0";

async function chaos(world: World, everyone: Process[]): Promise<void> {
  const { scenario } = world;
  const dice = new Dice(scenario.seed, "script");
  const operatorDice = new Dice(scenario.seed, "operator");
  const ids = world.accounts.flatMap(({ letter }) =>
    Array.from({ length: scenario.objects }, (_, i) => `${letter}${i}`),
  );
  for (const { letter } of world.accounts) world.put(`${letter}${KEPT}`);
  for (let step = 0; step < scenario.steps; step += 1) {
    act(world, dice, ids);
    operate(world, operatorDice);
    await world.advance(dice.pick([0, 5, 100, 1_000, 1_000, 5_000, 20_000]));
    for (const one of world.processes) if (!everyone.includes(one)) everyone.push(one);
  }
}

/** How often all connections to the broker break. */
const BROKER_CUT = 0.03;

function act(world: World, dice: Dice, ids: readonly string[]): void {
  const { fake, scenario } = world;
  const id = dice.pick(ids);
  const quiet = dice.chance(scenario.quietChanges);
  const worker = world.workers.length === 0 ? undefined : dice.pick(world.workers);
  const roll = dice.random();
  if (roll < 0.5) {
    const times = dice.pick([1, 1, 1, 2, 4]);
    for (let i = 0; i < times; i += 1)
      world.put(dice.chance(0.7) ? id : dice.pick(ids), { quiet, keepVersion: dice.chance(scenario.lies) });
  } else if (roll < 0.62) {
    if (!id.endsWith(KEPT)) world.delete(id, { quiet });
  } else if (roll < 0.7) {
    if (worker !== undefined) byHand(worker, dice, id);
  } else if (roll < 0.74) {
    if (worker !== undefined) void forge(world, worker, dice, id);
  } else if (roll < 0.78) {
    fake.fail(dice.between(1, 20_000));
  } else if (roll < 0.84) {
    if (worker !== undefined && scenario.crash > 0) world.kill(worker);
  } else if (roll < 0.84 + scenario.stalls) {
    const ms = dice.pick([2_000, 2.5 * LEASE_MS]);
    if (worker !== undefined && dice.chance(0.5)) world.stallAtWork(worker, ms);
    else if (worker !== undefined) world.stall(worker, ms);
  } else if (roll > 1 - scenario.clockTurns.chance) {
    world.turnClock(dice.pick(scenario.clockTurns.byMs));
  } else if (roll > 0.94) {
    if (worker !== undefined) void stop(world, worker);
  }
  if (worker !== undefined && dice.chance(scenario.wholeResource)) void touch(world, worker, dice);
  if (dice.chance(BROKER_CUT)) world.broker?.cut();
  if (worker?.ticks === true) worker.engine.tick({ timeoutMs: dice.between(100, 5_000) }).catch(() => {});
}

/** What an operator does. What comes of it is seen elsewhere; a process may die over it. */
function byHand({ engine, scenario }: Process, dice: Dice, id: string): void {
  const { connection } = ownerOf(id);
  const forget = (promise: Promise<unknown>) => void promise.catch(() => {});
  const roll = dice.random();
  if (roll < 0.35) forget(engine.trigger(ROUTE, [id], { connection }));
  else if (roll < 0.55)
    forget(engine.reconcile(ROUTE, { mode: "full", connection, timeoutMs: dice.between(500, 60_000) }));
  else if (roll < 0.7 && scenario.incremental)
    forget(engine.reconcile(ROUTE, { mode: "incremental", connection }));
  else if (roll < 0.8) forget(engine.deadLetters.retry({}));
  else if (roll < 0.9) forget(engine.verify(ROUTE, { connection }));
  else forget(engine.resume({ provider: "fake", connection }));
}

/** Somebody who does not know the secret. */
async function forge(world: World, worker: Process, dice: Dice, id: string): Promise<void> {
  const event = { id: `${FORGED}${dice.between(0, 1e9)}`, type: "thing.deleted", resource: RESOURCE };
  const key = Buffer.from("guessed");
  const status = await post(world, worker, { ...event, object_id: id, version: 1e9 }, key);
  if (status !== undefined && status !== 401 && status !== 503)
    world.violated("I11", `a forged webhook was answered ${status}`);
}

/** The provider says that something of the resource changed, and not what. */
async function touch(world: World, worker: Process, dice: Dice): Promise<void> {
  const event = { id: `touched_${dice.between(0, 1e9)}`, type: TOUCHED, resource: RESOURCE };
  const upTo = world.lastSequence();
  const asked = world.ledger.step();
  const status = await post(world, worker, event, Buffer.from(FAKE_SECRET.slice("whsec_".length), "base64"));
  const { touched } = world;
  const isLater = touched === undefined || touched.upTo < upTo || world.isTouchWaived(touched);
  if (status === 200 && isLater) world.touched = { upTo, asked };
}

/** @returns the status of the answer; `undefined` where the process died over it */
async function post(
  world: World,
  { receive }: Process,
  event: { readonly id: string; readonly [field: string]: unknown },
  key: Buffer,
): Promise<number | undefined> {
  const body = JSON.stringify(event);
  const timestamp = String(Math.floor(world.clock.now() / 1_000));
  const signature = createHmac("sha256", key).update(`${event.id}.${timestamp}.${body}`).digest("base64");
  const headers = {
    "webhook-id": event.id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signature}`,
    "content-type": "application/json",
  };
  const request = new Request("http://receiver.example/", { method: "POST", headers, body });
  return receive(request).then(
    (response) => response.status,
    () => undefined,
  );
}

/** A deployment: the process ends in good order, and another begins. */
async function stop(world: World, worker: Process): Promise<void> {
  worker.stopping = true;
  world.note(`${worker.life.name} is stopped`);
  await worker.engine.stop({ timeoutMs: 5_000 });
  if (worker.life.timers > 0) world.violated("I10", `a stopped engine left ${worker.life.timers} timers`);
  worker.stopping = false; // its place is free: the next one begins
  worker.life.kill();
}

const HOUR_MS = 3_600_000;

/** All faults end. In bounded time the copy is right. */
async function peace(world: World): Promise<void> {
  const { fake, scenario } = world;
  world.note("peace");
  world.chaos = false;
  world.wakeAll();
  fake.calm();
  const delivered = await world.drive(fake.delivered(), HOUR_MS);
  if (delivered.late) return world.violated("I1", "webhooks were never answered");
  const engine = await workingEngine(world);
  if (engine === undefined) return;
  await world.drive(engine.deadLetters.retry({}), HOUR_MS);
  if (!(await idle(world))) return;
  checkAnswered(world);
  checkBroker(world);
  checkTouched(world);
  if (scenario.calls.since > 0 && showsAllChanges(scenario))
    for (const account of world.accounts) if (!(await caughtUp(world, account))) return;
  for (const { connection } of world.accounts) if (!(await repaired(world, connection))) return;
  checkEverything(world); // by now no pass goes on that began before
  checkEqual(world);
  for (const { connection } of world.accounts) await checkDrift(world, connection);
  for (const worker of world.workers) {
    if (worker.ticks) continue;
    await world.drive(stop(world, worker), HOUR_MS);
    if (!worker.life.dead) world.violated("I5", "an engine did not stop");
  }
}

/** Whether an incremental list shows all that has changed. */
function showsAllChanges({ faults, incremental, lies }: Scenario): boolean {
  const { lag = 0, missingRows = 0, staleRead = 0 } = faults;
  return incremental && lag + missingRows + staleRead + lies === 0;
}

/** An incremental pass over what has changed in one account. @returns whether it came to an end */
async function caughtUp(world: World, account: Account): Promise<boolean> {
  const { connection } = account;
  for (let pass = 0; pass < 2; pass += 1) {
    const engine = await workingEngine(world);
    if (engine === undefined) return false;
    const changed = engine.reconcile(ROUTE, { mode: "incremental", connection });
    const { error, late, value } = await world.drive(changed, 2 * HOUR_MS + world.setBackMs);
    if (late || value?.complete !== true) {
      world.violated("I5", `an incremental pass did not end: ${late ? "late" : String(error)}`);
      return false;
    }
    if (!(await idle(world))) return false;
    // One that goes on where another stopped begins where that one was told to.
    if (!value.resumed) break;
  }
  checkCaughtUp(world, account);
  return true;
}

/** Full passes over all that one account has. @returns whether they came to an end */
async function repaired(world: World, connection: string): Promise<boolean> {
  // The first may go on where an earlier one was interrupted; the second has seen everything since.
  for (let pass = 0; pass < 2; pass += 1) {
    const engine = await workingEngine(world); // who woke up has found out meanwhile that another has its place
    if (engine === undefined) return false;
    const whole = engine.reconcile(ROUTE, { mode: "full", connection });
    // A lock that somebody died with ends by the clock, however far that was set back meanwhile.
    const { error, late, value } = await world.drive(whole, 2 * HOUR_MS + world.setBackMs);
    if (late || value?.complete !== true) {
      world.violated("I5", `a full pass did not end: ${late ? "late" : String(error)}`);
      return false;
    }
    if (!(await idle(world))) return false;
  }
  return true;
}

/** How often something may come in between. */
const MOST_LOOKS = 5;

async function checkDrift(world: World, connection: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const engine = await workingEngine(world);
    if (engine === undefined) return;
    const verified = engine.verify(ROUTE, { connection });
    const { error, value: drift } = await world.drive(verified, HOUR_MS + world.setBackMs);
    if (drift === undefined) return world.violated("I5", `verify failed: ${String(error)}`);
    const differs = drift.missing + drift.stale + drift.extra > 0;
    // A pass on its schedule, or a poll, may have brought some at this very moment.
    const busy = drift.pending > 0 && !world.scenario.schedules;
    if (busy && !differs && tries < MOST_LOOKS && (await idle(world))) continue;
    if (busy || differs) world.violated("I5", `drift: ${JSON.stringify(drift)}`);
    return;
  }
}

/** One that works, with time for a new one to take over from a dead one. */
async function workingEngine(world: World): Promise<Process["engine"] | undefined> {
  for (let tries = 0; tries < 20; tries += 1) {
    // Where one works all the time, those that work in slices cannot have the store.
    for (const { engine, life, ticks, works } of world.processes.toSorted(
      (a, b) => Number(a.ticks) - Number(b.ticks),
    )) {
      if (!works || life.dead) continue;
      const { value: status } = await world.drive(engine.status(), HOUR_MS);
      if (status !== undefined && (status.started || ticks) && !life.dead) return engine;
    }
    await world.advance(LEASE_MS);
  }
  world.violated("I5", "no process could begin to work");
  return undefined;
}

/** Lets time pass until nothing is left to do: pauses included, that is a matter of two hours, by a clock left alone. */
async function idle(world: World): Promise<boolean> {
  const end = world.clock.monotonic() + 3 * HOUR_MS + world.setBackMs;
  let revived = false;
  let stepMs = 5_000;
  while (world.clock.monotonic() < end) {
    const { worker } = world;
    if (worker !== undefined) {
      if (worker.ticks) await world.drive(worker.engine.tick({ timeoutMs: 60_000 }), HOUR_MS);
      const events = world.ledger.events.size;
      const { value: status } = await world.drive(worker.engine.status(), HOUR_MS); // of any process: they share the store
      // What a poller found while the answer was on its way is not in it.
      const last = events === world.ledger.events.size && (world.broker?.waiting ?? 0) === 0;
      if (status?.backlog === 0 && last) {
        if (status.deadLetters === 0) return true;
        if (!revived) {
          // Crashes and faults of before may have left it one attempt, or none.
          revived = true;
          await world.drive(worker.engine.deadLetters.retry({}), HOUR_MS);
          continue;
        }
        world.violated("I2", `${status.deadLetters} objects died though nothing was wrong any more`);
        return false;
      }
    }
    // An hour's pause is looked at less and less often.
    await world.advance(stepMs);
    stepMs = Math.min(2 * stepMs, worker?.ticks === true ? 60_000 : 600_000);
  }
  world.violated("I5", "work was left for ever");
  return false;
}
