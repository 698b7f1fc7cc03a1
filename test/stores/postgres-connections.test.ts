import { once } from "node:events";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pool } from "pg";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import type { PgTx } from "trueup/postgres";
import { TestClock } from "trueup/testing";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { Claim, WorkSession } from "../../src/core/store.ts";
import { describeWith } from "../services.ts";
import { openStore, Schemas } from "./postgres-fixture.ts";
import { freePort, PostgresServer } from "./postgres-server.ts";
import { appendEntry, doneWith, ROUTE, SCOPE } from "./sqlite-fixture.ts";

const TIMEOUT_MS = 10_000;

async function claimOnly(session: WorkSession<PgTx>): Promise<Claim> {
  const claims = await session.claim({ ...ROUTE, limit: 10 });
  expect(claims).toHaveLength(1);
  return claims[0]!;
}

/** What lies between a client and its server: answers can be held up on it, as if the client stood still. */
class Link implements AsyncDisposable {
  readonly #proxy: Server;
  readonly #url: URL;
  #held: (() => void)[] | undefined;

  private constructor(proxy: Server, url: URL) {
    this.#proxy = proxy;
    this.#url = url;
  }

  static async to(url: string): Promise<Link> {
    const { hostname, port } = new URL(url);
    const link: Link = new Link(
      createServer((client) => {
        const server = connect(Number(port), hostname);
        client.pipe(server).on("data", (bytes) => link.#answer(() => client.write(bytes)));
        for (const [one, another] of [
          [client, server],
          [server, client],
        ] as const) {
          one.on("error", () => {});
          one.on("close", () => another.destroy());
        }
      }),
      new URL(url),
    );
    link.#proxy.listen(0, "127.0.0.1");
    await once(link.#proxy, "listening");
    return link;
  }

  get url(): string {
    const url = new URL(this.#url);
    url.hostname = "127.0.0.1";
    url.port = String((this.#proxy.address() as AddressInfo).port);
    return url.href;
  }

  holdAnswers(): void {
    this.#held ??= [];
  }

  letThrough(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const pass of held) pass();
  }

  #answer(pass: () => void): void {
    if (this.#held === undefined) pass();
    else this.#held.push(pass);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.letThrough();
    return new Promise((resolve) => this.#proxy.close(() => resolve()));
  }
}

describeWith("postgres")("commits of a postgresStore", () => {
  const schemas = new Schemas("commits");

  afterAll(() => schemas.end());

  async function prepared(clock: Clock = systemClock) {
    const schema = schemas.name();
    const store = await openStore({ pool: schemas.pool, schema }, clock);
    await schemas.query(`CREATE TABLE ${schema}.line (text text PRIMARY KEY)`);
    await store.append([appendEntry("a")]);
    const session = await store.work({ leaseMs: 60_000 });
    const claim = await claimOnly(session);
    const insert = `INSERT INTO ${schema}.line VALUES ($1)`;
    const lines = async () =>
      (await schemas.query(`SELECT text FROM ${schema}.line`)).map(({ text }) => text);
    onTestFinished(() => store.close());
    return { schema, store, session, claim, insert, lines, commit: session.commit!.bind(session) };
  }

  it("should try again, not as an attempt, what was in another transaction's way", async () => {
    const { claim, commit, insert, lines } = await prepared();
    for (const code of ["40001", "40P01"]) {
      const failed = commit(
        [doneWith(claim)],
        async (tx) => {
          await tx.query(insert, ["a"]);
          await tx.query(`DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '${code}'; END $$`);
        },
        { timeoutMs: TIMEOUT_MS },
      );
      await expect(failed).rejects.toMatchObject({ code: "RETRY_LATER", cause: { code } });
    }
    const other = commit([doneWith(claim)], async (tx) => void (await tx.query("SELECT 1 / 0")), {
      timeoutMs: TIMEOUT_MS,
    });
    await expect(other, "control: the user's own errors stay theirs").rejects.toMatchObject({
      code: "22012",
    });
    expect(await lines()).toEqual([]);
  });

  it("should leave a deadlock to one of the two, and neither in the connection", async () => {
    const { schema, store, session, commit, insert, lines } = await prepared();
    await store.append([appendEntry("b")]);
    const second = await claimOnly(session);
    await schemas.query(`INSERT INTO ${schema}.line VALUES ('x'), ('y')`);
    const update = `UPDATE ${schema}.line SET text = text WHERE text = $1`;
    const [one, two] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const cross = (
      id: string,
      first: string,
      then: string,
      mine: PromiseWithResolvers<void>,
      theirs: PromiseWithResolvers<void>,
      claim: Claim,
    ) =>
      commit(
        [doneWith(claim)],
        async (tx) => {
          await tx.query(update, [first]);
          mine.resolve();
          await theirs.promise;
          await tx.query(update, [then]);
          await tx.query(insert, [id]);
        },
        { timeoutMs: TIMEOUT_MS },
      );
    await store.append([appendEntry("c")]);
    const third = await claimOnly(session);
    const results = await Promise.allSettled([
      cross("b", "x", "y", one, two, second),
      cross("c", "y", "x", two, one, third),
    ]);
    const failed = results.filter((result) => result.status === "rejected");
    expect(failed).toMatchObject([{ reason: { code: "RETRY_LATER", cause: { code: "40P01" } } }]);
    expect(await lines()).toHaveLength(3);
  });

  it("should let nobody who appends wait for a callback", async () => {
    const { store, claim, commit } = await prepared();
    const outcomes = await commit(
      [doneWith(claim)],
      async () =>
        void (await store.append([appendEntry("a"), { ...appendEntry("a"), dedupeKey: undefined }])),
      { timeoutMs: TIMEOUT_MS },
    );
    expect(outcomes).toEqual(["dirty"]);
  });

  it("should write nothing for a lease that was lost while the callback ran", async () => {
    const { session, claim, commit, insert, lines } = await prepared();
    const lost = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        await session.release();
      },
      { timeoutMs: TIMEOUT_MS },
    );
    await expect(lost).rejects.toMatchObject({ code: "LEASE_LOST" });
    expect(await lines()).toEqual([]);
  });

  it("should end the connection of a callback that takes too long, whatever it waits for", async () => {
    const clock = new TestClock();
    const { claim, commit, insert, lines } = await prepared(clock);
    const begun = Promise.withResolvers<{ tx: PgTx; pid: number }>();
    const slow = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        const { rows } = await tx.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
        begun.resolve({ tx, pid: rows[0]!.pid });
        await tx.query("SELECT pg_sleep(3600)");
      },
      { timeoutMs: TIMEOUT_MS },
    );
    slow.catch(() => {});
    const { tx, pid } = await begun.promise;
    await clock.advance(TIMEOUT_MS + 1);
    await expect(slow).rejects.toMatchObject({ code: "COMMIT_TIMEOUT" });
    await expect(tx.query("SELECT 1")).rejects.toMatchObject({ code: "TX_REVOKED" });
    // The server finds out when it next writes to the connection; nothing is left to wait for then but the sleep.
    await schemas.query("SELECT pg_terminate_backend($1)", [pid]);
    expect(await lines()).toEqual([]);
    expect(await commit([doneWith(claim)], () => {}, { timeoutMs: TIMEOUT_MS }), "control").toEqual([
      "settled",
    ]);
  });

  it("should refuse statements that would end or leave the transaction", async () => {
    const { claim, commit, insert, lines } = await prepared();
    const tried: Record<string, unknown> = {};
    const statements = [
      "COMMIT",
      "  /* x */ rollback",
      `${"/* x */".repeat(100)} rollback`,
      "BEGIN",
      "-- y\nEND",
      "ABORT",
      "START TRANSACTION",
      ";COMMIT",
      "SELECT 1; COMMIT",
      "SELECT 1 AS a$$; COMMIT; SELECT 1 AS b$$",
      "SELECT 'a;b', \"c;d\", $$e;f$$, $x$;$$;$x$; /* ; */ -- ;\n ;ROLLBACK",
      "SELECT E'\\';'; COMMIT; SELECT '",
    ];
    await commit(
      [doneWith(claim)],
      async (tx) => {
        for (const text of statements)
          tried[text] = await tx.query({ text }).then(
            () => "ran",
            (error: unknown) => (error as { code: unknown }).code,
          );
        await tx.query(`${"/* x */".repeat(100)} (SELECT 1)`); // and look at what begins with no word in no long time
        await tx.query("SELECT ';COMMIT', $$; COMMIT$$; SELECT 1 AS commit /* ; COMMIT */; -- ; COMMIT");
        await tx.query("SAVEPOINT mine");
        await tx.query(insert, ["undone"]);
        await tx.query("ROLLBACK TO SAVEPOINT mine");
        await tx.query(insert, ["kept"]);
      },
      { timeoutMs: TIMEOUT_MS },
    );
    expect(tried).toEqual(Object.fromEntries(statements.map((text) => [text, "OPTION_INVALID"])));
    expect(await lines()).toEqual(["kept"]);
  });

  it("should say that it took too long, whatever the driver says, where the server ended it meanwhile", async () => {
    const clock = new TestClock();
    let stoodStillMs = 0;
    const stopped: Clock = {
      now: clock.now,
      monotonic: () => clock.monotonic() + stoodStillMs,
      setTimer: () => () => {}, // one that is not heard before the connection's end is
    };
    const { claim, commit, insert, lines } = await prepared(stopped);
    const ended: unknown[] = [];
    const late = commit(
      [doneWith(claim)],
      async (tx) => {
        const { rows } = await tx.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
        await tx.query(insert, ["a"]);
        stoodStillMs = TIMEOUT_MS + 1;
        await schemas.query("SELECT pg_terminate_backend($1)", [rows[0]!.pid]);
        while (ended.length < 2) await tx.query(insert, ["b"]).catch((error: unknown) => ended.push(error));
        throw ended[1];
      },
      { timeoutMs: TIMEOUT_MS },
    );
    await expect(late).rejects.toMatchObject({ code: "COMMIT_TIMEOUT", cause: { code: "57P01" } });
    expect(ended).toMatchObject([{ code: "STORE_FAILED" }, { code: "STORE_FAILED" }]);
    expect(await lines()).toEqual([]);
    stoodStillMs = 0;
    expect(await commit([doneWith(claim)], () => {}, { timeoutMs: TIMEOUT_MS })).toEqual(["settled"]);
  });

  it("should let go of the store's rows and lanes though the process stands still once its callback has ended (I5)", async () => {
    const { schema, store, insert, lines } = await prepared();
    await using link = await Link.to(schemas.url);
    await using still = await openStore({ url: link.url, schema });
    const session = await still.work({ leaseMs: 60_000 });
    await store.append([appendEntry("b")]);
    const claim = await claimOnly(session);
    // So that settling changes a lane, for which others would wait.
    await store.append([{ ...appendEntry("b"), dedupeKey: undefined }]);
    const committing = session.commit!(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["b"]);
        link.holdAnswers();
      },
      { timeoutMs: TIMEOUT_MS },
    );
    while ((await lines()).length === 0);
    const other = await store.work({ leaseMs: 60_000 });
    expect(await other.claim({ ...ROUTE, limit: 10 })).toMatchObject([{ ref: { id: "b" } }]);
    link.letThrough();
    expect(await committing).toEqual(["dirty"]);
  });

