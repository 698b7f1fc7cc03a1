import { describe, expect, it } from "vitest";
import { HttpError, RejectError, type Page, TrueupError } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { join } from "node:path";
import { counting, next, notesEngine, temporaryDirectory } from "./notes.ts";
import { gate, type Note, World } from "./world.ts";

/** A world with notes n000, n001, … */
function filledWorld(count: number): World {
  const world = new World();
  for (let i = 0; i < count; i += 1) world.put(`n${String(i).padStart(3, "0")}`, `text ${i}`);
  return world;
}

describe("a full pass", () => {
  it("needs no start, and hands whole rows over without a fetch each", async () => {
    const { copy, engine, seen, world } = notesEngine({ world: filledWorld(250) });
    const report = await engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({
      route: "notes.note",
      connection: "default",
      mode: "full",
      complete: true,
      resumed: false,
      pages: 3,
      requests: 3,
      listed: 250,
      unchanged: 0,
      missing: 250,
      stale: 0,
      extra: 0,
      deleted: 0,
    });
    expect(copy.size).toBe(250);
    expect(seen.every((change) => change.origin === "reconcile")).toBe(true);
    expect(world.fetches()).toBe(0);
  });

  it("writes nothing and runs no handler for what is unchanged", async () => {
    const { engine, seen } = notesEngine({ world: filledWorld(250) });
    await engine.reconcile("notes.note", { mode: "full" });
    const report = await engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ listed: 250, unchanged: 250, missing: 0, stale: 0, extra: 0 });
    expect(seen).toHaveLength(250);
  });

  it("finds what is missing, what is stale and what is extra", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(20) });
    await engine.reconcile("notes.note", { mode: "full" });
    world.put("n003", "changed");
    world.put("n999", "new");
    world.remove("n007");
    const drift = await engine.verify("notes.note");
    expect(drift).toMatchObject({ listed: 20, missing: 1, stale: 1, extra: 1, pending: 0 });
    expect(drift.samples.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual([
      { id: "n003", kind: "stale" },
      { id: "n007", kind: "extra" },
      { id: "n999", kind: "missing" },
    ]);
    const report = await engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ missing: 1, stale: 1, extra: 1, deleted: 1, unchanged: 18 });
    expect(copy).toEqual(world.notes);
    expect(await engine.verify("notes.note")).toMatchObject({ missing: 0, stale: 0, extra: 0 });
  });

  it("sees a change that moved no version", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(3) });
    await engine.reconcile("notes.note", { mode: "full" });
    const note = world.notes.get("n001");
    world.notes.set("n001", { ...note!, text: "edited in secret" });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ stale: 1 });
    expect(copy.get("n001")?.text).toBe("edited in secret");
  });

  it("trusts versions where it is told to", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(3), resource: { compare: "version" } });
    await engine.reconcile("notes.note", { mode: "full" });
    world.notes.set("n001", { ...world.notes.get("n001")!, text: "edited in secret" });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ stale: 0, unchanged: 3 });
  });

  it("goes on where a failed page stopped it", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(50), resource: { pageSize: 10 } });
    world.before = (call) => {
      if (call.cursor === "30") throw new HttpError(500, "down");
    };
    await expect(engine.reconcile("notes.note", { mode: "full" })).rejects.toMatchObject({
      code: "HTTP_STATUS",
      status: 500,
    });
    expect(copy.size).toBe(30);
    world.before = () => {};
    const report = await engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ complete: true, resumed: true, pages: 5, listed: 50, missing: 50 });
    expect(copy).toEqual(world.notes);
    expect(world.calls.filter((call) => call.kind === "list" && call.cursor === undefined)).toHaveLength(1);
  });

  it("goes on in another process's place", async () => {
    const first = notesEngine({ world: filledWorld(50), resource: { pageSize: 10 } });
    const stop = new AbortController();
    const partial = await first.engine.reconcile("notes.note", {
      mode: "full",
      signal: stop.signal,
      onProgress: ({ pages }) => pages === 2 && stop.abort(),
    });
    expect(partial).toMatchObject({ complete: false, pages: 2, checkpoint: { cursor: "20" } });
    await first.engine.stop();
    const second = notesEngine({ world: first.world, path: first.path, resource: { pageSize: 10 } });
    const report = await second.engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ complete: true, resumed: true, pages: 5, listed: 50, missing: 50 });
    expect(first.copy.size + second.copy.size).toBe(50);
  });

  it("begins anew when the cursor of an interrupted pass has expired", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(30), resource: { pageSize: 10 } });
    const stop = new AbortController();
    await engine.reconcile("notes.note", {
      mode: "full",
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    world.before = (call) => {
      if (
        call.kind === "list" &&
        call.cursor === "10" &&
        world.calls.filter((c) => c.cursor === "10").length === 2
      )
        throw new HttpError(410, "cursor expired");
    };
    const warned = next(engine, "warning", ({ code }) => code === "CURSOR_EXPIRED");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      resumed: false,
      pages: 3,
    });
    await warned;
    expect(copy).toEqual(world.notes);
  });

  it("leaves an object alone that an event touched since the page was requested (I4)", async () => {
    const world = filledWorld(3);
    const asked = gate();
    const answer = gate();
    const slowList = async (args: Parameters<World["list"]>[0]): Promise<Page> => {
      const page = await world.list(args);
      asked.open();
      await answer.opened;
      return page;
    };
    const { copy, deliver, engine, seen } = notesEngine({ world, resource: { list: slowList } });
    await engine.start();
    const pass = engine.reconcile("notes.note", { mode: "full" });
    await asked.opened;
    world.put("n001", "newer than the page");
    await deliver({ resource: "note", objectId: "n001" });
    await engine.drain();
    answer.open();
    expect(await pass).toMatchObject({ complete: true, listed: 3, missing: 2 });
    await engine.drain();
    expect(copy).toEqual(world.notes);
    const texts = seen.filter((change) => change.ref.id === "n001").map((change) => change.object?.text);
    expect(texts).toEqual(["newer than the page"]);
  });
});

