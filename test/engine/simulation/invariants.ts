import type { FakeState } from "trueup/testing";
import type { Handed } from "./copy.ts";
import { RESOURCE } from "./accounts.ts";
import type { World } from "./world.ts";

/**
 * I4 and I7: what was handed over of each object, and what was written, are states that the provider really had, in
 * their order; a deletion among them was one.
 */
export function checkOrder(world: World): void {
  const { copy, home, scenario } = world;
  const stalled = scenario.stalls > 0;
  const replicas = (scenario.faults.staleRead ?? 0) > 0;
  const written: readonly Handed[] =
    home.rows === undefined || !scenario.commits
      ? copy.applied
      : home.rows().map((row) => ({ id: row.id, mark: row.state, regressed: row.regressed === 1, fence: 0 }));
  const inOrder = (handed: readonly Handed[], what: string, counts: (one: Handed) => boolean) => {
    for (const [id, own] of Map.groupBy(handed, (one) => one.id)) checkObject(world, id, own, what, counts);
  };
  const settled = ({ fence, id }: Handed) => world.ledger.settledFences.get(id)?.has(fence) === true;
  // A replica may show an older state than one that a handler began with and never ended, of which nobody knows more.
  if (scenario.commits) inOrder(written, "written", () => true);
  else inOrder(written, "written", replicas ? settled : () => true);
  // A process that stood still hands over what it had, and finds out only when it writes.
  if (!stalled) inOrder(copy.handed, "handed over", replicas ? settled : () => true);
}

/** @param counts whether what comes after has to be later than this one */
function checkObject(
  world: World,
  id: string,
  handed: readonly Handed[],
  what: string,
  counts: (one: Handed) => boolean,
): void {
  const history = world.history(id);
  let at = -1;
  for (const one of handed) {
    const found = placeOf(history, one, one.regressed ? -1 : at);
    if (found === undefined) {
      const real = history.some((state) => isState(state, one));
      const name = one.mark ?? "a deletion";
      if (one.mark === null) world.violated("I7", `${id}: ${name} was ${what} that never was, or was before`);
      else
        world.violated("I4", `${id}: ${name} was ${what} ${real ? "behind a later state" : "and never was"}`);
      return;
    }
    if (counts(one)) at = found;
  }
}

/** Where in an object's history a state is, at or behind a place; -1: before its beginning. */
function placeOf(history: readonly FakeState[], one: Handed, from: number): number | undefined {
  if (from === -1 && one.mark === null) return -1;
  const found = history.findIndex((state, i) => i >= from && isState(state, one));
  return found === -1 ? undefined : found;
}

function isState({ object }: FakeState, { mark }: Handed): boolean {
  return mark === null ? object === undefined : object?.["mark"] === mark;
}

/** What the copy holds by now. */
export function copyRows(world: World): Map<string, string> {
  const { copy, home, scenario } = world;
  if (home.rows === undefined || !scenario.commits) return copy.rows();
  const held = new Map<string, string>();
  for (const { id, state } of home.rows()) {
    if (state === null) held.delete(id);
    else held.set(id, state);
  }
  return held;
}

/** I1, I2: every change whose event was answered with success, or recorded, is in the copy, if it was the object's last. */
export function checkAnswered(world: World): void {
  const { fake, scenario } = world;
  const { lag = 0, staleRead = 0 } = scenario.faults;
  // Without hints nothing tells that the API has not caught up (I13).
  if (!scenario.hinted && (lag > 0 || staleRead > 0)) return;
  const held = copyRows(world);
  const answered = new Set<string>();
  for (const { id, statuses } of fake.deliveries)
    if (statuses.some((status) => status === 200)) answered.add(id);
  for (const id of world.ids()) {
    const last = world.history(id).at(-1);
    const event = `evt_${last?.sequence}`;
    if (last === undefined || (!answered.has(event) && !world.ledger.isRecorded(event))) continue;
    const truth = last.object?.["mark"];
    if (held.get(id) !== truth)
      world.violated("I2", `${id}: the event of ${String(truth)} was taken, the copy has ${held.get(id)}`);
  }
}

/** I2: nothing is wrong with the broker's messages, so none of them is given up. */
export function checkBroker(world: World): void {
  for (const dead of world.broker?.dead ?? []) world.violated("I2", `a message was rejected: ${dead}`);
}

/** I2: an event that names no object was answered with success: a pass has found what had changed by then. */
export function checkTouched(world: World): void {
  const { fake, scenario, touchedUpTo } = world;
  const { lag = 0, missingRows = 0, staleRead = 0 } = scenario.faults;
  // What the list did not show, or showed as it was before, a pass cannot find; nor a change that moves no version.
  if (lag + missingRows + staleRead + scenario.lies > 0) return;
  const held = copyRows(world);
  for (const id of fake.ids(RESOURCE)) {
    const last = world.history(id).at(-1);
    // A first incremental pass has no `since`, and so shows no deletions.
    if (last?.object === undefined || last.sequence > touchedUpTo) continue;
    const truth = String(last.object["mark"]);
    if (held.get(id) !== truth)
      world.violated(
        "I2",
        `${id}: an event about all was answered after ${truth}, the copy has ${held.get(id)}`,
      );
  }
}

/** I5: the copy is what the provider has. */
export function checkEqual(world: World): void {
  const held = copyRows(world);
  for (const { id, mark } of world.accounts.flatMap(({ resource }) => world.fake.all(resource))) {
    if (held.get(id) !== mark)
      world.violated("I5", `${id}: the provider has ${String(mark)}, the copy ${String(held.get(id))}`);
    held.delete(id);
  }
  for (const [id, mark] of held) world.violated("I5", `${id}: the provider has none, the copy ${mark}`);
}

/** I9: an event is accepted once, whatever is sent again. */
export function checkDuplicates(world: World): void {
  if (world.scenario.eventTtlMs < 86_400_000) return; // what was forgotten is found unchanged
  for (const [id, count] of world.ledger.accepted)
    if (count > 1) world.violated("I9", `event ${id} was accepted ${count} times`);
}

/** I10: no process asks more often than it was told to. */
export function checkRate(world: World, requestedAt: readonly number[]): void {
  const { rateLimit } = world.scenario;
  if (rateLimit === undefined) return;
  for (let i = rateLimit.requests; i < requestedAt.length; i += 1) {
    const span = (requestedAt[i] as number) - (requestedAt[i - rateLimit.requests] as number);
    if (span >= rateLimit.perMs) continue;
    world.violated("I10", `${rateLimit.requests + 1} requests within ${span} ms`);
    return;
  }
}