  it.each(["on", "off"])(
    "should keep versions as they are, whatever they are made of, with standard_conforming_strings %s",
    async (setting) => {
      const { store, claim, commit } = await prepared();
      const version = `n:'; DROP TABLE "work"; -- \\' \\\\ E'' $1 $$ {a,"b"} NULL \u{1f4a9} \r\n\u2028 %_`;
      const { index, ...done } = doneWith(claim);
      await commit(
        [{ ...done, index: { ...index!, version } }],
        async (tx) => void (await tx.query(`SET LOCAL standard_conforming_strings = ${setting}`)),
        { timeoutMs: TIMEOUT_MS },
      );
      expect((await store.lookup(SCOPE, ["a"]))[0]?.index?.version).toBe(version);
    },
  );

  it("should not wait for another's rows for longer than its time, though the process stands still", async () => {
    const clock = new TestClock();
    const { schema, claim, commit, insert, lines } = await prepared(clock);
    await schemas.query(`INSERT INTO ${schema}.line VALUES ('x')`);
    const other = await schemas.pool.connect();
    onTestFinished(() => other.release(true));
    await other.query(`BEGIN; UPDATE ${schema}.line SET text = text`);
    const timeoutMs = 1;
    let stoodStillMs = 0;
    Object.assign(clock, { monotonic: () => stoodStillMs });
    const waiting = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        await tx.query(`UPDATE ${schema}.line SET text = text WHERE text = 'x'`).catch((error: unknown) => {
          stoodStillMs = timeoutMs + 1;
          throw error;
        });
      },
      { timeoutMs },
    );
    await expect(waiting).rejects.toMatchObject({ code: "COMMIT_TIMEOUT", cause: { code: "57014" } });
    expect(await lines()).toEqual(["x"]);
  });

  it.each([
    ["none", undefined, "11s"],
    ["a longer one", "1min", "11s"],
    ["a shorter one", "7s", "7s"],
  ])("should limit the user's statements, where they have %s of their own", async (_, theirs, limit) => {
    const { schema } = await prepared();
    const options = theirs === undefined ? undefined : `-c statement_timeout=${theirs}`;
    const pool = new Pool({ connectionString: schemas.url, options });
    onTestFinished(() => pool.end());
    await using store = await openStore({ pool, schema });
    const session = await store.work({ leaseMs: 60_000 });
    await store.append([appendEntry("b")]);
    const seen: unknown[] = [];
    await session.commit!(
      [doneWith(await claimOnly(session))],
      async (tx) => void seen.push(...(await tx.query("SHOW statement_timeout")).rows),
      { timeoutMs: 10_000 },
    );
    expect(seen).toEqual([{ statement_timeout: limit }]);
    const after = (await pool.query("SHOW statement_timeout")).rows as unknown[];
    expect(after, "and those alone").toEqual([{ statement_timeout: theirs ?? "0" }]);
  });

  it("should not say that it was rolled back where the connection is lost amid COMMIT", async () => {
    const clock = new TestClock();
    let stoodStillMs = 0;
    const { now, setTimer } = clock;
    const stopped: Clock = { now, setTimer, monotonic: () => clock.monotonic() + stoodStillMs };
    const { schema, claim, commit, insert } = await prepared(stopped);
    await schemas.query(`
      CREATE FUNCTION ${schema}.dies() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(60); RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON ${schema}.line DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION ${schema}.dies()`);
    const lost = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        setImmediate(() => (stoodStillMs = TIMEOUT_MS + 1)); // once the callback has ended in time
      },
      { timeoutMs: TIMEOUT_MS },
    );
    await expect(lost).rejects.toMatchObject({ code: "STORE_FAILED", cause: { code: "57P01" } });
  });

  it("should reject where a statement ended the transaction that was not seen to do so", async () => {
    const { claim, commit, insert } = await prepared();
    const ended = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        await tx.query("SET LOCAL standard_conforming_strings = off"); // a quote ends elsewhere then
        await tx.query("SELECT 'a\\'';COMMIT;--'");
      },
      { timeoutMs: TIMEOUT_MS },
    );
    await expect(ended).rejects.toMatchObject({ code: "STORE_FAILED" });
  });

  it("should reject, and work on, when its connection is cut in the middle of a statement", async () => {
    const { store, claim, commit, insert, lines } = await prepared();
    const cut = commit(
      [doneWith(claim)],
      async (tx) => {
        await tx.query(insert, ["a"]);
        await tx.query("SELECT pg_terminate_backend(pg_backend_pid())");
      },
      { timeoutMs: TIMEOUT_MS },
    );
    await expect(cut).rejects.toMatchObject({ code: "STORE_FAILED", cause: { code: "57P01" } });
    expect(await lines()).toEqual([]);
    expect((await store.lookup(SCOPE, ["a"]))[0]?.pending).toBe(true);
    expect(await commit([doneWith(claim)], () => {}, { timeoutMs: TIMEOUT_MS })).toEqual(["settled"]);
  });
});