describe("deletions by a list (I7)", () => {
  it("are confirmed by a fetch each", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(20) });
    await engine.reconcile("notes.note", { mode: "full" });
    const hidden = world.notes.get("n004")!;
    world.before = (call) => {
      if (call.kind === "list") world.notes.delete("n004");
      else world.notes.set("n004", hidden);
    };
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      extra: 0,
      deleted: 0,
    });
    expect(world.fetches()).toBe(1);
    expect(copy.has("n004")).toBe(true);
  });

  it("are held back when the list is empty", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(20) });
    await engine.reconcile("notes.note", { mode: "full" });
    const held = next(engine, "deletes.suppressed");
    world.notes.clear();
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      deleted: 0,
      suppressedDeletes: 20,
    });
    expect(await held).toMatchObject({ count: 20, indexed: 20 });
    expect(copy.size).toBe(20);
    expect(world.fetches()).toBe(0);
  });

  it("are held back when the list shrank too much, and let through when it did not", async () => {
    const { copy, engine, world } = notesEngine({
      world: filledWorld(20),
      resource: { shrinkGuard: { count: 5, share: 0.2 } },
    });
    await engine.reconcile("notes.note", { mode: "full" });
    for (let i = 0; i < 6; i += 1) world.remove(`n00${i}`);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      deleted: 0,
      suppressedDeletes: 6,
    });
    expect(copy.size).toBe(20);
    world.put("n000", "back");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      deleted: 5,
      suppressedDeletes: 0,
    });
    expect(copy).toEqual(world.notes);
  });

  it("wait for a complete list", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(30), resource: { pageSize: 10 } });
    await engine.reconcile("notes.note", { mode: "full" });
    world.remove("n001");
    world.before = (call) => {
      if (call.cursor === "20") throw new HttpError(500, "down");
    };
    await expect(engine.reconcile("notes.note", { mode: "full" })).rejects.toMatchObject({
      code: "HTTP_STATUS",
    });
    expect(copy.has("n001")).toBe(true);
  });

  it("come from a feed's `deleted` too, after a fetch", async () => {
    const world = filledWorld(5);
    const { copy, engine } = notesEngine({
      world,
      resource: {
        list: async (args) => ({ ...(await world.list(args)), deleted: ["n001", "n002", "never-seen"] }),
      },
    });
    await engine.reconcile("notes.note", { mode: "incremental" });
    world.remove("n001");
    expect(await engine.reconcile("notes.note", { mode: "incremental" })).toMatchObject({
      deleted: 1,
      extra: 1,
    });
    expect(copy.has("n001")).toBe(false);
    expect(copy.has("n002")).toBe(true);
  });
});

