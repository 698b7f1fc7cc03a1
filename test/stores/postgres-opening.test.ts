import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, expect, it, onTestFinished } from "vitest";
import { postgresStore, type PostgresStoreOptions } from "trueup/postgres";
import { describeWith } from "../services.ts";
import { openStore, Schemas } from "./postgres-fixture.ts";
import { freePort } from "./postgres-server.ts";
import { appendEntry, doneWith, environment, ROUTE, SCOPE } from "./sqlite-fixture.ts";
import { StoreProcess } from "./store-process.ts";
import { systemClock } from "../../src/core/clock.ts";

const opening = (options: PostgresStoreOptions) => postgresStore(options).open(environment(systemClock));

it("should refuse options that cannot be, without a word of the password", () => {
  const url = "postgres://user:hunter2@127.0.0.1/db";
  const wrong: unknown[] = [
    { schema: "sync" },
    { url, pool: {}, schema: "sync" },
    { url: "http://user:hunter2@127.0.0.1/", schema: "sync" },
    ...[
      "",
      "Sync",
      "a-b",
      "1a",
      'a"; DROP TABLE x',
      "pg_x",
      "information_schema",
      "x".repeat(64),
      undefined,
    ].map((schema) => ({ url, schema })),
    { url, schema: "sync", migrate: "never" },
    { url, schema: "sync", listen: "yes" },
  ];
  for (const options of wrong) {
    let thrown: unknown;
    try {
      postgresStore(options as PostgresStoreOptions);
    } catch (error) {
      thrown = error;
    }
    expect({ options, code: (thrown as { code?: unknown } | undefined)?.code }).toEqual({
      options,
      code: "OPTION_INVALID",
    });
    expect(String(thrown)).not.toContain("hunter2");
  }
  postgresStore({ url, schema: `_${"x".repeat(62)}` }); // control
});

it("should say that the server cannot be reached", async () => {
  const url = `postgres://user:hunter2@127.0.0.1:${await freePort()}/db`;
  await expect(opening({ url, schema: "sync" })).rejects.toMatchObject({
    code: "STORE_FAILED",
    message: expect.stringMatching(/^PostgreSQL, schema sync: .*cannot be reached(?!.*hunter2)/s) as string,
  });
});

it("should outlive a connection that the server ends in the same breath as it greets", async () => {
  const error = Buffer.from("SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0");
  const greeting = Buffer.from("5200000008000000005a0000000549", "hex"); // authenticated, and ready
  const header = Buffer.alloc(5, "E");
  header.writeInt32BE(error.length + 4, 1);
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.concat([greeting, header, error])));
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const url = `postgres://postgres@127.0.0.1:${(server.address() as AddressInfo).port}/db`;
  await expect(opening({ url, schema: "sync" })).rejects.toMatchObject({ code: "STORE_FAILED" });
});