describeWith("postgres")("connections of a postgresStore", () => {
  const schemas = new Schemas("connections");

  afterAll(() => schemas.end());

  it("should say that all connections of a pool are in use, and go on when they are free", async () => {
    const schema = schemas.name();
    const pool = new Pool({ connectionString: schemas.url, max: 1, connectionTimeoutMillis: 100 });
    onTestFinished(() => pool.end());
    await using store = await openStore({ pool, schema });
    const taken = await pool.connect();
    await expect(store.append([appendEntry("a")])).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("connections of the pool are in use") as string,
    });
    taken.release();
    expect(await store.append([appendEntry("a")])).toMatchObject([{ status: "accepted" }]);
  });

  it("should outlive the loss of all its idle connections, and hear of work again", async () => {
    const schema = schemas.name();
    const url = `${schemas.url}?application_name=${schema}`;
    await using store = await openStore({ url, schema });
    let told = Promise.withResolvers<void>();
    store.subscribe!(() => told.resolve());
    await told.promise; // it listens
    await store.append([appendEntry("a")]);
    await schemas.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
      [schema],
    );
    told = Promise.withResolvers<void>();
    await told.promise; // it listens again, and tells of what may have come meanwhile
    expect((await store.lookup(SCOPE, ["a"]))[0]?.pending).toBe(true);
  });

  it("should leave a pool that was given open, and without listeners of its own", async () => {
    const schema = schemas.name();
    const pool = new Pool({ connectionString: schemas.url, max: 2 });
    onTestFinished(() => pool.end());
    await (await openStore({ pool, schema })).close();
    expect(pool.listenerCount("error")).toBe(0);
    expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  });

  it("should lose the server during an append without taking it for done, and find it again", async () => {
    await using server = await PostgresServer.start();
    await using store = await openStore({ url: server.url, schema: "sync" });
    await store.append([appendEntry("before")]);
    const under = Promise.allSettled(
      Array.from({ length: 40 }, (_, n) => store.append([appendEntry(`during${n}`)])),
    );
    await server.stop("immediate");
    const during = await under;
    await expect(store.append([appendEntry("after")])).rejects.toMatchObject({ code: "STORE_FAILED" });
    await server.start();
    const ids = during.flatMap((result, n) => (result.status === "fulfilled" ? [`during${n}`] : []));
    const found = await store.lookup(SCOPE, ["before", "after", ...ids]);
    expect(found.map((object) => object?.pending)).toEqual([true, undefined, ...ids.map(() => true)]);
    for (const result of during) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "STORE_FAILED" });
    }
    expect(await store.append([appendEntry("after")])).toMatchObject([{ status: "accepted" }]);
  }, 60_000);
});

