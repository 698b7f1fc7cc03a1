/** What can be seen of a store without changing it, beside what the model says. */
import assert from "node:assert/strict";
import type { DeadRecord, Lookup, Pause, Pending, RouteCounts, Store } from "../../../src/core/store.ts";
import type { Scope } from "../../../src/core/event.ts";
import {
  expectEvents,
  expectIndex,
  keyOf,
  passKey,
  scopeKey,
  type Model,
  type ModelObject,
} from "./model.ts";

export const PROVIDER = "crm";
export const CONNECTIONS = ["acme", "beta"];
export const RESOURCES = ["contact", "deal"];
export const IDS = ["a", "b", "c"];
export const PASSES = ["pass 1", '["crm","acme"]:pass 2'];
export const LOCKS = ["lock 1", '["crm","acme"]:lock 2'];
export const SCOPES: readonly Scope[] = CONNECTIONS.flatMap((connection) =>
  RESOURCES.map((resource) => ({ provider: PROVIDER, connection, resource })),
);

/** Later than any backoff that a test asks for. */
const LATER_MS = 5_000;

export interface Observation {
  readonly now: number;
  readonly lookups: readonly { readonly scope: Scope; readonly found: readonly (Lookup | undefined)[] }[];
  readonly present: readonly { readonly scope: Scope; readonly count: number }[];
  readonly nextDue: readonly { readonly resource: string; readonly due: number | undefined }[];
  readonly pending: readonly { readonly by: number; readonly pending: Pending }[];
  readonly counts: readonly RouteCounts[];
  readonly pauses: readonly Pause[];
  readonly connections: readonly string[];
  readonly dead: readonly DeadRecord[];
  readonly checkpoints: readonly (string | undefined)[];
}

/** Through one instance, while nothing else goes on. */
export async function observe(store: Store<unknown>, now: number): Promise<Observation> {
  const ofScopes = <T>(look: (scope: Scope) => Promise<T>) => Promise.all(SCOPES.map(look));
  const moments = [now, now + LATER_MS];
  return {
    now,
    lookups: await ofScopes(async (scope) => ({ scope, found: await store.lookup(scope, IDS) })),
    present: await ofScopes(async (scope) => ({ scope, count: await store.countPresent(scope) })),
    nextDue: await Promise.all(
      RESOURCES.map(async (resource) => ({
        resource,
        due: await store.nextDue([{ provider: PROVIDER, resource }]),
      })),
    ),
    pending: await Promise.all(moments.map(async (by) => ({ by, pending: await store.pending(by) }))),
    counts: await store.counts(),
    pauses: await store.pauses(),
    connections: await store.connections(PROVIDER),
    dead: await deadLetters(store),
    checkpoints: await Promise.all(PASSES.map((pass) => store.getCheckpoint(pass))),
  };
}

/** In pages of two. */
async function deadLetters(store: Store<unknown>): Promise<DeadRecord[]> {
  const found: DeadRecord[] = [];
  for (let cursor: string | undefined; ;) {
    const { items, next } = await store.listDead({}, { cursor, limit: 2 });
    found.push(...items);
    if (next === undefined) return found;
    cursor = next;
  }
}

/** Fails where the model does not allow what was seen. */
export function expectObserved(model: Model, seen: Observation): void {
  const { now } = seen;
  for (const { scope, found } of seen.lookups) expectLookups(model, now, scope, found);
  for (const { scope, count } of seen.present) {
    const present = objectsOf(model, scope).filter(({ index }) => index?.state === "present");
    assert.equal(count, present.length, `objects present in ${scopeKey(scope)}`);
  }
  for (const { resource, due } of seen.nextDue) expectNextDue(model, now, resource, due);
  for (const { by, pending } of seen.pending) expectPending(model, by, pending);
  for (const counts of seen.counts) expectCounts(model, counts);
  for (const { ref, state } of model.objects.values()) {
    const counted = seen.counts.some((counts) => scopeKey(counts) === scopeKey(ref));
    assert.ok(counted || state === "clean", `nothing is counted of ${scopeKey(ref)}`);
  }
  const inForce = [...model.pauses.values()].filter((pause) => model.isPaused(pause, now));
  assert.deepEqual(seen.pauses.toSorted(byConnection), inForce.toSorted(byConnection), "pauses");
  for (const object of model.objects.values()) {
    if (!model.isForgettable(object, now))
      assert.ok(seen.connections.includes(object.ref.connection), "connections");
  }
  expectDead(model, now, seen.dead);
  assert.deepEqual(
    seen.checkpoints,
    PASSES.map((pass) => model.checkpoints.get(pass)),
    "checkpoints",
  );
}

