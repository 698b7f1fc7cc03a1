import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HttpError, type Page } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { passKey } from "../../src/core/pass.ts";
import { failureOf, next, notesEngine, temporaryDirectory } from "./notes.ts";
import { gate, type Note, World } from "./world.ts";

function filledWorld(count: number): World {
  const world = new World();
  for (let i = 0; i < count; i += 1) world.put(`n${String(i).padStart(4, "0")}`, `text ${i}`);
  return world;
}

/** An SQLite store that fails to record one page. */
function storeFailingAtPage(nth: number) {
  const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
  const work = store.work.bind(store);
  let pages = 0;
  store.work = async (options) => {
    const session = await work(options);
    const recordPage = session.recordPage.bind(session);
    session.recordPage = async (page) => {
      if (page.lease) pages += 1;
      if (page.lease && pages === nth) throw new Error("the disk hiccups");
      return recordPage(page);
    };
    return session;
  };
  return store;
}

describe("a page of more rows than are recorded at once (I6)", () => {
  test.each([
    ["with others behind it", 2_600, 2_000],
    ["that is the last", 1_500, 2_000],
  ])(
    "%s should be read again whole when a later part of it could not be recorded",
    async (_, count, pageSize) => {
      const { copy, engine, world } = notesEngine({
        world: filledWorld(count),
        resource: { pageSize },
        engine: { store: storeFailingAtPage(2) },
      });
      expect(await failureOf(engine.reconcile("notes.note", { mode: "full" }))).toMatchObject({
        message: "the disk hiccups",
      });
      expect(copy.size).toBe(1_000); // the control: the first part was recorded
      expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
        complete: true,
        resumed: true,
      });
      expect(copy.size).toBe(count);
      expect(copy).toEqual(world.notes);
    },
  );
});

describe("what a list lacks (I7)", () => {
  test("should mean nothing where the list is an incremental one", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(5) });
    await engine.reconcile("notes.note", { mode: "full" });
    world.remove("n0003");
    expect(await engine.reconcile("notes.note", { mode: "incremental" })).toMatchObject({
      extra: 0,
      deleted: 0,
    });
    expect(world.fetches()).toBe(0);
    expect(copy.has("n0003")).toBe(true);
    // The control: a full one finds it.
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ extra: 1, deleted: 1 });
  });

  test("should not count as seen because a pass that was given up has seen it", async () => {
    const { copy, engine, world } = notesEngine({ world: filledWorld(6), resource: { pageSize: 2 } });
    await engine.reconcile("notes.note", { mode: "full" });
    world.before = ({ cursor }) => {
      if (cursor === "2") throw new HttpError(500, "down");
    };
    await failureOf(engine.reconcile("notes.note", { mode: "full" }));
    world.before = () => {};
    world.remove("n0000");
    const report = await engine.reconcile("notes.note", { mode: "full", pageSize: 3 });
    expect(report).toMatchObject({ resumed: false, extra: 1, deleted: 1 });
    expect(copy.has("n0000")).toBe(false);
  });

  test("should prove nothing where a row on an earlier page could not be read", async () => {
    const world = filledWorld(4);
    const list = async ({ cursor }: { cursor: string | undefined }): Promise<Page> =>
      cursor === undefined
        ? { items: [{ text: "no id" }, world.notes.get("n0000")], next: "2" }
        : { items: [world.notes.get("n0001")] };
    const { copy, engine } = notesEngine({ world, resource: { list } });
    await engine.adopt(
      "notes.note",
      [...world.notes.values()].map((object) => ({ id: object.id, object })),
    );
    world.remove("n0003");
    const report = await engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ complete: true, extra: 0, deleted: 0 });
    expect(world.fetches()).toBe(0);
    expect(copy.size).toBe(0);
  });

  test("should be swept again where it could not be recorded (I6)", async () => {
    const { copy, engine, world } = notesEngine({
      world: filledWorld(3),
      engine: { store: storeFailingAtPage(3) },
    });
    await engine.reconcile("notes.note", { mode: "full" });
    world.remove("n0002");
    expect(await failureOf(engine.reconcile("notes.note", { mode: "full" }))).toMatchObject({
      message: "the disk hiccups",
    });
    expect(copy.has("n0002")).toBe(true);
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      resumed: true,
      deleted: 1,
    });
    expect(copy).toEqual(world.notes);
  });

  test("should be fetched before the index forgets it, also where no handler runs", async () => {
    const world = filledWorld(3);
    let hidden = "";
    const list = async (): Promise<Page> => ({
      items: [...world.notes.values()].filter(({ id }) => id !== hidden),
    });
    const { engine } = notesEngine({ world, resource: { list } });
    await engine.reconcile("notes.note", { mode: "full", handle: "none" });
    hidden = "n0001";
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "none" })).toMatchObject({
      extra: 0,
    });
    // As `verify` sees it, too; and where it cannot be fetched, nothing is proved.
    expect(await engine.verify("notes.note")).toMatchObject({ missing: 0, extra: 0 });
    world.before = ({ kind }) => {
      if (kind === "fetch") throw new HttpError(400, "no");
    };
    expect(await failureOf(engine.verify("notes.note"))).toMatchObject({ status: 400 });
    world.before = () => {};
    hidden = "";
    world.remove("n0001");
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "none" })).toMatchObject({
      extra: 1,
    });
  });
});

