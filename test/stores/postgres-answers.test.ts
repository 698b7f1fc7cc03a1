import { afterAll, expect, it, onTestFinished } from "vitest";
import type { PgPool } from "trueup/postgres";
import { describeWith } from "../services.ts";
import { openStore, Schemas } from "./postgres-fixture.ts";
import { appendEntry, doneWith, ROUTE, SCOPE } from "./sqlite-fixture.ts";

describeWith("postgres")("a session of a postgresStore whose answers get lost", () => {
  const schemas = new Schemas("answers");

  afterAll(() => schemas.end());

  /** The server does what it is asked to; of the functions named, the next call does not hear so. */
  async function forgetful() {
    const losing = new Set<string>();
    const pool: PgPool = {
      on: schemas.pool.on.bind(schemas.pool),
      removeListener: schemas.pool.removeListener.bind(schemas.pool),
      connect: async () => {
        const client = await schemas.pool.connect();
        return {
          on: client.on.bind(client),
          removeListener: client.removeListener.bind(client),
          release: client.release.bind(client),
          query: (async (statement: string | { text: string }, values?: unknown[]) => {
            const result: unknown = await client.query(statement as string, values);
            const text = typeof statement === "string" ? statement : statement.text;
            const name = /\.(\w+)\(/.exec(text)?.[1] ?? "";
            if (losing.delete(name)) throw new Error("Connection terminated unexpectedly");
            return result;
          }) as never,
        };
      },
    };
    const schema = schemas.name();
    const store = await openStore({ pool, schema });
    onTestFinished(() => store.close());
    const session = await store.work({ leaseMs: 60_000 });
    const sessions = async () =>
      (await schemas.query(`SELECT n FROM ${schema}.session`)).map(({ n }) => Number(n));
    const claimed = async () => {
      const claims = await session.claim({ ...ROUTE, limit: 10 });
      return claims.map(({ ref }) => ref.id);
    };
    return { claimed, losing, schema, session, sessions, store };
  }

  it("should give back what it does not know that it leased, and nothing else", async () => {
    const { claimed, losing, schema, session, sessions, store } = await forgetful();
    await store.append([appendEntry("known")]);
    const [known] = await session.claim({ ...ROUTE, limit: 10 });
    await store.append([appendEntry("unknown")]);
    const before = await sessions();
    losing.add("claim");
    await expect(claimed()).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect(await store.pending(0), "it was leased").toMatchObject({ leased: 2 });

    expect(await claimed()).toEqual(["unknown"]);
    expect(await session.settle([doneWith(known!)])).toEqual(["settled"]);
    const late = `SELECT * FROM ${schema}.claim(NULL, $1, $2, $3, 10, '{}', 0, 0, 10, 0)`;
    await store.append([appendEntry("later")]);
    await expect(
      schemas.query(late, [before[0], ROUTE.provider, ROUTE.resource]),
      "the first claim, should it only come now",
    ).rejects.toMatchObject({ code: "TRU02" });
    expect(await claimed(), "control").toEqual(["later"]);
  });

  it("should give back a page's objects, and keep its checkpoint", async () => {
    const { claimed, losing, session, store } = await forgetful();
    const lock = await store.lock("pass", 60_000);
    const page = {
      scope: SCOPE,
      pass: "p",
      lock: lock!,
      mark: 0,
      seen: ["a"],
      differing: ["a"],
      lease: true,
    };
    losing.add("record_page");
    await expect(session.recordPage({ ...page, checkpoint: "at a" })).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    expect(await store.getCheckpoint("p")).toBe("at a");
    expect(await claimed()).toEqual(["a"]);
  });

  it("should live on, also where the answer to its renewal is lost, and end with nothing left behind", async () => {
    const { claimed, losing, session, sessions, store } = await forgetful();
    await store.append([appendEntry("a")]);
    losing.add("claim");
    await expect(claimed()).rejects.toMatchObject({ code: "STORE_FAILED" });
    losing.add("renew_session");
    await expect(session.heartbeat()).rejects.toMatchObject({ code: "STORE_FAILED" });
    losing.add("heartbeat");
    await expect(session.heartbeat()).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect(await session.heartbeat()).toBe(true);
    expect(await claimed()).toEqual(["a"]);
    expect(await sessions()).toHaveLength(1);
    losing.add("claim");
    await expect(claimed()).rejects.toMatchObject({ code: "STORE_FAILED" });
    await session.release();
    expect(await sessions()).toEqual([]);
    expect(await store.pending(0)).toMatchObject({ leased: 0 });
  });

  it("should find out that it was taken over", async () => {
    const { claimed, losing, schema, session } = await forgetful();
    losing.add("claim");
    await expect(claimed()).rejects.toMatchObject({ code: "STORE_FAILED" });
    await schemas.query(`UPDATE ${schema}.session SET lost = true`);
    expect(await session.heartbeat()).toBe(false);
    await expect(claimed()).rejects.toMatchObject({ code: "STORE_LOST" });
  });
});