describe("an incremental pass", () => {
  it("asks from where the last complete pass began, less the overlap", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(3), resource: { overlapMs: 60_000 } });
    const before = Date.now();
    await engine.reconcile("notes.note", { mode: "incremental" });
    const after = Date.now();
    await engine.reconcile("notes.note", { mode: "incremental" });
    const [first, second] = world.calls.filter((call) => call.kind === "list");
    expect(first?.since).toBeUndefined();
    expect(second?.since?.getTime()).toBeGreaterThanOrEqual(before - 60_000);
    expect(second?.since?.getTime()).toBeLessThanOrEqual(after - 60_000);
  });

  it("does not move its start when it fails", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(3) });
    world.before = () => {
      throw new HttpError(500, "down");
    };
    await expect(engine.reconcile("notes.note", { mode: "incremental" })).rejects.toThrow("down");
    world.before = () => {};
    await engine.reconcile("notes.note", { mode: "incremental" });
    expect(world.calls.at(-1)?.since).toBeUndefined();
  });

  it("is refused where the API has no `since`", async () => {
    const { engine } = notesEngine({ resource: { incremental: false } });
    await expect(engine.reconcile("notes.note", { mode: "incremental" })).rejects.toMatchObject({
      code: "NOT_SUPPORTED",
    });
  });

  it("warns of a list that ignores its filter, and loses nothing", async () => {
    const { copy, engine, world } = notesEngine({
      world: filledWorld(3),
      resource: { versionOf: () => "2001-01-01T00:00:00Z" },
    });
    await engine.reconcile("notes.note", { mode: "incremental" });
    world.put("n001", "changed");
    const warned = next(engine, "warning", ({ code }) => code === "LIST_FILTER_IGNORED");
    expect(await engine.reconcile("notes.note", { mode: "incremental" })).toMatchObject({
      complete: true,
      stale: 1,
    });
    await warned;
    expect(copy.get("n001")?.text).toBe("changed");
  });
});

describe("a list that misbehaves", () => {
  it("ends with CURSOR_REPEATED when it runs in a circle", async () => {
    const world = filledWorld(3);
    const { engine } = notesEngine({
      world,
      resource: { list: async () => ({ items: [...world.notes.values()], next: "again" }) },
    });
    const failed = next(engine, "pass.failed");
    await expect(engine.reconcile("notes.note", { mode: "full" })).rejects.toMatchObject({
      code: "CURSOR_REPEATED",
    });
    expect((await failed).error).toMatchObject({ code: "CURSOR_REPEATED" });
  });

  it("ends with LIST_INVALID when it returns no page", async () => {
    const { engine } = notesEngine({ resource: { list: async () => "not a page" as never } });
    await expect(engine.reconcile("notes.note", { mode: "full" })).rejects.toMatchObject({
      code: "LIST_INVALID",
    });
  });

  it("makes a dead letter of a row that its schema refuses, and handles the others", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(3) });
    world.notes.set("n001", { id: "n001", text: 7, rev: 9 } as never);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      listed: 3,
      missing: 2,
    });
    expect([...copy.keys()]).toEqual(["n000", "n002"]);
    const { items } = await engine.deadLetters.list();
    expect(items).toMatchObject([{ ref: { id: "n001" }, code: "SCHEMA_MISMATCH", path: "text" }]);
  });

  it("proves no deletion when a row has no id", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(3) });
    await engine.reconcile("notes.note", { mode: "full" });
    world.notes.set("n001", { text: "who am I" } as never);
    const warned = next(engine, "warning", ({ code }) => code === "LIST_INVALID");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      deleted: 0,
    });
    await warned;
    expect(copy.has("n001")).toBe(true);
    await expect(engine.verify("notes.note")).rejects.toMatchObject({ code: "LIST_INVALID" });
  });
});