const POOLER = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].find((path) =>
  existsSync(path),
);

/** PgBouncer in transaction mode before the server; with two connections to it, so that transactions change theirs. */
async function pooler(url: string): Promise<string> {
  const { hostname, port, username, pathname } = new URL(url);
  const directory = mkdtempSync(join(tmpdir(), "trueup-pgbouncer-"));
  const own = await freePort();
  writeFileSync(join(directory, "users"), `"${username}" ""\n`, { mode: 0o644 });
  writeFileSync(
    join(directory, "ini"),
    `[databases]
* = host=${hostname} port=${port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = trust
auth_file = ${join(directory, "users")}
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits,options
logfile =
`,
  );
  const child = spawn(
    POOLER!,
    [...(process.getuid?.() === 0 ? ["-u", "nobody"] : []), join(directory, "ini")],
    {
      stdio: "ignore",
    },
  );
  onTestFinished(async () => {
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
    rmSync(directory, { recursive: true });
  });
  while (!(await answers(own)));
  return `postgres://${username}@127.0.0.1:${own}${pathname}`;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

describeWith("postgres")("a postgresStore behind PgBouncer in transaction mode", () => {
  const schemas = new Schemas("pooler");

  afterAll(() => schemas.end());

  // oxlint-disable-next-line vitest/valid-title, vitest/valid-describe-callback -- it takes a condition, not a title
  const withPooler = describe.skipIf(POOLER === undefined && process.env["CI"] === undefined);

  withPooler("found by itself", () => {
    it("should work, prepare nothing, and listen to nothing", async () => {
      const schema = schemas.name();
      await using store = await openStore({ url: await pooler(schemas.url), schema });
      await using direct = await openStore({ pool: schemas.pool, schema });
      const ids = Array.from({ length: 200 }, (_, n) => `o${n}`);
      await Promise.all(ids.map((id) => store.append([appendEntry(id)])));
      await schemas.query(`CREATE TABLE ${schema}.line (text text PRIMARY KEY)`);
      const session = await store.work({ leaseMs: 60_000 });
      const claims = (
        await Promise.all(Array.from({ length: 8 }, () => session.claim({ ...ROUTE, limit: 25 })))
      ).flat();
      expect(new Set(claims.map(({ ref }) => ref.id)).size).toBe(200);
      await Promise.all(
        claims.map((claim) =>
          session.commit!(
            [doneWith(claim)],
            async (tx) => void (await tx.query(`INSERT INTO ${schema}.line VALUES ($1)`, [claim.ref.id])),
            { timeoutMs: TIMEOUT_MS },
          ),
        ),
      );
      expect(await schemas.query(`SELECT count(*)::int AS count FROM ${schema}.line`)).toEqual([
        { count: 200 },
      ]);
      expect(await direct.countPresent(SCOPE)).toBe(200);
      await session.release();
    });
  });
});
