import { describe, expect, it } from "vitest";
import { HttpError, type SyncEvent } from "trueup";
import { recorded, timedEngine, type NotesOptions } from "./notes.ts";
import type { World } from "./world.ts";

/** Asked again after 1, 2 and 4 s, and believed then: 7 s after the first request. */
const FRESHNESS = { firstRetryMs: 1_000, believeAfterMs: 7_000 };

/** An engine that has handled the first states of its notes. */
async function settledNotes(ids: readonly string[], options: NotesOptions = {}) {
  const made = timedEngine({ ...options, resource: { freshness: FRESHNESS, ...options.resource } });
  const lagging = recorded(made.engine, "change.lagging");
  const event = (objectId: string, more: Partial<SyncEvent> = {}) => ({
    resource: "note",
    objectId,
    ...more,
  });
  for (const id of ids) made.world.put(id, "first");
  await made.engine.start();
  if (ids.length > 0) await made.deliver(...ids.map((id) => event(id)));
  await made.pass(500);
  expect(made.copy.size).toBe(ids.length);
  made.seen.length = 0;
  made.world.calls.length = 0;
  return { ...made, lagging, event };
}

/** When each fetch was made, from the first on. */
function fetchTimes(world: World, now: () => number): number[] {
  const at: number[] = [];
  world.before = () => void at.push(now());
  return at;
}