describe("whom a pass tells", () => {
  it("`none`: the index learns, and no handler runs", async () => {
    const { engine, seen, world } = notesEngine({ world: filledWorld(5) });
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "none" })).toMatchObject({
      missing: 5,
      complete: true,
    });
    expect(seen).toHaveLength(0);
    world.remove("n001");
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "none" })).toMatchObject({
      unchanged: 4,
      extra: 1,
    });
    expect(await engine.verify("notes.note")).toMatchObject({ listed: 4, missing: 0, stale: 0, extra: 0 });
    expect(seen).toHaveLength(0);
  });

  it("`all`: everything listed is handled again", async () => {
    const { engine, seen } = notesEngine({ world: filledWorld(5) });
    await engine.reconcile("notes.note", { mode: "full" });
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "all" })).toMatchObject({
      unchanged: 5,
    });
    expect(seen).toHaveLength(10);
  });

  it("`all`: also what a fetch failed for, which is handed over when it comes (I2)", async () => {
    const world = filledWorld(3);
    const list = async (args: Parameters<World["list"]>[0]): Promise<Page> => {
      const page = await world.list(args);
      return {
        ...page,
        items: page.items.map((note) => ({ id: (note as Note).id, version: (note as Note).rev })),
      };
    };
    const { engine, seen } = notesEngine({ world, resource: { list, listItems: "summary" } });
    await engine.start();
    await engine.reconcile("notes.note", { mode: "full" });
    let failures = 0;
    world.before = ({ ids }) => {
      if (ids[0] !== "n001" || failures > 0) return;
      failures += 1;
      throw new HttpError(500, "down");
    };
    await engine.reconcile("notes.note", { mode: "full", handle: "all" });
    await engine.drain();
    expect([seen.length, failures]).toEqual([6, 1]);
  });

  it("`all`: also what waits for its own work, but nothing that is dead", async () => {
    const world = filledWorld(3);
    let refused = "";
    const { deliver, engine, seen } = notesEngine({
      world,
      handler: ({ ref }) => {
        if (ref.id === refused) throw new RejectError("no");
      },
    });
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.start();
    refused = "n002";
    await engine.trigger("notes.note", [refused]);
    await engine.drain();
    await engine.pause({ provider: "notes" });
    await deliver({ resource: "note", objectId: "n001" });
    seen.length = 0;
    await engine.reconcile("notes.note", { mode: "full", handle: "all" });
    await engine.resume({ provider: "notes" });
    await engine.drain();
    expect(seen.map(({ ref }) => ref.id).toSorted()).toEqual(["n000", "n001"]);
    expect((await engine.deadLetters.list()).items).toHaveLength(1);
  });

  it("`all`: also what changed while its page was under way, and could not be marked then (I2, I6)", async () => {
    const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
    const { append, lookup } = { append: store.append.bind(store), lookup: store.lookup.bind(store) };
    const { deliver, engine, seen } = notesEngine({ world: filledWorld(3), engine: { store } });
    await engine.reconcile("notes.note", { mode: "full" });
    seen.length = 0;
    store.lookup = async (scope, ids) => {
      const found = await lookup(scope, ids);
      store.lookup = lookup;
      await deliver({ resource: "note", objectId: "n001" });
      return found;
    };
    let gone = false;
    const work = store.work.bind(store);
    store.work = async (options) => {
      const session = await work(options);
      const recordPage = session.recordPage.bind(session);
      session.recordPage = async (page) => {
        if (gone) throw new TrueupError("STORE_FAILED", "as after a crash, nothing more is recorded");
        return recordPage(page);
      };
      return session;
    };
    store.append = async (entries) => {
      if (entries[0]?.force !== true) return append(entries);
      store.append = append;
      gone = true;
      throw new TrueupError("STORE_FAILED", "the disk is gone for a moment");
    };
    await expect(engine.reconcile("notes.note", { mode: "full", handle: "all" })).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    expect(seen.map(({ ref }) => ref.id).toSorted()).toEqual(["n000", "n002"]);
    expect((await engine.status()).routes).toMatchObject([{ leased: 0 }]);
    gone = false;
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "all" })).toMatchObject({
      complete: true,
      resumed: true,
      listed: 3,
    });
    await engine.start();
    await engine.drain();
    expect(seen.map(({ ref }) => ref.id)).toContain("n001");
  });

  it.each([
    { interrupted: "changed", asked: "all", resumed: false, handled: 4 },
    { interrupted: "all", asked: "changed", resumed: true, handled: 4 },
    { interrupted: "all", asked: "all", resumed: true, handled: 4 },
    { interrupted: "none", asked: "changed", resumed: true, handled: 0 },
    { interrupted: "changed", asked: "none", resumed: false, handled: 0 },
  ] as const)(
    "`$asked` goes on with an interrupted `$interrupted` only where that was no less: $resumed",
    async ({ interrupted, asked, resumed, handled }) => {
      const { engine, seen } = notesEngine({ world: filledWorld(4), resource: { pageSize: 1 } });
      await engine.reconcile("notes.note", { mode: "full" });
      seen.length = 0;
      const given = new AbortController();
      const onProgress = () => given.abort();
      const first = { mode: "full", handle: interrupted, signal: given.signal, onProgress } as const;
      expect(await engine.reconcile("notes.note", first)).toMatchObject({ complete: false, pages: 1 });
      const report = await engine.reconcile("notes.note", { mode: "full", handle: asked });
      expect(report).toMatchObject({ complete: true, resumed, pages: 4 });
      expect(new Set(seen.map(({ ref }) => ref.id)).size).toBe(handled);
    },
  );

  it("believes what `adopt` says of the user's copy", async () => {
    const { engine, seen, world } = notesEngine({ world: filledWorld(4) });
    const [a, b, c] = [...world.notes.values()];
    const taken = await engine.adopt("notes.note", [
      { id: a!.id, object: a },
      { id: b!.id, version: b!.rev },
      { id: c!.id, version: -1 },
    ]);
    expect(taken).toBe(3);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      unchanged: 2,
      stale: 1,
      missing: 1,
    });
    expect(seen.map((change) => change.ref.id).toSorted()).toEqual(["n002", "n003"]);
  });
});