describe("where an incremental pass begins (I5)", () => {
  test("should not be behind a gap that an earlier one left because it was told to", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(2), resource: { overlapMs: 0 } });
    const first = await engine.reconcile("notes.note", { mode: "full" });
    const since = first.checkpoint.since!;
    const later = new Date(since.getTime() + 3_600_000);
    await engine.reconcile("notes.note", { mode: "incremental", since: later });
    await engine.reconcile("notes.note", { mode: "incremental" });
    expect(world.calls.map((call) => call.since)).toEqual([undefined, later, since]);
    // The control: one that was told nothing moves on.
    await engine.reconcile("notes.note", { mode: "incremental" });
    expect(world.calls.at(-1)?.since?.getTime()).toBeGreaterThan(since.getTime());
  });

  test("should not be behind such a gap either where another call went on with that pass", async () => {
    const { engine, world } = notesEngine({
      world: filledWorld(2),
      resource: { overlapMs: 0, pageSize: 1 },
    });
    const first = await engine.reconcile("notes.note", { mode: "full" });
    const since = first.checkpoint.since!;
    const later = new Date(since.getTime() + 3_600_000);
    const interrupted = new AbortController();
    await engine.reconcile("notes.note", {
      mode: "incremental",
      since: later,
      signal: interrupted.signal,
      onProgress: () => interrupted.abort(),
    });
    expect(await engine.reconcile("notes.note", { mode: "incremental" })).toMatchObject({
      complete: true,
      resumed: true,
    });
    await engine.reconcile("notes.note", { mode: "incremental" });
    expect(world.calls.at(-1)?.since).toEqual(since);
  });

  test("should be where the first page of the last one was true of, and not a later page", async () => {
    const world = filledWorld(2);
    const asked: (Date | undefined)[] = [];
    const asOf = (cursor: string | undefined) => new Date(cursor === undefined ? 1_000_000 : 2_000_000);
    const list = async ({
      cursor,
      since,
    }: {
      cursor: string | undefined;
      since: Date | undefined;
    }): Promise<Page> => {
      asked.push(since);
      return {
        items: [world.notes.get(cursor ?? "n0000")],
        asOf: asOf(cursor),
        next: cursor === undefined ? "n0001" : null,
      };
    };
    const { engine } = notesEngine({ world, resource: { list, overlapMs: 0 } });
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.reconcile("notes.note", { mode: "incremental" });
    expect(asked.at(-1)).toEqual(new Date(1_000_000));
  });

  test("should be the start, after a list that ran in a circle", async () => {
    const world = filledWorld(3);
    let circular = true;
    const cursors: (string | undefined)[] = [];
    const list = async ({ cursor }: { cursor: string | undefined }): Promise<Page> => {
      cursors.push(cursor);
      const items = [...world.notes.values()];
      return { items, next: circular ? (cursor === "a" ? "b" : "a") : null };
    };
    const { copy, engine } = notesEngine({ world, resource: { list } });
    expect(await failureOf(engine.reconcile("notes.note", { mode: "full" }))).toMatchObject({
      code: "CURSOR_REPEATED",
    });
    circular = false;
    cursors.length = 0;
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      resumed: false,
    });
    expect(cursors).toEqual([undefined]);
    expect(copy).toEqual(world.notes);
  });

  test("should be anew where its checkpoint cannot be read", async () => {
    const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
    const { copy, engine, world } = notesEngine({ world: filledWorld(4), engine: { store } });
    await engine.reconcile("notes.note", { mode: "full" });
    const scope = { provider: "notes", connection: "default", resource: "note" };
    const key = passKey(scope, "full");
    const lock = (await store.lock("by hand", 1_000))!;
    await store.endPass(scope, key, lock, '{"current":{"cursor":');
    await store.unlock(lock);
    world.remove("n0002");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({
      complete: true,
      resumed: false,
      deleted: 1,
    });
    expect(copy).toEqual(world.notes);
  });
});

