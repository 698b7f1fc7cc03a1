import { DatabaseSync } from "node:sqlite";
import { describe, expect, it, onTestFinished } from "vitest";
import { SyncEngine, type BatchHandler, type BatchHandlerOptions, type Change } from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import {
  counting,
  failureOf,
  next,
  notesEngine,
  recorded,
  silent,
  temporaryDirectory,
  type NotesOptions,
} from "./notes.ts";
import { EffectsProcess, serve } from "./processes.ts";
import { gate, notesProvider, signedRequest, World, type Note } from "./world.ts";

type NoteChange = Change<Note, SqliteTx>;

/** Reads the user's tables as another program would. */
function rowsOf(path: string, sql: string): unknown[] {
  const db = new DatabaseSync(path);
  try {
    return db
      .prepare(sql)
      .all()
      .map((row) => ({ ...row }));
  } finally {
    db.close();
  }
}

function createTables(path: string): void {
  const db = new DatabaseSync(path);
  db.exec(`
    CREATE TABLE effect (id TEXT, rev INTEGER, times INTEGER, PRIMARY KEY (id, rev));
    CREATE TABLE line (text TEXT);
    CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)`);
  db.close();
}

function writingNotes(handler: (change: NoteChange) => unknown, options: NotesOptions = {}) {
  const path = `${temporaryDirectory()}/sync.db`;
  createTables(path);
  const made = notesEngine({ path, handler, ...options });
  const lines = () =>
    (rowsOf(path, "SELECT text FROM line ORDER BY rowid") as { text: string }[]).map(({ text }) => text);
  const event = (objectId: string) => ({ resource: "note", objectId });
  return { ...made, path, lines, event };
}

const insert = (tx: SqliteTx, text: string) => tx.run("INSERT INTO line VALUES (?)", text);

