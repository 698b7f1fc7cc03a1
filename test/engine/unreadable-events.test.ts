import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import { notesEngine, recorded, type NotesOptions } from "./notes.ts";

/** Two notes are dirty; what the store has of the first one's event is no JSON any more. */
async function withSpoiltEvent(body: unknown, handler?: NotesOptions["handler"]) {
  const made = notesEngine(handler === undefined ? {} : { handler });
  made.world.put("n1", "one");
  made.world.put("n2", "two");
  for (const objectId of ["n1", "n2"])
    await made.deliver({ id: `of ${objectId}`, resource: "note", objectId, data: body });
  const outside = new DatabaseSync(made.path);
  const spoilt = outside.prepare(
    "UPDATE trueup_object SET first_event = '{ spoilt' WHERE id = 'n1' AND first_event NOTNULL",
  );
  const inTable = outside.prepare(
    "UPDATE trueup_event SET body = '{ spoilt' WHERE seq = (SELECT head FROM trueup_object WHERE id = 'n1')",
  );
  expect(Number(spoilt.run().changes) + Number(inTable.run().changes)).toBe(1);
  outside.close();
  const errors = recorded(made.engine, "error");
  await made.engine.start();
  await made.engine.drain();
  return { ...made, errors };
}

describe.each([
  ["in the object's row", "short"],
  ["in the table of events", "long ".repeat(200)],
])("an event that cannot be read any more, %s", (_, body) => {
  it("should be no matter to a handler that does not look at events (I2)", async () => {
    const { copy, engine, errors } = await withSpoiltEvent(body);
    expect([...copy.keys()].toSorted()).toEqual(["n1", "n2"]);
    expect((await engine.deadLetters.list()).items).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("should make a dead letter where the handler needs it, and hold up no other object (I2)", async () => {
    const { copy, engine, errors } = await withSpoiltEvent(body, ({ events }) => {
      if (events[0]?.data === undefined) throw new Error("there is an event, with data");
    });
    expect([...copy.keys()]).toEqual(["n2"]);
    const { items } = await engine.deadLetters.list();
    expect(items.map(({ code, ref }) => [ref.id, code])).toEqual([["n1", "STORE_FAILED"]]);
    expect(items[0]?.message).toBe("the events of notes.note/n1 cannot be read");
    expect(() => items[0]?.events).toThrow("cannot be read");
    expect(await engine.deadLetters.discard()).toBe(1);
    expect(errors).toEqual([]);
  });
});