describe("rows of another shape than single reads", () => {
  it("are fetched once to learn, and compare afterwards", async () => {
    const world = filledWorld(5);
    const shaped = {
      list: async (args: Parameters<World["list"]>[0]): Promise<Page> => ({
        items: (await world.list(args)).items.map((note) => ({ ...(note as object), text: "…" })),
      }),
    };
    const { copy, deliver, engine, seen } = notesEngine({ world, resource: shaped });
    await engine.start();
    for (const id of world.notes.keys()) await deliver({ resource: "note", objectId: id });
    await engine.drain();
    expect(world.fetches()).toBe(5);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ unchanged: 5, stale: 0 });
    expect(world.fetches()).toBe(10);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ unchanged: 5, stale: 0 });
    expect(world.fetches()).toBe(10);
    expect(seen).toHaveLength(5);
    expect(copy).toEqual(world.notes);
  });

  it("that are summaries cost a fetch only where the version differs", async () => {
    const world = filledWorld(5);
    const summaries = async (args: Parameters<World["list"]>[0]): Promise<Page> => {
      const page = await world.list(args);
      return {
        ...page,
        items: page.items.map((note) => ({
          id: (note as { id: string }).id,
          version: (note as { rev: number }).rev,
        })),
      };
    };
    const { copy, engine } = notesEngine({ world, resource: { listItems: "summary", list: summaries } });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ missing: 5 });
    expect(world.fetches()).toBe(5);
    world.put("n002", "changed");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ unchanged: 4, stale: 1 });
    expect(world.fetches()).toBe(6);
    expect(copy).toEqual(world.notes);
  });
});

