import { expect, onTestFinished, test } from "vitest";
import { testEngine } from "trueup/testing";
import { gate, notesProvider, World } from "./world.ts";

test("passes that events ask for are few at once, however many connections they are of (I10)", async () => {
  const world = new World();
  world.put("n1", "text");
  const ids = Array.from({ length: 200 }, (_, i) => `c${i}`);
  const answers = gate();
  const under = { way: 0, most: 0 };
  const listed = new Map<string, number>();
  const { clock, deliver, engine, settled } = testEngine({
    providers: [
      notesProvider(world, {
        list: async (_args, { connection }) => {
          under.way += 1;
          under.most = Math.max(under.most, under.way);
          await answers.opened;
          under.way -= 1;
          listed.set(connection.id, (listed.get(connection.id) ?? 0) + 1);
          return { items: [] };
        },
      }),
    ],
    connections: { get: (_provider, id) => ({ id, credentials: {} }), list: () => ids },
    fetchTimeoutMs: 3_600_000,
  });
  onTestFinished(() => engine.stop());
  const handled: string[] = [];
  engine.handle("notes.note", ({ ref }) => void handled.push(ref.connection));
  await engine.start();
  const told = ids.map((connection) => deliver("notes", [{ resource: "note" }], { connection }));
  await clock.settle();
  expect(under.way).toBe(8);
  await clock.advance(60_000);
  expect(under.most).toBe(8);
  // Nor do they hold up what else there is to do, of connections whose pass waits.
  const other = deliver("notes", [{ resource: "note", objectId: "n1" }], { connection: "c150" });
  for (let turns = 0; turns < 100 && handled.length === 0; turns += 1) await clock.advance(10);
  expect(handled).toEqual(["c150"]);
  answers.open();
  await settled();
  await Promise.all([...told, other]);
  expect(under.most).toBe(8);
  expect([...listed.keys()].toSorted()).toEqual(ids.toSorted());
});

test("a pass that an event asks for waits for one under way without keeping others from their turn (I5)", async () => {
  const world = new World();
  const answers = gate();
  let lists = 0;
  const { clock, deliver, engine, settled } = testEngine({
    providers: [
      notesProvider(world, {
        list: async (_args, { connection }) => {
          if (connection.id === "slow" && lists === 0) {
            lists += 1;
            await answers.opened;
          } else lists += 1;
          return { items: [] };
        },
      }),
    ],
    connections: { get: (_provider, id) => ({ id, credentials: {} }), list: () => ["slow", "quick"] },
    concurrency: 1,
    fetchTimeoutMs: 3_600_000,
  });
  onTestFinished(() => engine.stop());
  engine.handle("notes.note", () => {});
  await engine.start();
  const slow = engine.reconcile("notes.note", { mode: "full", connection: "slow" });
  await clock.settle();
  void deliver("notes", [{ resource: "note" }], { connection: "slow" });
  await clock.settle();
  await clock.advance(100);
  const quick = deliver("notes", [{ resource: "note" }], { connection: "quick" });
  await clock.advance(5_000);
  expect(await quick).toMatchObject({ status: "accepted" });
  expect(lists).toBe(2);
  answers.open();
  await slow;
  await settled();
  expect(lists).toBe(3);
});