describe("change.commit", () => {
  it("writes the user's rows and settles the work in one transaction", async () => {
    const inside = gate();
    const goOn = gate();
    const { deliver, engine, event, lines, path, world } = writingNotes(async (change) => {
      const result = await change.commit(async (tx) => {
        insert(tx, change.object?.text ?? "");
        inside.open();
        await goOn.opened;
        return tx.get<{ n: number }>("SELECT count(*) AS n FROM line")?.n;
      });
      expect(result).toBe(1);
    });
    const settled = () => rowsOf(path, "SELECT count(*) AS n FROM trueup_object WHERE state IS NOT NULL");
    world.put("n1", "one");
    await engine.start();
    await deliver(event("n1"));
    await inside.opened;
    expect([lines(), settled()]).toEqual([[], [{ n: 0 }]]);
    goOn.open();
    expect((await engine.drain()).idle).toBe(true);
    expect([lines(), settled()]).toEqual([["one"], [{ n: 1 }]]);
  });

  it("undoes everything when its callback throws, and the work is tried again", async () => {
    const reason = new Error("a constraint");
    const caught: unknown[] = [];
    const { deliver, engine, event, lines, seen, world } = writingNotes(async (change) => {
      try {
        await change.commit((tx) => {
          insert(tx, `attempt ${change.attempt}`);
          if (change.attempt === 1) throw reason;
        });
      } catch (error) {
        caught.push(error);
        throw error;
      }
    });
    world.put("n1", "one");
    await engine.start();
    await deliver(event("n1"));
    await engine.drain();
    expect(caught).toEqual([reason]);
    expect(caught[0]).toBe(reason);
    expect(seen).toHaveLength(2);
    expect(lines()).toEqual(["attempt 2"]);
  });

  it("that takes too long is rolled back, and holds up nobody else", async () => {
    let revoked: SqliteTx | undefined;
    const { copy, deliver, engine, event, lines, world } = writingNotes(
      (change) =>
        change.commit(async (tx) => {
          insert(tx, `${change.ref.id} ${change.attempt}`);
          if (change.ref.id !== "n1" || change.attempt > 1) return;
          revoked = tx;
          await new Promise(() => {});
        }),
      { engine: { commitTimeoutMs: 50 } },
    );
    const failed = recorded(engine, "change.failed");
    world.put("n1", "stuck");
    world.put("n2", "well");
    await engine.start();
    await deliver(event("n1"), event("n2"));
    expect((await engine.drain()).idle).toBe(true);
    expect(failed).toMatchObject([{ ref: { id: "n1" }, attempt: 1, error: { code: "COMMIT_TIMEOUT" } }]);
    expect(lines().toSorted()).toEqual(["n1 2", "n2 1"]);
    expect(copy.size).toBe(2);
    expect(() => insert(revoked!, "late")).toThrow(expect.objectContaining({ code: "TX_REVOKED" }));
    expect(lines()).toHaveLength(2);
  });

  it("works once: a second one is COMMIT_TWICE and writes nothing", async () => {
    const { deliver, engine, event, lines, seen, world } = writingNotes(async (change) => {
      await change.commit((tx) => insert(tx, "first"));
      expect(await failureOf(change.commit((tx) => insert(tx, "second")))).toMatchObject({
        code: "COMMIT_TWICE",
      });
    });
    const errors = recorded(engine, "error");
    world.put("n1", "one");
    await engine.start();
    await deliver(event("n1"));
    expect((await engine.drain()).counts.dead).toBe(0);
    expect(seen).toHaveLength(1);
    expect(lines()).toEqual(["first"]);
    expect(errors).toEqual([]);
  });

  it("revokes its handle when the callback ends", async () => {
    const { deliver, engine, event, lines, world } = writingNotes(async (change) => {
      const kept = await change.commit((tx) => tx);
      for (const use of [() => insert(kept, "late"), () => kept.get("SELECT 1"), () => kept.all("SELECT 1")])
        expect(use).toThrow(expect.objectContaining({ code: "TX_REVOKED" }));
    });
    const errors = recorded(engine, "error");
    world.put("n1", "one");
    await engine.start();
    await deliver(event("n1"));
    await engine.drain();
    expect(errors).toEqual([]);
    expect(lines()).toEqual([]);
  });

  it("writes nothing once the lease is lost (I3)", async () => {
    const outcomes: Error[] = [];
    let called = false;
    const { deliver, engine, event, lines, world } = writingNotes(async (change) => {
      await engine.forget("notes", "default");
      outcomes.push(
        await failureOf(
          change.commit((tx) => {
            called = true;
            insert(tx, "stale");
          }),
        ),
      );
      throw outcomes[0]!;
    });
    const lost = next(engine, "change.lost");
    world.put("n1", "one");
    await engine.start();
    await deliver(event("n1"));
    expect(await lost).toMatchObject({ ref: { id: "n1" } });
    expect(outcomes).toMatchObject([{ code: "LEASE_LOST" }]);
    expect(called).toBe(false);
    expect(lines()).toEqual([]);
  });

  it("that nobody awaits is still part of the work", async () => {
    const { deliver, engine, event, lines, seen, world } = writingNotes((change) => {
      void change.commit(async (tx) => {
        await Promise.resolve();
        insert(tx, change.ref.id);
      });
    });
    for (let i = 0; i < 20; i += 1) world.put(`n${i}`, "text");
    await engine.start();
    await deliver(...[...world.notes.keys()].map(event));
    expect(await engine.drain()).toMatchObject({ idle: true, counts: { dead: 0 } });
    expect(seen).toHaveLength(20);
    expect(lines().toSorted()).toEqual([...world.notes.keys()].toSorted());
  });

  it("that nobody awaits is not overtaken by the settling of its own work", async () => {
    const inside = gate();
    const returned = gate();
    const { deliver, engine, event, lines, seen, world } = writingNotes(async (change) => {
      if (change.ref.id === "n1") {
        await inside.opened; // from now on, all that is written waits for the commit of n2
        void change.commit((tx) => insert(tx, "n1"));
        returned.open();
        return;
      }
      await change.commit(async (tx) => {
        inside.open();
        await returned.opened;
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
        insert(tx, "n2");
      });
    });
    const lost = counting(engine, "change.lost");
    world.put("n1", "text");
    world.put("n2", "text");
    await engine.start();
    await deliver(event("n1"), event("n2"));
    expect((await engine.drain()).idle).toBe(true);
    expect(lines().toSorted()).toEqual(["n1", "n2"]);
    expect(seen).toHaveLength(2);
    expect(lost()).toBe(0);
  });

  it("that nobody awaits fails the work when it fails", async () => {
    const unhandled = gate();
    const listeners = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection").once("unhandledRejection", () => unhandled.open());
    onTestFinished(() => {
      process.removeAllListeners("unhandledRejection");
      for (const listener of listeners) process.on("unhandledRejection", listener);
    });
    const { deliver, engine, event, lines, seen, world } = writingNotes((change) => {
      void change.commit((tx) => {
        insert(tx, `attempt ${change.attempt}`);
        if (change.attempt === 1) throw new Error("a constraint");
      });
    });
    world.put("n1", "text");
    await engine.start();
    await deliver(event("n1"));
    await engine.drain();
    await unhandled.opened; // as Node does it with every promise that nobody awaits
    expect(seen).toHaveLength(2);
    expect(lines()).toEqual(["attempt 2"]);
  });

  it("lets callbacks run one at a time, while events are still taken in", async () => {
    const inside = gate();
    const goOn = gate();
    let open = 0;
    let mostOpen = 0;
    const { deliver, engine, event, path, world } = writingNotes((change) =>
      change.commit(async (tx) => {
        open += 1;
        mostOpen = Math.max(mostOpen, open);
        const { n } = tx.get<{ n: number }>("SELECT n FROM counter")!;
        inside.open();
        await goOn.opened;
        tx.run("UPDATE counter SET n = ?", n + 1);
        open -= 1;
      }),
    );
    for (let i = 0; i < 50; i += 1) world.put(`n${i}`, "text");
    await engine.start();
    await deliver(event("n0"));
    await inside.opened;
    const taken = deliver(...[...world.notes.keys()].slice(1).map(event));
    goOn.open();
    expect((await taken).status).toBe(200);
    expect(await engine.drain()).toMatchObject({ idle: true, counts: { dead: 0 } });
    expect(mostOpen).toBe(1);
    expect(rowsOf(path, "SELECT n FROM counter")).toEqual([{ n: 50 }]);
  });

  it("refuses what would wait for itself: NESTED_COMMIT", async () => {
    const codes: Record<string, string | undefined> = {};
    const { deliver, engine, event, lines, world } = writingNotes(async (change) => {
      if (change.ref.id !== "n1") return;
      const calls: Record<string, () => Promise<unknown>> = {
        commit: () => change.commit(() => {}),
        trigger: () => engine.trigger("notes.note", ["n2"]),
        reconcile: () => engine.reconcile("notes.note", { mode: "full" }),
        verify: () => engine.verify("notes.note"),
        adopt: () => engine.adopt("notes.note", [{ id: "n2" }]),
        drain: () => engine.drain(),
        tick: () => engine.tick(),
        start: () => engine.start(),
        stop: () => engine.stop(),
        forget: () => engine.forget("notes", "other"),
        pause: () => engine.pause({ provider: "notes", connection: "other" }),
        resume: () => engine.resume({ provider: "notes", connection: "other" }),
        status: () => engine.status(),
        list: () => engine.deadLetters.list(),
        retry: () => engine.deadLetters.retry(),
        discard: () => engine.deadLetters.discard(),
      };
      await change.commit(async (tx) => {
        for (const [name, call] of Object.entries(calls)) codes[name] = (await failureOf(call())).code;
        insert(tx, "all refused");
      });
      await engine.trigger("notes.note", ["n2"]); // the control: outside it is welcome
    });
    world.put("n1", "one");
    world.put("n2", "two");
    await engine.start();
    await deliver(event("n1"));
    expect((await engine.drain()).idle).toBe(true);
    expect(new Set(Object.values(codes))).toEqual(new Set(["NESTED_COMMIT"]));
    expect(lines()).toEqual(["all refused"]);
  });

  it("is NOT_TRANSACTIONAL on a store without transactions, and the handler goes on without", async () => {
    const world = new World();
    const engine = new SyncEngine({ providers: [notesProvider(world)], logger: silent });
    onTestFinished(() => engine.stop());
    const codes: (string | undefined)[] = [];
    engine.handle("notes.note", async (change) => {
      codes.push((await failureOf((change as unknown as NoteChange).commit(() => {}))).code);
    });
    world.put("n1", "one");
    await engine.start();
    const response = await engine
      .webhook("notes")
      .fetch(signedRequest([{ resource: "note", objectId: "n1" }]));
    expect(response.status).toBe(200);
    expect(codes).toEqual(["NOT_TRANSACTIONAL"]);
  });
});