function expectLookups(
  model: Model,
  now: number,
  scope: Scope,
  found: readonly (Lookup | undefined)[],
): void {
  for (const [i, lookup] of found.entries()) {
    const key = keyOf({ ...scope, id: IDS[i]! });
    const object = model.objects.get(key);
    if (lookup === undefined) {
      assert.ok(object === undefined || model.isForgettable(object, now), `${key} is forgotten`);
      continue;
    }
    assert.ok(object !== undefined, `${key} was never heard of`);
    expectIndex(lookup.index, object.index);
    assert.equal(lookup.pending, object.state !== "clean", `whether ${key} is pending`);
    if (model.isForgettable(object, now)) continue;
    for (const mark of model.marks) {
      if (mark.scope !== scopeKey(scope)) continue;
      const after: boolean = model.isTouchedAfter(object, mark) ?? lookup.touched > mark.value;
      assert.equal(lookup.touched > mark.value, after, `whether ${key} was touched after ${mark.value}`);
    }
  }
}

function expectNextDue(model: Model, now: number, resource: string, due: number | undefined): void {
  let [earliest, latest] = [Infinity, Infinity];
  for (const object of model.objects.values()) {
    if (object.state !== "waiting" || object.ref.resource !== resource) continue;
    if (model.isPaused(object.ref, now)) {
      // The end of a pause is a good moment to ask again; it may be told or not.
      const { until } = model.pauses.get(object.ref.connection)!;
      if (until !== null) earliest = Math.min(earliest, Math.max(until, object.due.from));
    } else {
      earliest = Math.min(earliest, object.due.from);
      latest = Math.min(latest, object.due.until);
    }
  }
  if (due === undefined) assert.equal(latest, Infinity, `${resource} is due`);
  else if (due > now || earliest > now) {
    assert.ok(due >= earliest && due <= latest, `${due} is not between ${earliest} and ${latest}`);
  }
}

function expectPending(model: Model, by: number, { due, leased, later, dead }: Pending): void {
  const objects = [...model.objects.values()];
  const waiting = objects.filter(({ state }) => state === "waiting");
  const free = waiting.filter(({ ref }) => !model.isPaused(ref, by));
  assert.equal(due + later, waiting.length, "waiting objects");
  assert.equal(leased, objects.filter(({ state }) => state === "leased").length, "leased objects");
  assert.equal(dead, objects.filter(({ state }) => state === "dead").length, "dead objects");
  assert.ok(due >= free.filter((object) => object.due.until <= by).length, "more is due");
  assert.ok(due <= free.filter((object) => object.due.from <= by).length, "less is due");
}

function expectCounts(model: Model, counts: RouteCounts): void {
  const objects = objectsOf(model, counts);
  const inState = (state: ModelObject["state"]) => objects.filter((object) => object.state === state);
  const waiting = inState("waiting").map(({ work }) => work!.since);
  const { dirty, leased, dead, present, oldestDirtySince, lastError } = counts;
  assert.deepEqual(
    { dirty, leased, dead, present, oldestDirtySince },
    {
      dirty: waiting.length,
      leased: inState("leased").length,
      dead: inState("dead").length,
      present: objects.filter(({ index }) => index?.state === "present").length,
      oldestDirtySince: waiting.length === 0 ? undefined : Math.min(...waiting),
    },
    `counts of ${scopeKey(counts)}`,
  );
  const errors = model.errors.get(scopeKey(counts));
  if (errors === undefined || errors.some(({ at }) => at <= model.errorsLostAt)) return;
  assert.ok(
    errors.some((error) => isSame(error, lastError)),
    `the last error of ${scopeKey(counts)}`,
  );
}

function expectDead(model: Model, now: number, found: readonly DeadRecord[]): void {
  const dead = model.dead({});
  assert.deepEqual(
    found.map(({ ref }) => keyOf(ref)).toSorted(),
    dead.map(({ ref }) => keyOf(ref)).toSorted(),
    "dead letters",
  );
  for (const { ref, error, attempts, eventCount, events, dirtySince } of found) {
    const object = dead.find((one) => keyOf(one.ref) === keyOf(ref))!;
    const work = object.work!;
    assert.deepEqual(
      [error, attempts, eventCount, dirtySince],
      [object.error, object.attempts, work.eventCount, work.since],
      "error, attempts, eventCount and dirtySince of a dead letter",
    );
    expectEvents(events, work.events, now, model.limits);
  }
}

/** What a pass has not seen. @param ids All that the store says. */
export function expectUnseen(
  model: Model,
  now: number,
  scope: Scope,
  pass: string,
  mark: number,
  ids: readonly string[],
): void {
  const seen = model.seen.get(passKey({ scope, pass }));
  assert.equal(new Set(ids).size, ids.length, "each unseen object once");
  for (const id of IDS) {
    const object = model.objects.get(keyOf({ ...scope, id }));
    const present = object !== undefined && object.state === "clean" && object.index?.state === "present";
    const touched = present ? model.isTouchedAfter(object, model.marks[mark]!) : undefined;
    const entry = seen?.get(id);
    const extra = present && touched === false;
    if (present && (touched === undefined || (extra && entry?.certain === false))) continue;
    assert.equal(ids.includes(id), extra && entry === undefined, `whether ${id} is unseen at ${now}`);
  }
}

function objectsOf(model: Model, scope: Scope): ModelObject[] {
  return [...model.objects.values()].filter(({ ref }) => scopeKey(ref) === scopeKey(scope));
}

function byConnection(a: Pause, b: Pause): number {
  return a.connection < b.connection ? -1 : 1;
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