describeWith("postgres")("opening a postgresStore", () => {
  const schemas = new Schemas("opening");
  const { url } = schemas;
  const withOptions = (options: string) => `${url}?options=${encodeURIComponent(options)}`;

  afterAll(() => schemas.end());

  it("should create its schema once, however many processes open it at once", async () => {
    const schema = schemas.name();
    const children = await Promise.all(
      Array.from({ length: 3 }, () => StoreProcess.start(JSON.stringify({ url, schema }))),
    );
    try {
      const here = Array.from({ length: 3 }, () => openStore({ pool: schemas.pool, schema }));
      await Promise.all([...children.map((child) => child.call("open")), ...here]);
      await Promise.all(children.map((child, n) => child.call("append", [`o${n}`])));
      await using store = await openStore({ pool: schemas.pool, schema });
      expect(await store.pending(systemClock.now() + 60_000)).toMatchObject({ due: 3 });
    } finally {
      await Promise.all(children.map((child) => child.kill()));
    }
    expect(await schemas.query(`SELECT version FROM ${schema}.migration`)).toEqual([{ version: 1 }]);
  });

  it("should refuse a schema that a newer trueup wrote", async () => {
    const schema = schemas.name();
    await (await openStore({ pool: schemas.pool, schema })).close();
    await schemas.query(`INSERT INTO ${schema}.migration (version) VALUES (99)`);
    for (const migrate of ["auto", "check"] as const) {
      await expect(opening({ url, schema, migrate })).rejects.toMatchObject({
        code: "STORE_VERSION",
        message: expect.stringContaining("version 99") as string,
      });
    }
    await schemas.query(`DELETE FROM ${schema}.migration WHERE version = 99`);
    await (await openStore({ pool: schemas.pool, schema })).close(); // control
  });

  it("should only look, and name what is missing, where it is told to check", async () => {
    const schema = schemas.name();
    await expect(opening({ url, schema, migrate: "check" })).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("migrations 1 are missing") as string,
    });
    expect(await schemas.query("SELECT FROM pg_namespace WHERE nspname = $1", [schema])).toEqual([]);
    await (await openStore({ pool: schemas.pool, schema })).close();
    await (await openStore({ pool: schemas.pool, schema, migrate: "check" })).close();
  });

  it("should say what is wrong with its user, its database, and its rights", async () => {
    const schema = schemas.name();
    const other = new URL(url);
    other.username = `nobody_${process.pid}`;
    other.password = "hunter2";
    const nobody = postgresStore({ url: other.href, schema }).open(environment(systemClock));
    await expect(nobody).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringMatching(/Check user and password(?!.*hunter2)/s) as string,
    });
    other.username = "postgres";
    other.pathname = "/there_is_none";
    await expect(opening({ url: other.href, schema })).rejects.toMatchObject({
      message: expect.stringContaining("Create the database") as string,
    });

    const role = `trueup_test_${process.pid}`;
    const theirs = new URL(url);
    theirs.username = role;
    await schemas.query(`CREATE ROLE ${role} LOGIN`);
    try {
      await expect(opening({ url: theirs.href, schema })).rejects.toMatchObject({
        code: "STORE_FAILED",
        message: expect.stringContaining("Grant the role") as string,
      });
      // What the README says is enough to work, where another role migrates.
      await (await openStore({ pool: schemas.pool, schema })).close();
      await schemas.query(`
        GRANT USAGE ON SCHEMA ${schema} TO ${role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${role};
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ${schema} TO ${role};
      `);
      await using store = await openStore({ url: theirs.href, schema, migrate: "check" });
      await store.append([appendEntry("a")]);
      const session = await store.work({ leaseMs: 10_000 });
      const claims = await session.claim({ ...ROUTE, limit: 1 });
      expect(await session.settle(claims.map(doneWith))).toEqual(["settled"]);
      expect(await store.countPresent(SCOPE)).toBe(1);
      await store.sweep();
      await session.release();
    } finally {
      await schemas.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it("should say that a server only reads, and take nothing for appended", async () => {
    const schema = schemas.name();
    const readOnly = withOptions("-c default_transaction_read_only=on");
    await expect(opening({ url: readOnly, schema })).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("primary") as string,
    });
    await (await openStore({ pool: schemas.pool, schema })).close();
    await using store = await openStore({ url: readOnly, schema });
    await expect(store.append([appendEntry("a")])).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("primary") as string,
    });
    expect(await store.lookup(SCOPE, ["a"])).toEqual([undefined]);
  });

  it("should refuse an isolation in which it would not see what others commit", async () => {
    const schema = schemas.name();
    const serializable = withOptions("-c default_transaction_isolation=serializable");
    await expect(opening({ url: serializable, schema })).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("read committed") as string,
    });
    await (await openStore({ pool: schemas.pool, schema })).close(); // control
  });

  it("should warn of a server that answers before a commit is on its disk", async () => {
    const schema = schemas.name();
    const warned: string[] = [];
    const logger = {
      ...environment(systemClock).logger,
      warn: (_: unknown, text: string) => warned.push(text),
    };
    for (const options of ["-c synchronous_commit=off", "-c synchronous_commit=on"]) {
      const store = postgresStore({ url: withOptions(options), schema });
      await store.open({ ...environment(systemClock), logger });
      await store.close();
    }
    expect(warned).toEqual([expect.stringContaining("before a commit is on its disk")]);
  });
});
