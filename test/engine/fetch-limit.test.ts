import { describe, expect, onTestFinished, test } from "vitest";
import { defineResource } from "trueup";
import { testEngine } from "trueup/testing";
import { gate, notesProvider, noteSchema, World } from "./world.ts";

const SLOTS = 2;

/** An engine whose fetches stay under way until the gate is opened, and how many of them ever were so at once. */
function setup(resource: Parameters<typeof notesProvider>[1] = {}) {
  const world = new World();
  const under = { way: 0, most: 0 };
  let answers: Promise<void> | undefined;
  const held =
    <Args extends unknown[], Result>(fetch: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      under.way += 1;
      under.most = Math.max(under.most, under.way);
      try {
        if (answers === undefined) await new Promise((resolve) => setImmediate(resolve));
        else await answers;
        return await fetch(...args);
      } finally {
        under.way -= 1;
      }
    };
  const note = defineResource({
    schema: noteSchema,
    idOf: ({ id }) => id,
    versionOf: ({ rev }) => rev,
    fetch: held(world.fetch),
    list: world.list,
    ...resource,
    ...(resource.fetchMany === undefined ? {} : { fetchMany: held(resource.fetchMany) }),
  });
  const bench = testEngine({ providers: [notesProvider(world, note as never)], concurrency: SLOTS });
  onTestFinished(() => bench.engine.stop());
  const fill = (count: number) => {
    for (let i = 0; i < count; i += 1) world.put(`n${String(i).padStart(3, "0")}`, "text");
  };
  return { ...bench, fill, hold: (until?: Promise<void>) => void (answers = until), under, world };
}

const summaries = (world: () => World) => ({
  listItems: "summary" as const,
  list: async () => ({ items: [...world().notes.values()].map(({ id, rev }) => ({ id, version: rev })) }),
});

describe("the fetches under way", () => {
  test("should be no more than `concurrency` while a drift is measured (I10)", async () => {
    const { engine, fill, under, world } = setup(summaries(() => world));
    engine.handle("notes.note", () => {});
    fill(30);
    await engine.reconcile("notes.note", { mode: "full" });
    for (const id of world.notes.keys()) world.put(id, "otherwise");
    expect(await engine.verify("notes.note")).toMatchObject({ stale: 30 });
    for (const id of [...world.notes.keys()].slice(0, 20)) world.remove(id);
    expect(await engine.verify("notes.note")).toMatchObject({ stale: 10, extra: 20 });
    expect(under.most).toBe(SLOTS);
  });

  test("should be no more than `concurrency` while only the index learns what is gone (I10)", async () => {
    const { engine, fill, under, world } = setup();
    fill(30);
    engine.handle("notes.note", () => {});
    await engine.reconcile("notes.note", { mode: "full", handle: "none" });
    for (const id of [...world.notes.keys()].slice(0, 10)) world.remove(id);
    await engine.reconcile("notes.note", { mode: "full", handle: "none" });
    expect(await engine.verify("notes.note")).toMatchObject({ listed: 20, extra: 0 });
    expect(under.most).toBe(SLOTS);
  });

  test("should be no more than `concurrency` where a batch leaves objects out (I10)", async () => {
    const { engine, fill, settled, under, world } = setup({ fetchMany: async () => [], batchSize: 30 });
    const handled = new Set<string>();
    engine.handle("notes.note", ({ ref }) => void handled.add(ref.id));
    fill(30);
    await engine.start();
    await engine.trigger("notes.note", [...world.notes.keys()]);
    await settled();
    expect([handled.size, under.most]).toEqual([30, SLOTS]);
  });
});

test("what an event told of has its turn while a pass fetches what it has listed (I5)", async () => {
  const { engine, fill, hold, settled, under, world, clock } = setup(summaries(() => world));
  const handled: string[] = [];
  engine.handle("notes.note", ({ ref }) => void handled.push(ref.id));
  fill(60);
  const answers = gate();
  hold(answers.opened);
  await engine.start();
  const pass = engine.reconcile("notes.note", { mode: "full" });
  for (let turns = 0; turns < 100 && under.way < SLOTS; turns += 1) await clock.settle();
  world.put("told", "text");
  await engine.trigger("notes.note", ["told"]);
  await clock.settle();
  expect(handled).toEqual([]);
  hold();
  answers.open();
  await settled();
  expect(await pass).toMatchObject({ complete: true });
  expect(handled).toHaveLength(61);
  expect(handled.indexOf("told")).toBeLessThan(10);
});