describe("an API that lags behind an event (I13)", () => {
  it("a 404 after an upsert hint is asked again, and the object handled when it comes", async () => {
    const { clock, copy, deliver, event, lagging, pass, seen, world } = await settledNotes([]);
    const at = fetchTimes(world, clock.monotonic);
    await deliver(event("n1", { hint: "upsert" }));
    await pass(2_000);
    expect(lagging).toMatchObject([
      { lags: 1, retryInMs: 1_000 },
      { lags: 2, retryInMs: 2_000 },
    ]);
    expect(seen).toEqual([]);
    world.put("n1", "late");
    await pass(2_000);
    expect(copy.get("n1")?.text).toBe("late");
    expect(at.map((ms) => ms - at[0]!)).toEqual([0, 1_000, 3_000]);
    expect(seen).toMatchObject([{ kind: "upsert", attempt: 1, regressed: false }]);
  });

  it("a 404 after an upsert hint is believed at the end of the schedule, and not before", async () => {
    const { clock, copy, deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    const at = fetchTimes(world, clock.monotonic);
    world.remove("n1");
    await deliver(event("n1", { hint: "upsert" }));
    await pass(6_900);
    expect(seen).toEqual([]);
    await pass(200);
    expect(seen).toMatchObject([{ kind: "delete", attempt: 1, regressed: false }]);
    expect(copy.size).toBe(0);
    expect(at.map((ms) => ms - at[0]!)).toEqual([0, 1_000, 3_000, 7_000]);
    expect(lagging.map(({ retryInMs }) => retryInMs)).toEqual([1_000, 2_000, 4_000]);
  });

  it("without a hint a 404 is believed at once, and so is any object", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1", "n2"]);
    world.remove("n1");
    world.put("n2", "second");
    await deliver(event("n1"), event("n2"));
    await pass(500);
    expect(seen.map(({ kind, ref }) => `${kind} ${ref.id}`).toSorted()).toEqual(["delete n1", "upsert n2"]);
    expect(lagging).toEqual([]);
    expect(world.fetches()).toBe(2);
  });

  it("a version older than the event's is asked again until the announced one comes", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    await deliver(event("n1", { hint: "upsert", version: 2 }));
    await pass(900);
    expect(lagging).toHaveLength(1);
    expect(seen).toEqual([]);
    world.put("n1", "second");
    await pass(200);
    expect(seen).toMatchObject([{ version: 2, object: { text: "second" }, attempt: 1 }]);
  });

  it("a version of the event's age, or younger, is handled at once", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1", "n2"]);
    world.put("n1", "second");
    world.put("n2", "second");
    await deliver(event("n1", { version: 3 }), event("n2", { version: 2 }));
    await pass(500);
    expect(new Set(seen.map(({ version }) => version))).toEqual(new Set([3, 4]));
    expect(lagging).toEqual([]);
  });

  it("an older version is believed at the end: nothing new is handed over twice", async () => {
    const { deliver, engine, event, pass, seen, world } = await settledNotes(["n1"]);
    const unchanged = recorded(engine, "change.unchanged");
    await deliver(event("n1", { version: 99 }));
    await pass(6_900);
    expect(unchanged).toEqual([]);
    await pass(200);
    expect(unchanged).toHaveLength(1);
    expect(seen).toEqual([]);
    expect(world.fetches()).toBe(4);
  });

  it("an object that is still there after a delete hint is asked for again, and its deletion handed over", async () => {
    const { copy, deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    await deliver(event("n1", { hint: "delete" }));
    await pass(900);
    expect(lagging).toHaveLength(1);
    world.remove("n1");
    await pass(200);
    expect(seen).toMatchObject([{ kind: "delete", attempt: 1 }]);
    expect(copy.size).toBe(0);
  });

  it("an object that stays after a delete hint stays", async () => {
    const { copy, deliver, event, lagging, pass, seen } = await settledNotes(["n1"]);
    await deliver(event("n1", { hint: "delete" }));
    await pass(8_000);
    expect(lagging).toHaveLength(3);
    expect(seen).toEqual([]);
    expect(copy.has("n1")).toBe(true);
  });

  it("waiting is no attempt, and an attempt is no waiting", async () => {
    const { deliver, engine, event, lagging, pass, seen, world } = await settledNotes([], {
      engine: { retry: { attempts: 3, minDelayMs: 100, maxDelayMs: 100 } },
    });
    const failed = recorded(engine, "change.failed");
    let calls = 0;
    world.before = () => {
      calls += 1;
      if (calls % 2 === 0) throw new HttpError(500, "down");
    };
    await deliver(event("n1", { hint: "upsert" }));
    await pass(500);
    await pass(1_000); // asked again: 500, and 100 ms later 404 again
    expect(lagging).toMatchObject([{ lags: 1 }, { lags: 2 }]);
    expect(failed).toMatchObject([{ attempt: 1 }]);
    world.put("n1", "late");
    await pass(8_000);
    expect(seen).toMatchObject([{ kind: "upsert" }]);
    expect((await engine.deadLetters.list()).items).toEqual([]);
  });

  it("believes at once where `believeAfterMs` is 0", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"], {
      resource: { freshness: { believeAfterMs: 0 } },
    });
    world.remove("n1");
    await deliver(event("n1", { hint: "upsert" }));
    await pass(100);
    expect(lagging).toEqual([]);
    expect(seen).toMatchObject([{ kind: "delete" }]);
  });

  it("of several events the highest version counts, in whatever order they come", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    for (let i = 2; i <= 4; i += 1) world.put("n1", `state ${i}`);
    await deliver(event("n1", { hint: "upsert", version: 5 }));
    await deliver(event("n1", { hint: "upsert", version: 3 }));
    await pass(500);
    expect(lagging).toHaveLength(1);
    world.put("n1", "state 5");
    await pass(1_000);
    expect(seen).toMatchObject([{ version: 5, eventCount: 2 }]);
  });
});