describe("an object that changes while its page is under way (I4)", () => {
  /** A provider without versions, whose list answers with what was there before an event was handled. */
  async function overtaken(handle: "changed" | "none") {
    const world = filledWorld(1);
    let overtakes = false;
    const list = async (): Promise<Page> => {
      const items = [...world.notes.values()];
      if (overtakes) {
        const handled = next(made.engine, "change.handled");
        world.put("n0000", "newer");
        await made.deliver({ resource: "note", objectId: "n0000" });
        await handled;
      }
      return { items };
    };
    const made = notesEngine({
      world,
      resource: { list, versionOf: undefined, contentOf: (note: Note) => note.text },
    });
    await made.engine.start();
    await made.engine.reconcile("notes.note", { mode: "full" });
    overtakes = true;
    await made.engine.reconcile("notes.note", { mode: "full", handle });
    overtakes = false;
    return made;
  }

  test("should be left to the event that told of it", async () => {
    const { seen } = await overtaken("changed");
    expect(seen.map(({ object }) => object?.text)).toEqual(["text 0", "newer"]);
  });

  test("should be left to it also where that found nothing new, and the list is behind", async () => {
    const world = filledWorld(1);
    const behind: { note?: Note | undefined } = {};
    const list = async (): Promise<Page> => {
      if (behind.note === undefined) return { items: [...world.notes.values()] };
      const unchanged = next(made.engine, "change.unchanged");
      await made.deliver({ resource: "note", objectId: "n0000" });
      await unchanged;
      return { items: [behind.note] };
    };
    const made = notesEngine({
      world,
      resource: { list, versionOf: undefined, contentOf: (note: Note) => note.text },
    });
    await made.engine.start();
    await made.engine.reconcile("notes.note", { mode: "full" });
    const old = world.notes.get("n0000");
    world.put("n0000", "newer");
    await made.engine.reconcile("notes.note", { mode: "full" });
    behind.note = old;
    await made.engine.reconcile("notes.note", { mode: "full" });
    expect(made.seen.map(({ object }) => object?.text)).toEqual(["text 0", "newer"]);
  });

  test("should not be learned from that page", async () => {
    const { engine } = await overtaken("none");
    expect(await engine.verify("notes.note")).toMatchObject({ listed: 1, stale: 0, missing: 0 });
  });

  test("should not be missed by the sweep of a pass that began before it was (I7)", async () => {
    const world = filledWorld(1);
    let creates = false;
    const list = async (): Promise<Page> => {
      const items = [...world.notes.values()];
      if (creates) {
        const handled = next(made.engine, "change.handled");
        world.put("n0001", "born meanwhile");
        await made.deliver({ resource: "note", objectId: "n0001" });
        await handled;
      }
      return { items };
    };
    const made = notesEngine({ world, resource: { list, shrinkGuard: { count: 0, share: 0 } } });
    await made.engine.start();
    await made.engine.reconcile("notes.note", { mode: "full" });
    creates = true;
    const report = await made.engine.reconcile("notes.note", { mode: "full" });
    expect(report).toMatchObject({ extra: 0, suppressedDeletes: 0 });
    expect(world.fetches()).toBe(1); // the event's; the list's evidence is older than the object
    expect(made.copy).toEqual(world.notes);
  });

  test("should not be judged while its work waits", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(3) });
    await engine.reconcile("notes.note", { mode: "full" });
    world.put("n0001", "newer");
    await engine.trigger("notes.note", ["n0001"]);
    expect(await engine.verify("notes.note")).toMatchObject({ pending: 1, stale: 0 });
  });
});

