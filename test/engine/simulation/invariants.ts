import type { FakeState } from "trueup/testing";
import type { Handed } from "./copy.ts";
import { type Account, ownerOf, RESOURCE } from "./accounts.ts";
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
      : home.rows().map(({ fence, id, regressed, state }) => ({
          id,
          mark: state,
          regressed: regressed === 1,
          fence,
        }));
  // Of what was forgotten nothing is known any more, and all begins anew.
  const lifeOf = ({ fence, id }: Handed) =>
    `${id} ${world.ledger.forgettings.lifeOf(ownerOf(id).connection, id, fence)}`;
  const inOrder = (handed: readonly Handed[], what: string, counts: (one: Handed) => boolean) => {
    for (const own of Map.groupBy(handed, lifeOf).values())
      checkObject(world, (own[0] as Handed).id, own, what, counts);
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
  for (const { fence, id, state } of home.rows()) {
    if (copy.isCleared(id, fence)) continue;
    if (state === null) held.delete(id);
    else held.set(id, state);
  }
  return held;
}

/**
 * Whether the copy need not be told that an object is in this state: somebody had only the index learn it, or its
 * connection was forgotten, and what the copy held by then is the user's.
 *
 * @param by when the index would have had to know of it, at the latest. @default now
 */
function isExcused({ ledger }: World, id: string, mark: string | undefined, by?: number): boolean {
  if (ledger.index.isUntold(id, mark ?? null)) return true;
  return mark === undefined && ledger.isUnknown(id, by);
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
    if (world.ledger.events.isWaived(event)) continue;
    const truth = last.object?.["mark"] as string | undefined;
    // What was deleted before anybody told the index that the copy has it, a pass has to find.
    const at = world.ledger.events.acceptedAt(event);
    if (held.get(id) !== truth && !isExcused(world, id, truth, at))
      world.violated("I2", `${id}: the event of ${String(truth)} was taken, the copy has ${held.get(id)}`);
  }
}

/** I2: nothing is wrong with the broker's messages, so none of them is given up. */
export function checkBroker(world: World): void {
  for (const dead of world.broker?.dead ?? []) world.violated("I2", `a message was rejected: ${dead}`);
}

/** I2: an event that names no object was answered with success: a pass has found what had changed by then. */
export function checkTouched(world: World): void {
  const { fake, ledger, scenario, touched } = world;
  const { lag = 0, missingRows = 0, staleRead = 0 } = scenario.faults;
  // What the list did not show, or showed as it was before, a pass cannot find; nor a change that moves no version.
  if (lag + missingRows + staleRead + scenario.lies > 0) return;
  if (touched === undefined || world.isTouchWaived(touched)) return;
  const held = copyRows(world);
  for (const id of fake.ids(RESOURCE)) {
    const last = world.history(id).at(-1);
    // A first incremental pass has no `since`, and so shows no deletions.
    if (last?.object === undefined || last.sequence > touched.upTo || ledger.wasDropped(id)) continue;
    const truth = String(last.object["mark"]);
    if (held.get(id) !== truth && !isExcused(world, id, truth))
      world.violated(
        "I2",
        `${id}: an event about all was answered after ${truth}, the copy has ${held.get(id)}`,
      );
  }
}

/**
 * I2: what changed before an incremental pass began that nobody told where to begin is in the copy: whatever other passes
 * were told to leave out.
 */
export function checkCaughtUp(world: World, { connection, resource }: Account): void {
  const { fake, ledger } = world;
  if (ledger.forgettings.ever(connection)) return;
  const held = copyRows(world);
  for (const { id, mark } of fake.all(resource)) {
    if (held.get(id) === mark || isExcused(world, id, mark as string) || ledger.wasDropped(id)) continue;
    world.violated("I2", `${id}: an incremental pass left out ${String(mark)}, the copy has ${held.get(id)}`);
  }
}

/** I2: what was to be handed over, whatever it is, was. */
export function checkEverything(world: World): void {
  for (const id of world.ledger.owed)
    world.violated("I2", `${id}: a pass was to hand over everything, and it was not handed over`);
}

/** I5: the copy is what the provider has. */
export function checkEqual(world: World): void {
  const held = copyRows(world);
  for (const { id, mark } of world.accounts.flatMap(({ resource }) => world.fake.all(resource))) {
    if (held.get(id) !== mark && !isExcused(world, id, mark as string))
      world.violated("I5", `${id}: the provider has ${String(mark)}, the copy ${String(held.get(id))}`);
    held.delete(id);
  }
  for (const [id, mark] of held)
    if (!isExcused(world, id, undefined))
      world.violated("I5", `${id}: the provider has none, the copy ${mark}`);
}

/** I9: an event is accepted once, whatever is sent again. */
export function checkDuplicates(world: World): void {
  if (world.scenario.eventTtlMs < 86_400_000) return; // what was forgotten is found unchanged
  for (const [id, count] of world.ledger.events.accepted())
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