describe("an API that contradicts what was handed over (I4)", () => {
  it("an older version is asked for again; the newer, when it is back, was never lost", async () => {
    const { deliver, engine, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    const unchanged = recorded(engine, "change.unchanged");
    const newest = world.put("n1", "second");
    await deliver(event("n1"));
    await pass(500);
    expect(seen).toHaveLength(1);
    world.notes.set("n1", { id: "n1", text: "first", rev: 1 }); // a replica that lags
    await deliver(event("n1"));
    await pass(500);
    expect(lagging).toHaveLength(1);
    world.notes.set("n1", newest);
    await pass(1_000);
    expect(seen).toHaveLength(1);
    expect(unchanged).toHaveLength(1);
  });

  it("an older version that the provider insists on is the truth, and marked as regressed", async () => {
    const { copy, deliver, event, pass, seen, world } = await settledNotes(["n1"]);
    world.put("n1", "second");
    await deliver(event("n1"));
    await pass(500);
    world.notes.set("n1", { id: "n1", text: "from the backup", rev: 1 });
    await deliver(event("n1"));
    await pass(6_900);
    expect(copy.get("n1")?.text).toBe("second");
    await pass(200);
    expect(seen.map(({ version, regressed }) => [version, regressed])).toEqual([
      [2, false],
      [1, true],
    ]);
    expect(copy.get("n1")?.text).toBe("from the backup");
    // From here on, that is what is known: nothing is waited for any more.
    world.notes.set("n1", { id: "n1", text: "edited", rev: 1 });
    await deliver(event("n1"));
    await pass(500);
    expect(seen.at(-1)).toMatchObject({ regressed: false, object: { text: "edited" } });
  });

  it("the same version with other content is a change, and waits for nothing", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    world.notes.set("n1", { id: "n1", text: "edited in secret", rev: 1 });
    await deliver(event("n1"));
    await pass(500);
    expect(lagging).toEqual([]);
    expect(seen).toMatchObject([{ regressed: false, object: { text: "edited in secret" } }]);
  });

  it("an older version with the same content is nothing at all", async () => {
    const { deliver, engine, event, lagging, pass, seen, world } = await settledNotes([], {
      resource: { contentOf: ({ text }) => text },
    });
    const unchanged = recorded(engine, "change.unchanged");
    world.notes.set("n1", { id: "n1", text: "same", rev: 5 });
    await deliver(event("n1"));
    await pass(500);
    world.notes.set("n1", { id: "n1", text: "same", rev: 4 });
    await deliver(event("n1"));
    await pass(500);
    expect(seen).toHaveLength(1);
    expect(lagging).toEqual([]);
    expect(unchanged).toHaveLength(1);
  });

  it("an object behind its tombstone is asked for again, and is then an un-delete", async () => {
    const { copy, deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    const first = world.notes.get("n1")!;
    world.remove("n1");
    await deliver(event("n1", { hint: "delete" }));
    await pass(500);
    expect(copy.size).toBe(0);
    world.notes.set("n1", first);
    await deliver(event("n1"));
    await pass(6_900);
    expect(lagging).toHaveLength(3);
    expect(copy.size).toBe(0);
    await pass(200);
    expect(seen.at(-1)).toMatchObject({ kind: "upsert", regressed: true, version: 1 });
    expect(copy.get("n1")?.text).toBe("first");
  });

  it("an object that is younger than its tombstone is new, and waits for nothing", async () => {
    const { copy, deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    world.remove("n1");
    await deliver(event("n1", { hint: "delete", version: 2 }));
    await pass(500);
    world.put("n1", "again");
    await deliver(event("n1"));
    await pass(500);
    expect(lagging).toEqual([]);
    expect(seen.at(-1)).toMatchObject({ kind: "upsert", regressed: false });
    expect(copy.get("n1")?.text).toBe("again");
  });

  it("a deletion that is already known is not handed over again, and an old event waits for nothing", async () => {
    const { deliver, event, lagging, pass, seen, world } = await settledNotes(["n1"]);
    world.remove("n1");
    await deliver(event("n1", { hint: "delete", version: 2 }));
    await pass(500);
    await deliver(event("n1", { hint: "delete", version: 2 }), event("n1", { hint: "upsert", version: 1 }));
    await pass(500);
    expect(seen.map(({ kind }) => kind)).toEqual(["delete"]);
    expect(lagging).toEqual([]);
  });

  it("a deletion of an object that nobody ever saw is nobody's business", async () => {
    const { deliver, engine, event, pass, seen } = await settledNotes([]);
    const unchanged = recorded(engine, "change.unchanged");
    await deliver(event("ghost", { hint: "delete" }), event("shadow"));
    await pass(500);
    expect(seen).toEqual([]);
    expect(unchanged).toHaveLength(2);
    expect(await engine.drain()).toMatchObject({ idle: true });
  });

  it("but it is handed over where a handler may have begun", async () => {
    const { deliver, event, pass, seen, world } = await settledNotes([], {
      engine: { retry: { attempts: 5, minDelayMs: 1_000, maxDelayMs: 1_000 } },
      handler: ({ kind }) => {
        if (kind === "upsert") throw new Error("after half of its writes");
      },
    });
    world.put("n1", "short-lived");
    await deliver(event("n1"));
    await pass(500);
    world.remove("n1");
    await pass(1_000);
    expect(seen.map(({ kind }) => kind)).toEqual(["upsert", "delete"]);
  });
});

describe("the shrink guard over fetches (I7)", () => {
  const ids = Array.from({ length: 12 }, (_, i) => `n${i}`);
  const guarded: NotesOptions = {
    resource: { shrinkGuard: { count: 3, share: 0 } },
    engine: { retry: { attempts: 3, minDelayMs: 1_000, maxDelayMs: 60_000 }, concurrency: 1 },
  };

  it("holds back what nobody announced, once it is more than may be", async () => {
    const { copy, deliver, engine, event, pass, seen, world } = await settledNotes(ids, guarded);
    const suppressed = recorded(engine, "deletes.suppressed");
    const failed = recorded(engine, "change.failed");
    const kept = new Map(world.notes);
    world.notes.clear(); // the token was revoked
    await deliver(...ids.map((id) => event(id)));
    await pass(10_000);
    expect(seen.filter(({ kind }) => kind === "delete")).toHaveLength(3);
    expect(copy.size).toBe(9);
    expect(suppressed).toHaveLength(1);
    expect(suppressed[0]).toMatchObject({ provider: "notes", resource: "note", count: 4, indexed: 9 });
    expect(failed.every(({ error }) => (error as { code?: string }).code === "DELETES_SUPPRESSED")).toBe(
      true,
    );
    await pass(600_000); // it is no attempt: nothing dies of it
    expect((await engine.deadLetters.list()).items).toEqual([]);
    expect(copy.size).toBe(9);
    for (const [id, note] of kept) world.notes.set(id, note);
    await pass(70_000);
    expect((await engine.drain()).counts).toMatchObject({ dirty: 0, dead: 0 });
  });

  it("lets go as soon as one object is there", async () => {
    const { copy, deliver, engine, event, pass, world } = await settledNotes(ids, guarded);
    const suppressed = recorded(engine, "deletes.suppressed");
    for (const id of ids.slice(0, 9)) world.remove(id);
    // Three that are gone, one that is there, and so on: never more than three in a row.
    for (let i = 0; i < 3; i += 1) {
      await deliver(...ids.slice(3 * i, 3 * i + 3).map((id) => event(id)));
      await pass(100);
      await deliver(event(ids[9 + i]!));
      await pass(100);
    }
    expect(suppressed).toEqual([]);
    expect(copy.size).toBe(3);
  });

  it("does not count deletions that were announced, or asked for", async () => {
    const { copy, deliver, engine, event, pass, world } = await settledNotes(ids, guarded);
    const suppressed = recorded(engine, "deletes.suppressed");
    world.notes.clear();
    await deliver(...ids.slice(0, 6).map((id) => event(id, { hint: "delete" })));
    await pass(500);
    expect(copy.size).toBe(6);
    await engine.trigger("notes.note", ids.slice(6));
    await pass(500);
    expect(copy.size).toBe(0);
    expect(suppressed).toEqual([]);
  });

  it("can be switched off", async () => {
    const { copy, deliver, engine, event, pass, world } = await settledNotes(ids, {
      ...guarded,
      resource: { shrinkGuard: false },
    });
    const suppressed = recorded(engine, "deletes.suppressed");
    world.notes.clear();
    await deliver(...ids.map((id) => event(id)));
    await pass(500);
    expect(copy.size).toBe(0);
    expect(suppressed).toEqual([]);
  });
});
