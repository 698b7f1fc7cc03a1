import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it, onTestFinished } from "vitest";
import { SyncEngine } from "trueup";
import { postgresStore, type PostgresStoreOptions } from "trueup/postgres";
import { describeWith } from "../services.ts";
import { Schemas } from "../stores/postgres-fixture.ts";
import { PostgresServer } from "../stores/postgres-server.ts";
import { silentLogger } from "../stores/sqlite-fixture.ts";
import { serve } from "./processes.ts";
import { notesProvider, signedRequest, World } from "./world.ts";

const script = fileURLToPath(new URL("fixtures/postgres-effects-process.ts", import.meta.url));

/** A worker in a process of its own; resolves once it has told of so many effects, and kills it then. */
async function workAndDie(args: readonly string[], effects: number): Promise<void> {
  const child = fork(script, args, { execArgv: ["--disable-warning=ExperimentalWarning"] });
  const exited = once(child, "exit");
  let told = 0;
  await new Promise<void>((resolve, reject) => {
    child.once("exit", () => reject(new Error("the process ended by itself")));
    child.on("message", () => {
      told += 1;
      if (told === effects) resolve();
    });
  });
  child.kill("SIGKILL");
  await exited;
}

describeWith("postgres")("engines on a postgresStore", () => {
  const schemas = new Schemas("engine");

  afterAll(() => schemas.end());

  function engineOn(
    store: PostgresStoreOptions,
    world: World,
    options: { pollMs?: number; leaseMs?: number } = {},
  ) {
    const engine = new SyncEngine({
      providers: [notesProvider(world)],
      store: postgresStore(store),
      logger: silentLogger,
      ...options,
    });
    onTestFinished(() => engine.stop());
    return engine;
  }

  it("should apply each effect exactly once, however often its process is killed", async () => {
    const schema = schemas.name();
    const world = new World();
    const ids = Array.from({ length: 300 }, (_, n) => `n${n}`);
    for (const id of ids) world.put(id, "text");
    const engine = engineOn({ pool: schemas.pool, schema }, world);
    engine.handle("notes.note", () => {});
    await engine.trigger("notes.note", ids);
    await schemas.query(`CREATE TABLE ${schema}.effect (id text PRIMARY KEY, times int NOT NULL)`);
    const args = [schemas.url, schema, await serve(world)];
    // Two at a time; each dies in the middle of other fetches, handlers and commits.
    for (const effects of [1, 3, 10, 25]) {
      await Promise.all([workAndDie(args, effects), workAndDie(args, effects * 2)]);
    }
    const [before] = await schemas.query(`SELECT count(*)::int AS count FROM ${schema}.effect`);
    expect(before?.["count"], "control: there is something left").toBeLessThan(ids.length);

    const last = fork(script, args, { execArgv: ["--disable-warning=ExperimentalWarning"] });
    onTestFinished(() => void last.kill("SIGKILL"));
    while (!(await engine.drain({ timeoutMs: 1_000 })).idle);
    expect(
      await schemas.query(`SELECT count(*)::int AS count, max(times) AS times FROM ${schema}.effect`),
    ).toEqual([{ count: ids.length, times: 1 }]);
  }, 120_000);

  it("should be woken by what another process appends", async () => {
    const schema = schemas.name();
    const world = new World();
    world.put("a", "text");
    world.put("b", "text");
    const worker = engineOn({ pool: schemas.pool, schema }, world, { pollMs: 3_600_000 });
    let handled = Promise.withResolvers<string>();
    worker.handle("notes.note", (change) => handled.resolve(change.ref.id));
    await worker.start();
    const other = engineOn({ pool: schemas.pool, schema }, world);
    for (const id of ["a", "b"]) {
      handled = Promise.withResolvers();
      await other.trigger("notes.note", [id]);
      expect(await handled.promise).toBe(id);
    }
  });

  it("should find what another process appends by polling, where it is not to listen", async () => {
    const schema = schemas.name();
    const world = new World();
    world.put("a", "text");
    const store = { pool: schemas.pool, schema, listen: false };
    const worker = engineOn(store, world, { pollMs: 20 });
    const handled = Promise.withResolvers<string>();
    worker.handle("notes.note", (change) => handled.resolve(change.ref.id));
    await worker.start();
    await engineOn(store, world).trigger("notes.note", ["a"]);
    expect(await handled.promise).toBe("a");
  });

  it("should go on by itself when the server is killed and comes back under load", async () => {
    await using server = await PostgresServer.start();
    const world = new World();
    const ids = Array.from({ length: 400 }, (_, n) => `n${n}`);
    for (const id of ids) world.put(id, "text");
    const engine = engineOn({ url: server.url, schema: "sync" }, world, { leaseMs: 2_000, pollMs: 50 });
    const failures: string[] = [];
    engine.on("error", ({ error }) => void failures.push((error as { code?: string }).code ?? error.message));
    const seen = new Set<string>();
    const some = Promise.withResolvers<void>();
    engine.handle(
      "notes.note",
      (change) => {
        seen.add(change.ref.id);
        if (seen.size === 50) some.resolve();
      },
      { concurrency: 4 },
    );
    await engine.trigger("notes.note", ids);
    await engine.start();
    await some.promise;
    await server.stop("immediate");
    await expect(engine.trigger("notes.note", ["n0"])).rejects.toMatchObject({ code: "STORE_FAILED" });
    await server.start();
    const drained = async () => await engine.drain({ timeoutMs: 500 }).catch(() => ({ idle: false }));
    while (!(await drained()).idle);
    expect([...seen].toSorted()).toEqual(ids.toSorted());
    expect(new Set(failures).has("STORE_FAILED"), "it said so").toBe(true);
    await engine.stop(); // before its server
  }, 60_000);

  it("should answer 503 and take nothing for received while the server is gone", async () => {
    await using server = await PostgresServer.start();
    const world = new World();
    world.put("a", "text");
    const engine = engineOn({ url: server.url, schema: "sync" }, world);
    engine.handle("notes.note", () => {});
    const send = () =>
      engine.webhook("notes").fetch(signedRequest([{ id: "e1", resource: "note", objectId: "a" }]));
    expect((await send()).status).toBe(200);
    await server.stop("fast");
    const refused = await send();
    expect([refused.status, refused.headers.has("retry-after")]).toEqual([503, true]);
    await server.start();
    expect((await send()).status).toBe(200);
    await engine.stop();
  }, 60_000);
});