describe("what a pass has learned of an object (I4)", () => {
  test("should not be written over what was handled meanwhile", async () => {
    const world = new World();
    const [holds, goOn] = [gate(), gate()];
    const list = async (args: Parameters<World["list"]>[0]): Promise<Page> => {
      const page = await world.list(args);
      return { ...page, items: page.items.map((note) => ({ ...(note as Note), text: "…" })) };
    };
    const { copy, deliver, engine } = notesEngine({
      world,
      resource: { list, fetchMany: world.fetchMany, versionOf: undefined, contentOf: ({ text }) => text },
      handler: ({ object }) => (object?.text === "slow" ? (holds.open(), goOn.opened) : undefined),
    });
    const put = async (id: string, text: string) => {
      world.put(id, text);
      await deliver({ resource: "note", objectId: id });
    };
    await engine.start();
    await put("a", "open");
    await put("b", "text");
    await engine.drain();
    world.put("b", "slow"); // in one batch with "a", of which the row is another view
    const unchanged = next(engine, "change.unchanged", ({ ref }) => ref.id === "a");
    const pass = engine.reconcile("notes.note", { mode: "full" });
    await Promise.all([unchanged, holds.opened]);
    const handled = next(engine, "change.handled", ({ ref }) => ref.id === "a");
    await put("a", "closed");
    await handled;
    goOn.open();
    await pass;
    await put("a", "open");
    await engine.drain();
    expect(copy.get("a")?.text).toBe("open");
  });

  test("should not be written over it by `adopt` either", async () => {
    const { copy, deliver, engine, world } = notesEngine();
    const held = world.put("n1", "held");
    await engine.start();
    async function* rows() {
      world.put("n1", "changed");
      await deliver({ resource: "note", objectId: "n1" });
      await engine.drain();
      yield { id: "n1", object: held }; // as the copy was when it was read
    }
    expect(await engine.adopt("notes.note", rows())).toBe(0);
    world.notes.set("n1", held); // a restored backup
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.drain();
    expect(copy.get("n1")).toEqual(held);
    expect(await engine.adopt("notes.note", [{ id: "n1", object: held }])).toBe(1); // the control
  });

  test("should not be written over by `adopt` what a handler did that was under way (I4)", async () => {
    const [holds, goOn] = [gate(), gate()];
    const { copy, deliver, engine, world } = notesEngine({
      handler: ({ object }) => (object?.text === "slow" ? (holds.open(), goOn.opened) : undefined),
    });
    const held = world.put("n1", "held");
    await engine.start();
    await deliver({ resource: "note", objectId: "n1" });
    await engine.drain();
    world.put("n1", "slow");
    await deliver({ resource: "note", objectId: "n1" });
    await holds.opened;
    async function* rows() {
      goOn.open();
      await engine.drain();
      yield { id: "n1", object: held };
    }
    expect(await engine.adopt("notes.note", rows())).toBe(0);
    world.notes.set("n1", held); // a restored backup
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.drain();
    expect(copy.get("n1")).toEqual(held);
  });

  test("should not be made forgotten by `adopt` that says less (I4)", async () => {
    const world = filledWorld(1);
    const { copy, engine, seen } = notesEngine({ world });
    const older = world.notes.get("n0000") as Note;
    const newer = world.put("n0000", "newer");
    await engine.reconcile("notes.note", { mode: "full" });
    expect(await engine.adopt("notes.note", [{ id: "n0000" }])).toBe(0);
    expect(await engine.adopt("notes.note", [{ id: "n0000", version: newer.rev }])).toBe(0);
    world.notes.set("n0000", older); // a slow replica
    await engine.reconcile("notes.note", { mode: "full" });
    expect(seen).toHaveLength(1);
    expect(copy.get("n0000")).toEqual(newer);
    expect(await engine.adopt("notes.note", [{ id: "n0000", version: -1 }])).toBe(0); // it waits for its time
    expect(await engine.adopt("notes.note", [{ id: "n0001" }])).toBe(1); // the control
  });

  test("should not hand over a row from before `adopt` said what the copy holds (I4)", async () => {
    const [asked, goOn] = [gate(), gate()];
    const world = new World();
    const older = world.put("n1", "older");
    const list = async (): Promise<Page> => {
      asked.open();
      await goOn.opened;
      return { items: [older] };
    };
    const { copy, engine, seen } = notesEngine({ world, resource: { list } });
    const pass = engine.reconcile("notes.note", { mode: "full" });
    await asked.opened;
    const newer = world.put("n1", "newer");
    await engine.trigger("notes.note", ["n2"]); // the counter goes on
    await engine.adopt("notes.note", [{ id: "n1" }]);
    goOn.open();
    await pass;
    expect(seen).toHaveLength(1);
    expect(copy.get("n1")).toEqual(newer);
  });

  test("should not be learned from a row of another version (I5)", async () => {
    const world = filledWorld(1);
    const { copy, engine } = notesEngine({ world });
    const older = world.notes.get("n0000") as Note;
    const newer = world.put("n0000", "newer");
    await engine.trigger("notes.note", ["n0000"]);
    await engine.start();
    await engine.drain();
    world.before = ({ kind }) => void world.notes.set("n0000", kind === "list" ? older : newer);
    await engine.reconcile("notes.note", { mode: "full" }); // a slow replica lists what was before
    await engine.drain();
    expect(copy.get("n0000")).toEqual(newer);
    world.before = () => void world.notes.set("n0000", older); // a restored backup
    await engine.reconcile("notes.note", { mode: "full" });
    expect(await engine.status()).toMatchObject({ backlog: 1 }); // given its time
  });
});

