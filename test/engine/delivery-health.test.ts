import { describe, expect, test } from "vitest";
import { recorded, temporaryDirectory, timedEngine } from "./notes.ts";
import { signedRequest, World } from "./world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const about = (objectId: string, id: string) => ({ resource: "note", objectId, id });

describe("status().deliveries", () => {
  test("should say when events came, whose signatures failed, and what only passes found", async () => {
    const { clock, deliver, engine, pass, world } = timedEngine();
    const receiver = engine.webhook("notes");
    await engine.start();
    await engine.reconcile("notes.note", { mode: "full" }); // the first finds what was there, and nothing that was missed
    world.put("told", "text");
    await deliver(about("told", "e1"));
    const deliveredAt = clock.now();
    await receiver.fetch(signedRequest([], "another secret"));
    await pass(MINUTE);
    world.put("missed", "text");
    await engine.reconcile("notes.note", { mode: "full" });
    expect((await engine.status()).deliveries).toEqual([
      {
        provider: "notes",
        connection: "default",
        lastEvent: { webhook: deliveredAt, queue: undefined, poll: undefined },
        eventsPerHour: { webhook: 1, queue: 0, poll: 0 },
        signatureFailures: 1,
        changes: { webhook: 1, queue: 0, poll: 0, reconcile: 1 },
        shares: { webhook: 0.5, queue: 0, poll: 0, reconcile: 0.5 },
        countedSince: expect.any(Number) as number,
        quietSince: undefined,
      },
    ]);
  });

  test("should not count a first pass, nor one that handles everything", async () => {
    const { engine, world, seen } = timedEngine();
    for (const id of ["a", "b", "c"]) world.put(id, "text");
    await engine.reconcile("notes.note", { mode: "full" });
    await engine.reconcile("notes.note", { mode: "full", handle: "all" });
    expect(seen).toHaveLength(6);
    expect((await engine.status()).deliveries[0]?.shares).toBeUndefined();
    world.put("a", "other"); // the control
    await engine.reconcile("notes.note", { mode: "full" });
    expect((await engine.status()).deliveries[0]?.shares).toMatchObject({ reconcile: 1 });
  });

  test("should know the last events after a restart, and in other processes, but not once they are forgotten", async () => {
    const path = `${temporaryDirectory()}/sync.db`;
    const first = timedEngine({ path });
    await first.deliver(about("n1", "e1"));
    await first.pass(MINUTE - 1);
    await first.deliver(about("n1", "e2"));
    const last = first.clock.now();
    const lastEvent = async (of: typeof first) => (await of.engine.status()).deliveries[0]?.lastEvent.webhook;
    const beside = timedEngine({ path });
    expect(await lastEvent(beside)).toBe(last - MINUTE + 1); // at most one write a minute …
    await first.engine.stop();
    expect(await lastEvent(beside)).toBe(last); // … and one at the end
    const second = timedEngine({ path });
    expect(await lastEvent(second)).toBe(last);
    await second.engine.forget("notes", "default");
    expect((await second.engine.status()).deliveries).toEqual([]);
  });
});

describe("webhooks.quiet", () => {
  test("should be told once, when passes find what no webhook told", async () => {
    const { clock, deliver, engine, pass, world } = timedEngine();
    const quiet = recorded(engine, "webhooks.quiet");
    await engine.start();
    await engine.reconcile("notes.note", { mode: "full" });
    await deliver(about("n1", "e1"));
    const lastEventAt = clock.now();
    const missing = async (id: string) => {
      world.put(id, "text");
      await pass(HOUR);
      await engine.reconcile("notes.note", { mode: "incremental" });
      await pass(0);
    };
    await missing("n2");
    await missing("n3");
    expect(quiet).toEqual([]);
    await missing("n4");
    await missing("n5");
    expect(quiet).toEqual([
      {
        provider: "notes",
        connection: "default",
        missed: 3,
        quietSince: lastEventAt,
        lastEventAt,
        signatureFailures: 0,
      },
    ]);
    expect((await engine.status()).deliveries[0]?.quietSince).toBe(lastEventAt);
    await deliver(about("n1", "e2"));
    expect((await engine.status()).deliveries[0]?.quietSince).toBeUndefined();
  });

  test("should not be told by a process that receives none itself while another does", async () => {
    const path = `${temporaryDirectory()}/sync.db`;
    const world = new World();
    const worker = timedEngine({ path, world });
    const receiver = timedEngine({ path, world, engine: { clock: worker.clock } });
    const quiet = recorded(worker.engine, "webhooks.quiet");
    world.put("known", "text");
    await worker.engine.start();
    await worker.engine.reconcile("notes.note", { mode: "full" });
    const missThree = async () => {
      for (const text of ["x", "y", "z"]) world.put(`${text}${world.notes.size}`, text);
      await worker.pass(2 * HOUR);
      await worker.engine.reconcile("notes.note", { mode: "full" });
      await worker.pass(0);
    };
    await worker.pass(2 * HOUR);
    await receiver.deliver(about("known", "e1")); // to the worker, which finds nothing new, it is no change
    await worker.pass(0);
    world.put("a", "1");
    world.put("b", "1");
    world.put("c", "1");
    await worker.engine.reconcile("notes.note", { mode: "full" });
    await worker.pass(0);
    expect(quiet).toEqual([]);
    await missThree(); // the control: now the receiver hears nothing either
    expect(quiet).toHaveLength(1);
  });
});
