import { expect, onTestFinished, test } from "vitest";
import { keyvStore, type Store } from "trueup";
import { testEngine } from "trueup/testing";
import { gate, notesProvider, World } from "./world.ts";

/** A store that counts how often it is asked what is due next. */
function counting(store: Store): { readonly store: Store; readonly asked: () => number } {
  let asked = 0;
  const counted = new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (name === "nextDue") asked += 1;
        return Reflect.apply(member, target, args) as unknown;
      };
    },
  });
  return { store: counted, asked: () => asked };
}

test("while every fetch slot is taken, the store is not asked for work again and again", async () => {
  const world = new World();
  world.put("n1", "one");
  world.put("n2", "two");
  const answers = gate();
  world.before = () => answers.opened;
  const { asked, store } = counting(keyvStore());
  const { clock, engine, settled } = testEngine({ providers: [notesProvider(world)], store, concurrency: 1 });
  onTestFinished(() => engine.stop());
  const handled: string[] = [];
  engine.handle("notes.note", (change) => void handled.push(change.ref.id));
  await engine.start();
  await engine.trigger("notes.note", ["n1", "n2"]);
  await clock.settle();
  expect(world.calls.length).toBe(1); // the other is due, and has no slot
  const before = asked();
  await clock.advance(500); // half of what an idle worker waits
  expect(asked() - before).toBeLessThanOrEqual(1);
  answers.open();
  await settled();
  expect(handled).toEqual(["n1", "n2"]);
});

test("a slot that a pass gives back is used at once", async () => {
  const world = new World();
  world.put("n1", "one");
  const answers = gate();
  world.before = (call) => (call.kind === "fetch" && call.ids[0] === "n1" ? answers.opened : undefined);
  const { clock, engine } = testEngine({
    providers: [
      notesProvider(world, {
        listItems: "summary",
        list: async () => ({ items: [...world.notes.values()].map(({ id, rev }) => ({ id, version: rev })) }),
      }),
    ],
    concurrency: 1,
    pollMs: 60_000,
  });
  onTestFinished(() => engine.stop());
  const handled: string[] = [];
  engine.handle("notes.note", (change) => void handled.push(change.ref.id));
  await engine.start();
  const pass = engine.reconcile("notes.note", { mode: "full" });
  await clock.settle();
  world.put("n2", "two");
  await engine.trigger("notes.note", ["n2"]);
  await clock.settle();
  expect(handled).toEqual([]); // the pass's fetch has the only slot
  const from = clock.monotonic();
  answers.open();
  await pass;
  await clock.settle();
  await clock.settle();
  await clock.advance(50);
  expect(handled).toEqual(["n1", "n2"]);
  expect(clock.monotonic() - from).toBeLessThan(60_000);
});
