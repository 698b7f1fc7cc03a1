import { describe, expect, test } from "vitest";
import { Pauses } from "../../src/core/pauses.ts";
import type { Pause } from "../../src/core/store.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { recording, rejection, storeWith } from "./fakes.ts";

/** A store's pauses, as several processes share them. */
function setup() {
  const clock = new TestClock(0);
  const rows = new Map<string, Pause>();
  const written: (number | null)[] = [];
  const failure: { error?: Error } = {};
  const keyOf = (provider: string, connection: string) => `${provider}/${connection}`;
  const store = storeWith({
    pause: async (pause) => {
      if (failure.error !== undefined) throw failure.error;
      written.push(pause.until);
      rows.set(keyOf(pause.provider, pause.connection), pause);
    },
    resume: async (provider, connection) => void rows.delete(keyOf(provider, connection)),
    pauses: async () => [...rows.values()].filter(({ until }) => until === null || until > clock.now()),
  });
  const processOf = () => {
    const { hooks, told } = recording();
    return { pauses: new Pauses(store, clock, hooks), told };
  };
  return { clock, failure, processOf, store, written, ...processOf() };
}

describe("pausing a connection", () => {
  test("should be written to the store and told", async () => {
    const { pauses, told, written } = setup();
    await pauses.pause("crm", "acme", 60_000, "rate-limit");
    expect(written).toEqual([60_000]);
    expect(told["connection.paused"]).toEqual([
      { provider: "crm", connection: "acme", until: 60_000, reason: "rate-limit" },
    ]);
  });

  test("should happen once for thirty requests that are refused together", async () => {
    const { pauses, told, written } = setup();
    const refused = Array.from({ length: 30 }, () => pauses.pause("crm", "acme", 60_000, "rate-limit"));
    await Promise.all(refused);
    expect(written).toEqual([60_000]);
    expect(told["connection.paused"]).toHaveLength(1);
  });

  test("should be made longer, never shorter", async () => {
    const { pauses, written } = setup();
    await pauses.pause("crm", "acme", 60_000, "rate-limit");
    await pauses.pause("crm", "acme", 30_000, "rate-limit");
    await pauses.pause("crm", "acme", 90_000, "rate-limit");
    await pauses.pause("crm", "acme", null, "by hand");
    await pauses.pause("crm", "acme", 120_000, "rate-limit");
    expect(written).toEqual([60_000, 90_000, null]);
  });

  test("should not concern another connection", async () => {
    const { pauses, written } = setup();
    await pauses.pause("crm", "acme", 60_000, "rate-limit");
    await pauses.pause("crm", "other", 30_000, "rate-limit");
    await pauses.pause("erp", "acme", 30_000, "rate-limit");
    expect(written).toEqual([60_000, 30_000, 30_000]);
  });

  test("should happen again when the earlier pause is over", async () => {
    const { clock, pauses, written } = setup();
    await pauses.pause("crm", "acme", 1_000, "rate-limit");
    await clock.advance(1_000);
    await pauses.pause("crm", "acme", 1_000, "rate-limit");
    expect(written).toEqual([1_000, 2_000]);
  });

  test("should happen again after another process resumed it", async () => {
    const { pauses, processOf, written } = setup();
    const other = processOf();
    await pauses.pause("crm", "acme", null, "by hand");
    await other.pauses.resume("crm", "acme");
    await pauses.pause("crm", "acme", 60_000, "rate-limit");
    expect(written).toEqual([null, 60_000]);
    await other.pauses.resume("crm", "acme");
    await pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED");
    expect(written).toEqual([null, 60_000, 60_000]);
  });

  test("should happen again after the store failed to keep it", async () => {
    const { failure, pauses, told, written } = setup();
    failure.error = new Error("the disk is full");
    const failed = [pauses.pause("crm", "acme", 1_000, "r"), pauses.pause("crm", "acme", 1_000, "r")];
    for (const call of failed) expect((await rejection(call)).message).toBe("the disk is full");
    expect(told["connection.paused"]).toEqual([]);
    delete failure.error;
    await pauses.pause("crm", "acme", 1_000, "r");
    expect(written).toEqual([1_000]);
  });
});

describe("refused credentials", () => {
  /** Refused at each probe; the pauses that followed, in seconds. */
  async function refusedAtEachProbe(times: number) {
    const world = setup();
    const { clock, pauses, written } = world;
    const seconds: number[] = [];
    for (let i = 0; i < times; i += 1) {
      await pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED");
      const ms = (written.at(-1) as number) - clock.now();
      seconds.push(ms / 1_000);
      await clock.advance(ms);
    }
    return { ...world, seconds };
  }

  test("should pause for longer each time, up to an hour", async () => {
    const { seconds } = await refusedAtEachProbe(8);
    expect(seconds).toEqual([60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
  });

  test("should count once for requests that were refused together", async () => {
    const { clock, pauses, written } = setup();
    await Promise.all([1, 2, 3].map(() => pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED")));
    await clock.advance(5_000);
    await pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED"); // was under way all the time
    expect(written).toEqual([60_000]);
  });

  test.each(["an answer", "a resume by hand"])("should be forgotten after %s", async (what) => {
    const { pauses, clock, written } = await refusedAtEachProbe(3);
    if (what === "an answer") pauses.answered("crm", "acme");
    else await pauses.resume("crm", "acme");
    await pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED");
    expect(written.at(-1)).toBe(clock.now() + 60_000);
  });

  test("should not be forgotten after an answer to another connection", async () => {
    const { pauses, clock, written } = await refusedAtEachProbe(3);
    pauses.answered("crm", "other");
    await pauses.credentialsRefused("crm", "acme", "UNAUTHORIZED");
    expect(written.at(-1)).toBe(clock.now() + 480_000);
  });
});

describe("resuming", () => {
  test("should end the pause in the store, and be told", async () => {
    const { pauses, store, told } = setup();
    await pauses.pause("crm", "acme", null, "by hand");
    expect(await store.pauses()).toHaveLength(1);
    await pauses.resume("crm", "acme");
    expect(await store.pauses()).toEqual([]);
    expect(told["connection.resumed"]).toEqual([{ provider: "crm", connection: "acme" }]);
  });
});