describe("schedules", () => {
  it("run at start what never ran, and not again before their time", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(5) });
    engine.schedule("notes.note", { every: "1h", mode: "full" });
    const finished = next(engine, "pass.finished");
    await engine.start();
    expect(await finished).toMatchObject({ mode: "full", complete: true, repaired: 5 });
    expect(copy.size).toBe(5);
    await engine.tick();
    expect(world.calls).toHaveLength(1);
  });

  it("repeat", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(1) });
    engine.schedule("notes.note", { every: 20, mode: "full" });
    const passes = counting(engine, "pass.finished");
    await engine.start();
    while (passes() < 3) await next(engine, "pass.finished");
    world.put("n000", "changed");
    await next(engine, "change.handled");
    expect(copy.get("n000")?.text).toBe("changed");
  });

  it("run in a tick, once", async () => {
    const { copy, engine } = notesEngine({ world: filledWorld(5) });
    engine.schedule("notes.note", { every: "1h", mode: "full" });
    const passes = counting(engine, "pass.finished");
    await engine.tick();
    await engine.tick();
    expect(passes()).toBe(1);
    expect(copy.size).toBe(5);
  });
});

describe("what goes wrong between a page and its record (I6)", () => {
  it("makes the next pass read that page again", async () => {
    const world = filledWorld(25);
    let lookups = 0;
    const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
    const lookup = store.lookup.bind(store);
    store.lookup = async (scope, ids) => {
      lookups += 1;
      if (lookups === 2) throw new TrueupError("STORE_FAILED", "the disk is gone for a moment");
      return lookup(scope, ids);
    };
    const { copy, engine } = notesEngine({ world, resource: { pageSize: 10 }, engine: { store } });
    await expect(engine.reconcile("notes.note", { mode: "full" })).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    expect(copy.size).toBe(10);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      resumed: true,
      pages: 3,
      listed: 25,
      missing: 25,
    });
    expect(copy).toEqual(world.notes);
  });
});

describe("a raised revision", () => {
  const firstAndSecond = (onRevision: "adopt" | "handle") => {
    const world = filledWorld(5);
    const first = notesEngine({ world, resource: { contentOf: ({ text }) => text } });
    const second = () =>
      notesEngine({
        world,
        path: first.path,
        resource: { contentOf: ({ text, rev }) => ({ text, rev }), revision: 2, onRevision },
      });
    return { first, second, world };
  };

  it("adopts the new hashes quietly, and still sees what changed", async () => {
    const { first, second, world } = firstAndSecond("adopt");
    await first.engine.reconcile("notes.note", { mode: "full" });
    await first.engine.stop();
    world.put("n003", "changed");
    const { engine, seen } = second();
    expect(await engine.verify("notes.note")).toMatchObject({ stale: 1, missing: 0 });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ unchanged: 4, stale: 1 });
    expect(seen.map((change) => change.ref.id)).toEqual(["n003"]);
    expect(world.fetches()).toBe(0);
    world.notes.set("n001", { ...world.notes.get("n001")!, text: "in secret" });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ unchanged: 4, stale: 1 });
  });

  it("hands everything over again where that is wanted", async () => {
    const { first, second } = firstAndSecond("handle");
    await first.engine.reconcile("notes.note", { mode: "full" });
    await first.engine.stop();
    expect(await second().engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ stale: 5 });
  });
});

describe("what died of an outage", () => {
  it("gets another life with the next pass, and what died of itself does not (I5)", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    world.put("n1", "text");
    world.put("n2", "text");
    world.before = (call) => {
      if (call.ids.includes("n1")) throw new HttpError(503, "down");
      if (call.ids.includes("n2")) throw new RejectError("never");
    };
    await engine.start();
    for (const id of ["n1", "n2"]) {
      const dead = next(engine, "change.dead");
      await deliver({ resource: "note", objectId: id });
      await dead;
    }
    world.before = () => {};
    await engine.reconcile("notes.note", { mode: "incremental" });
    await engine.drain();
    expect([...copy.keys()]).toEqual(["n1"]);
    expect((await engine.deadLetters.list()).items.map((letter) => letter.ref.id)).toEqual(["n2"]);
  });
});

describe("an API without paging", () => {
  it("is recorded in slices: a slice that fails does not lose the others, and the list counts as one page (I6)", async () => {
    const world = filledWorld(2_500);
    const { copy, engine } = notesEngine({
      world,
      resource: { list: async () => ({ items: [...world.notes.values()] }) },
    });
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      pages: 1,
      requests: 1,
      listed: 2_500,
      missing: 2_500,
    });
    expect(copy.size).toBe(2_500);
    world.remove("n1500");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      unchanged: 2_499,
      deleted: 1,
    });
    expect(copy).toEqual(world.notes);
  });
});
