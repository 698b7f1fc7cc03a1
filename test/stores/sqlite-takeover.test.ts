import { expect, test } from "vitest";
import { TestClock } from "../../src/testing/test-clock.ts";
import { sqliteStore } from "../../src/stores/sqlite.ts";
import { environment, temporaryDirectory } from "./sqlite-fixture.ts";

const LEASE_MS = 1_000;

test("should be taken from a suspended owner although the wall clock was set back", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  const clock = new TestClock();
  const [owner, next] = [sqliteStore({ path }), sqliteStore({ path })];
  await owner.open(environment(clock));
  await next.open(environment(clock));
  const suspended = await owner.work({ leaseMs: LEASE_MS }); // and no heartbeat any more
  clock.setWallClock(clock.now() - 3_600_000);
  const taking = next.work({ leaseMs: LEASE_MS });
  taking.catch(() => {}); // until it is awaited below
  for (let passed = 0; passed <= LEASE_MS; passed += 50) await clock.advance(50);
  const session = await taking;
  expect([await suspended.heartbeat(), await session.heartbeat()]).toEqual([false, true]);
  await next.close();
  await owner.close();
});

test("should not be taken from an owner that gives signs of life, whatever the wall clock does", async () => {
  using directory = temporaryDirectory();
  const path = directory.file("sync.db");
  const clock = new TestClock();
  const [owner, next] = [sqliteStore({ path }), sqliteStore({ path })];
  await owner.open(environment(clock));
  await next.open(environment(clock));
  const session = await owner.work({ leaseMs: LEASE_MS });
  clock.setWallClock(clock.now() - 3_600_000);
  const taking = next.work({ leaseMs: LEASE_MS });
  taking.catch(() => {}); // until it is awaited below
  for (let passed = 0; passed <= LEASE_MS; passed += 50) {
    if (passed % 300 === 0) expect(await session.heartbeat()).toBe(true);
    await clock.advance(50);
  }
  await expect(taking).rejects.toMatchObject({ code: "STORE_IN_USE" });
  await next.close();
  await owner.close();
});
