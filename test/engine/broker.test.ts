import { describe, expect, test } from "vitest";
import type { Outcome, Source } from "trueup";
import { next, notesEngine } from "./notes.ts";
import { gate } from "./world.ts";

describe("a message of several events (I2)", () => {
  test("should lose none of them to the id that they share, and all when it comes again", async () => {
    const outcomes = Promise.withResolvers<Outcome[]>();
    const message = {
      provider: "notes",
      connection: "default",
      origin: "queue",
      deliveryId: "message 1",
      receivedAt: 0,
      events: [1, 2, 3].map((nth) => ({ resource: "note", objectId: "n1", type: `change ${nth}` })),
    } as const;
    const source: Source = {
      name: "broker",
      run: async (sink, signal) => {
        outcomes.resolve([...(await sink([message])), ...(await sink([message]))]);
        await new Promise<void>((resolve) =>
          signal.addEventListener("abort", () => resolve(), { once: true }),
        );
      },
    };
    const { engine } = notesEngine({ engine: { sources: [source] } });
    await engine.start({ work: false });
    expect(await outcomes.promise).toMatchObject([
      { status: "accepted", accepted: 3, duplicates: 0 },
      { status: "duplicate", accepted: 0, duplicates: 3 },
    ]);
  });
});

describe("a broker whose ack fails (I8)", () => {
  test("should undo nothing: its message is handled, and a duplicate when it comes again", async () => {
    const outcomes: Outcome[] = [];
    const again = gate();
    let runs = 0;
    const source: Source = {
      name: "broker",
      run: async (sink, signal) => {
        runs += 1;
        const [outcome] = await sink([
          {
            provider: "notes",
            connection: "default",
            origin: "queue",
            deliveryId: "message 1",
            receivedAt: 0,
            events: [{ resource: "note", objectId: "n1" }],
          },
        ]);
        outcomes.push(outcome!);
        if (runs === 2) again.open();
        if (runs === 1) throw new Error("the ack was refused: another consumer has the message");
        await new Promise<void>((resolve) =>
          signal.addEventListener("abort", () => resolve(), { once: true }),
        );
      },
    };
    const { copy, engine, seen, world } = notesEngine({ engine: { sources: [source], random: () => 0 } });
    world.put("n1", "hello");
    const handled = next(engine, "change.handled");
    const failed = next(engine, "source.failed");
    await engine.start();
    expect((await failed).error.message).toMatch("the ack was refused");
    await Promise.all([handled, again.opened]);
    expect(outcomes.map(({ status }) => status)).toEqual(["accepted", "duplicate"]);
    expect(copy).toEqual(world.notes);
    expect(await engine.drain()).toMatchObject({ idle: true });
    expect(seen).toHaveLength(1);
  });
});
