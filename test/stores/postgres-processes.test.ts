import { afterAll, expect, it } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { describeWith } from "../services.ts";
import { openStore, Schemas } from "./postgres-fixture.ts";
import { appendEntry, doneWith, ROUTE, SCOPE } from "./sqlite-fixture.ts";
import { StoreProcess } from "./store-process.ts";

describeWith("postgres")("several processes on a postgresStore", () => {
  const schemas = new Schemas("processes");
  const { url } = schemas;

  afterAll(() => schemas.end());

  it("should keep every append that was answered when the process is killed", async () => {
    const schema = schemas.name();
    await using child = await StoreProcess.start(JSON.stringify({ url, schema }));
    await child.call("open");
    child.begin("appendForever");
    await child.toldOf(300);
    await child.kill();
    await using store = await openStore({ pool: schemas.pool, schema });
    const found = await store.lookup(SCOPE, child.told);
    expect(found.filter((object) => object?.pending !== true)).toEqual([]);
    const again = await store.append(child.told.map((id) => appendEntry(id)));
    expect(again.every(({ status }) => status === "duplicate")).toBe(true);
  });

  it("should lose no object, and settle none twice, when workers are killed amid claims and settlements", async () => {
    const schema = schemas.name();
    await using store = await openStore({ pool: schemas.pool, schema });
    const ids = Array.from({ length: 3_000 }, (_, n) => `o${n}`);
    await store.append(ids.map((id) => appendEntry(id)));
    await using first = await StoreProcess.start(JSON.stringify({ url, schema }));
    await using second = await StoreProcess.start(JSON.stringify({ url, schema }));
    for (const child of [first, second]) {
      await child.call("open");
      await child.call("work", { leaseMs: 2_000, beat: true });
      child.begin("workForever", 20);
    }
    await Promise.all([first.toldOf(200), second.toldOf(200)]);
    await Promise.all([first.kill(), second.kill()]);
    const told = [...first.told, ...second.told];
    expect(new Set(told).size, "no object was given to both").toBe(told.length);
    const settled = await store.lookup(SCOPE, told);
    expect(settled.every((object) => object?.index?.state === "present")).toBe(true);

    const session = await store.work({ leaseMs: 60_000 });
    while ((await store.countPresent(SCOPE)) < ids.length) {
      const claims = await session.claim({ ...ROUTE, limit: 500 }); // what the dead held comes when their leases are over
      await session.settle(claims.map(doneWith));
    }
    expect(await store.pending(systemClock.now())).toEqual({ due: 0, leased: 0, later: 0, dead: 0 });
    await session.release();
  });

  it("should take the work of a process that is suspended, which finds out when it wakes", async () => {
    const schema = schemas.name();
    await using child = await StoreProcess.start(JSON.stringify({ url, schema }));
    await child.call("open");
    await child.call("append", ["a"]);
    await child.call("work", { leaseMs: 300, beat: true });
    await child.call("claim", 1);
    child.signal("SIGSTOP");
    await using store = await openStore({ pool: schemas.pool, schema });
    const session = await store.work({ leaseMs: 60_000 });
    let claims = await session.claim({ ...ROUTE, limit: 1 });
    while (claims.length === 0) claims = await session.claim({ ...ROUTE, limit: 1 });
    expect(claims).toMatchObject([{ attempt: 2, begun: true, ref: { id: "a" } }]);
    child.signal("SIGCONT");
    expect(await child.call("settle")).toEqual(["lost"]);
    await expect(child.call("claim", 1)).rejects.toMatchObject({ code: "STORE_LOST" });
    expect(await child.call("heartbeat")).toBe(false);
    expect(await session.settle(claims.map(doneWith))).toEqual(["settled"]);
    await session.release();
  });
});