describe("what only tells the index", () => {
  test("should leave what waits for its handler to it, and not count it", async () => {
    const { deliver, engine, seen, world } = notesEngine({ world: filledWorld(2) });
    await deliver({ resource: "note", objectId: "n0000" });
    expect(await engine.reconcile("notes.note", { mode: "full", handle: "none" })).toMatchObject({
      listed: 2,
      missing: 1,
      stale: 0,
    });
    await engine.start();
    await engine.drain();
    expect(seen.map(({ object }) => object)).toEqual([world.notes.get("n0000")]);
  });

  test("should leave what was handled meanwhile as it is, whatever a fetch says (I4)", async () => {
    const [holds, goOn] = [gate(), gate()];
    const world = filledWorld(1);
    const { copy, deliver, engine } = notesEngine({
      world,
      resource: { list: async () => ({ items: [], deleted: ["n0000"] }) },
      handler: ({ object }) => (object?.text === "slow" ? (holds.open(), goOn.opened) : undefined),
    });
    await engine.trigger("notes.note", ["n0000"]);
    await engine.start();
    await engine.drain();
    world.put("n0000", "slow");
    await deliver({ resource: "note", objectId: "n0000" });
    await holds.opened;
    world.before = async () => {
      world.before = () => {};
      goOn.open();
      await engine.drain();
      world.remove("n0000");
    };
    await engine.reconcile("notes.note", { mode: "incremental", handle: "none" });
    expect(copy.get("n0000")).toMatchObject({ text: "slow" });
    await engine.reconcile("notes.note", { mode: "incremental" });
    await engine.drain();
    expect([...copy.keys()]).toEqual([]);
  });

  test("should learn of what was adopted and has changed since", async () => {
    const world = filledWorld(1);
    const { engine } = notesEngine({ world });
    await engine.adopt("notes.note", [{ id: "n0000", object: world.notes.get("n0000") }]);
    world.put("n0000", "changed");
    await engine.reconcile("notes.note", { mode: "full", handle: "none" });
    expect(await engine.verify("notes.note")).toMatchObject({ listed: 1, stale: 0, missing: 0 });
  });
});

describe("an interrupted pass", () => {
  test("should not be gone on with by who says from when on to list", async () => {
    const { engine, world } = notesEngine({ world: filledWorld(3), resource: { pageSize: 1 } });
    const stop = new AbortController();
    const report = await engine.reconcile("notes.note", {
      mode: "incremental",
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    expect(report.complete).toBe(false);
    world.calls.length = 0;
    const since = new Date(0);
    expect(await engine.reconcile("notes.note", { mode: "incremental", since })).toMatchObject({
      complete: true,
      resumed: false,
      listed: 3,
    });
    expect(world.calls[0]).toMatchObject({ kind: "list", cursor: undefined, since });
  });
});

describe("what a feed says is deleted (I10)", () => {
  test("should be fetched where the copy has it, and not for all that ever was", async () => {
    const world = filledWorld(2);
    const list = async (): Promise<Page> => ({
      items: [...world.notes.values()],
      deleted: ["n0001", ...Array.from({ length: 50 }, (_, i) => `never-had-${i}`)],
    });
    const { copy, engine } = notesEngine({ world, resource: { list } });
    await engine.adopt("notes.note", [{ id: "n0001", version: 2 }]);
    world.remove("n0001");
    expect(await engine.reconcile("notes.note", { mode: "full" })).toMatchObject({ deleted: 1 });
    expect(world.calls.flatMap(({ ids }) => ids)).toEqual(["n0001"]);
    expect([...copy.keys()]).toEqual(["n0000"]);
  });

  test("should be learned where no handler runs, and named twice be no other", async () => {
    const world = filledWorld(3);
    const { engine, seen } = notesEngine({
      world,
      resource: {
        list: async () => ({ items: [...world.notes.values()], deleted: ["n0001", "n0002", "n0001"] }),
      },
    });
    await engine.reconcile("notes.note", { mode: "full" });
    world.remove("n0001");
    const report = await engine.reconcile("notes.note", { mode: "incremental", handle: "none" });
    expect(report).toMatchObject({ extra: 1 });
    expect(await engine.verify("notes.note")).toMatchObject({ listed: 2, extra: 0, stale: 0 });
    expect(seen).toHaveLength(3);
  });
});