describe("batch handlers", () => {
  function batchNotes(handler: BatchHandler<Note, SqliteTx>, handling: Partial<BatchHandlerOptions> = {}) {
    const path = `${temporaryDirectory()}/sync.db`;
    createTables(path);
    const world = new World();
    const engine = new SyncEngine({
      providers: [
        notesProvider(
          world,
          {},
          { webhook: { connection: (delivery) => delivery.json[0].data?.tenant ?? "a" } },
        ),
      ],
      store: sqliteStore({ path }),
      connections: { get: (_provider, id) => ({ id, credentials: {} }), list: () => ["a", "b"] },
      logger: silent,
      retry: { attempts: 3, minDelayMs: 1, maxDelayMs: 2 },
    });
    onTestFinished(() => engine.stop({ timeoutMs: 100 }));
    const sizes: number[] = [];
    engine.handleBatch(
      "notes.note",
      (changes, batch) => {
        sizes.push(changes.length);
        return handler(changes, batch);
      },
      { size: 10, ...handling },
    );
    const receiver = engine.webhook("notes");
    const deliver = (tenant: string, ...ids: string[]) =>
      receiver.fetch(
        signedRequest(ids.map((objectId) => ({ resource: "note", objectId, data: { tenant } }))),
      );
    const lines = () =>
      (rowsOf(path, "SELECT text FROM line ORDER BY text") as { text: string }[]).map(({ text }) => text);
    for (const id of ["n1", "n2", "n3"]) world.put(id, id);
    return { deliver, engine, lines, sizes, world };
  }

  it("commit for all their changes at once", async () => {
    const { deliver, engine, lines, sizes } = batchNotes((changes, batch) =>
      batch.commit((tx, live) => {
        expect(live).toEqual(changes);
        for (const change of live) insert(tx, change.ref.id);
      }),
    );
    await deliver("a", "n1", "n2", "n3");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(sizes).toEqual([3]);
    expect(lines()).toEqual(["n1", "n2", "n3"]);
  });

  it("commit for the changes only whose lease still holds (I3)", async () => {
    const { deliver, engine, lines, sizes } = batchNotes(async (changes, batch) => {
      expect(changes).toHaveLength(3);
      await engine.forget("notes", "b");
      await batch.commit((tx, live) => {
        for (const change of live) insert(tx, `${change.ref.connection} ${change.ref.id}`);
      });
    });
    const lost = recorded(engine, "change.lost");
    await deliver("a", "n1", "n2");
    await deliver("b", "n3");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(sizes).toEqual([3]);
    expect(lines()).toEqual(["a n1", "a n2"]);
    expect(lost).toMatchObject([{ ref: { connection: "b", id: "n3" } }]);
  });

  it("that throw after their commit are tried again for nobody, not even for whose lease was lost (I3)", async () => {
    const { deliver, engine, lines, sizes } = batchNotes(async (_changes, batch) => {
      await engine.forget("notes", "b");
      await batch.commit((tx, live) => {
        for (const change of live) insert(tx, `${change.ref.connection} ${change.ref.id}`);
      });
      throw new Error("the mail was not sent");
    });
    const errors = recorded(engine, "error");
    const lost = recorded(engine, "change.lost");
    await deliver("a", "n1", "n2");
    await deliver("b", "n3");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(sizes).toEqual([3]);
    expect(lines()).toEqual(["a n1", "a n2"]);
    expect(lost).toMatchObject([{ ref: { id: "n3" } }]);
    expect(errors.map(({ error }) => error.message)).toEqual([
      "the mail was not sent",
      "the mail was not sent",
    ]);
  });

  it("commit by one change's own commit for that one only, and for each once (I2, I3)", async () => {
    const { deliver, engine, lines, sizes } = batchNotes(async ([change]) =>
      change!.commit((tx) => insert(tx, change!.ref.id)),
    );
    const lost = recorded(engine, "change.lost");
    const failed = recorded(engine, "change.failed");
    await deliver("a", "n1", "n2", "n3");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(lines()).toEqual(["n1", "n2", "n3"]);
    expect(sizes).toEqual([3, 1, 1]);
    expect([lost, failed]).toEqual([[], []]);
  });

  it("fail one change by name, and the others go on", async () => {
    let failed = 0;
    const { deliver, engine, lines, sizes } = batchNotes(async (changes, batch) => {
      const bad = changes.find(({ ref }) => ref.id === "n2");
      if (bad !== undefined) {
        failed += 1;
        batch.fail(bad, new Error("bad"));
      }
      if (changes.length > Number(bad !== undefined)) {
        await batch.commit((tx, live) => {
          for (const change of live) insert(tx, change.ref.id);
        });
        expect(() =>
          batch.fail(
            changes.find((change) => change !== bad)!,
            new Error("late"),
          ),
        ).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
      }
    });
    const errors = recorded(engine, "error");
    await deliver("a", "n1", "n2", "n3");
    await engine.start();
    await engine.drain();
    expect(lines()).toEqual(["n1", "n3"]);
    expect(failed).toBe(3);
    expect(sizes).toEqual([3, 1, 1]);
    expect(errors).toEqual([]);
    expect((await engine.deadLetters.list()).items).toMatchObject([
      { ref: { id: "n2" }, message: "bad", attempts: 3 },
    ]);
  });

  it("that throw are tried singly, so that one bad change fails alone", async () => {
    const { deliver, engine, lines, sizes } = batchNotes((changes, batch) =>
      batch.commit((tx, live) => {
        for (const change of live) {
          insert(tx, `${change.ref.id} of ${changes.length}`);
          if (change.ref.id === "n2") throw new Error("bad");
        }
      }),
    );
    const failed = recorded(engine, "change.failed");
    await deliver("a", "n1", "n2", "n3");
    await engine.start();
    await engine.drain();
    expect(sizes).toEqual([3, 1, 1, 1, 1, 1]);
    expect(lines()).toEqual(["n1 of 1", "n3 of 1"]);
    expect(failed.every(({ ref }) => ref.id === "n2")).toBe(true);
    expect((await engine.deadLetters.list()).items).toMatchObject([{ ref: { id: "n2" }, attempts: 3 }]);
  });

  it("that take too long are tried singly, and can do nothing more themselves (I3)", async () => {
    const late = gate();
    const outcome = Promise.withResolvers<Error>();
    const { deliver, engine, lines, sizes } = batchNotes(
      async (changes, batch) => {
        const write = () =>
          batch.commit((tx, live) => {
            for (const change of live) insert(tx, `${change.ref.id} of ${changes.length}`);
          });
        if (changes.length === 1) {
          late.open();
          outcome.promise.then(
            () => {},
            () => {},
          );
          await outcome.promise;
          return write();
        }
        await late.opened; // the first single run is under way, its lease in force
        expect(batch.signal.aborted).toBe(true);
        outcome.resolve(await failureOf(write()));
      },
      { timeoutMs: 200 },
    );
    await deliver("a", "n1", "n2", "n3");
    await engine.start();
    expect((await engine.drain()).idle).toBe(true);
    expect(await outcome.promise).toMatchObject({ code: "LEASE_LOST" });
    expect(sizes).toEqual([3, 1, 1, 1]);
    expect(lines()).toEqual(["n1 of 1", "n2 of 1", "n3 of 1"]);
  });
});

describe("kill -9 at any moment", () => {
  async function storm(path: string, count: number) {
    const { deliver, engine, world } = notesEngine({ path });
    createTables(path);
    const url = await serve(world);
    const change = async (round: number) => {
      for (let i = 0; i < count; i += 1) world.put(`n${i}`, `state ${round}`);
      const ids = [...world.notes.keys()];
      await Promise.all(
        ids.map((objectId) => deliver({ id: `${objectId}-${round}`, resource: "note", objectId })),
      );
    };
    return { change, engine, url, world };
  }

  it(
    "leaves exactly one effect of each change that was committed (I2, I3, I5)",
    { timeout: 30_000 },
    async () => {
      const path = `${temporaryDirectory()}/sync.db`;
      const { change, engine, url, world } = await storm(path, 400);
      const expected: { id: string; rev: number; times: number }[] = [];
      for (let round = 0; round < 2; round += 1) {
        await change(round);
        expected.push(...[...world.notes.values()].map(({ id, rev }) => ({ id, rev, times: 1 })));
        for (let kills = 0; kills < 3; kills += 1) {
          const worker = new EffectsProcess(path, url, "commit");
          await worker.toldOf(1 + Math.floor(Math.random() * 60));
          await worker.kill();
        }
        const worker = new EffectsProcess(path, url, "commit");
        await worker.toldOf(1);
        expect(await engine.drain({ timeoutMs: 20_000 })).toEqual({
          idle: true,
          counts: { dirty: 0, due: 0, later: 0, leased: 0, dead: 0 },
        });
        await worker.kill();
      }
      const byRev = expected.toSorted((a, b) => a.rev - b.rev);
      expect(rowsOf(path, "SELECT id, rev, times FROM effect ORDER BY rev")).toEqual(byRev);
    },
  );

  it("leaves effects twice that were not committed (the control)", { timeout: 30_000 }, async () => {
    const path = `${temporaryDirectory()}/sync.db`;
    createTables(`${path}-beside`);
    const { change, engine, url } = await storm(path, 50);
    await change(0);
    const first = new EffectsProcess(path, url, "hold");
    await first.toldOf(5);
    await first.kill();
    const second = new EffectsProcess(path, url, "beside");
    await second.toldOf(50);
    expect((await engine.drain({ timeoutMs: 20_000 })).idle).toBe(true);
    const [{ n }] = rowsOf(`${path}-beside`, "SELECT count(*) AS n FROM effect WHERE times > 1") as [
      { n: number },
    ];
    expect(n).toBeGreaterThanOrEqual(5);
  });
});
