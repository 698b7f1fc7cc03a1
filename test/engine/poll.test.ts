import { describe, expect, test } from "vitest";
import {
  defineProvider,
  HttpError,
  pollSource,
  RateLimitError,
  type Source,
  SyncEngine,
  TrueupError,
} from "trueup";
import { gate } from "../core/fakes.ts";
import { failureOf } from "./notes.ts";
import { about, pollingEngine, until } from "./poll-harness.ts";

const MINUTE = 60_000;

describe("a poller", () => {
  test("should hand over what the feed tells, and go on behind it", async () => {
    const pages = [
      { events: [about("a", "e1"), about("b", "e2")], next: "2" },
      { events: [], next: "2" },
      { events: [about("c", "e3")], next: "3" },
    ];
    const { asked, clock, engine, fetched, named } = pollingEngine(
      (_, count) => pages[count - 1] ?? { events: [] },
    );
    await engine.start();
    await clock.advance(2 * MINUTE);
    expect(fetched).toEqual(["a", "b", "c"]);
    expect(asked.slice(0, 4).map(({ cursor }) => cursor)).toEqual([undefined, "2", "2", "3"]);
    expect(named("change.handled").map(({ origin }) => origin)).toEqual(["poll", "poll", "poll"]);
    expect(named("delivery")[0]).toMatchObject({ origin: "poll", status: "accepted", accepted: 2 });
  });

  test("should catch up without waiting while there are more pages", async () => {
    const last = 7;
    const { asked, engine, fetched } = pollingEngine(({ cursor }) => {
      const page = Number(cursor ?? 0) + 1;
      return page > last ? { events: [] } : { events: [about(`t${page}`)], next: String(page) };
    });
    await engine.start();
    await until(() => asked.length > last);
    expect(fetched).toHaveLength(last);
    expect(asked.map(({ at }) => at)).toEqual(Array.from({ length: last + 1 }, () => 0));
  });

  test("should believe `more` either way", async () => {
    const { asked, clock, engine } = pollingEngine((_, count) => ({
      events: count === 1 ? [] : [about("a")],
      next: String(count),
      more: count === 1,
    }));
    await engine.start();
    await clock.advance(0);
    expect(asked.map(({ cursor }) => cursor)).toEqual([undefined, "1"]);
  });

  test("should wait after a failure that says that something has stopped, as after any other", async () => {
    const { asked, clock, engine, named } = pollingEngine((_, count) => {
      if (count > 50) throw new Error("polled in a hot loop");
      throw new TrueupError("STOPPED", "another engine has stopped");
    });
    await engine.start();
    await clock.advance(0);
    expect(asked).toHaveLength(1);
    expect(named("poll.failed")).toMatchObject([{ error: { code: "STOPPED" } }]);
    await clock.advance(named("poll.failed")[0]!.retryInMs);
    expect(asked).toHaveLength(2);
  });

  test("should poll faster after finds and slower when idle", async () => {
    const { asked, clock, engine } = pollingEngine((_, count) =>
      count <= 3 ? { events: [about("a", `e${count}`)], more: false } : { events: [] },
    );
    await engine.start();
    await clock.advance(20 * MINUTE);
    const waits = asked.slice(1).map(({ at }, i) => at - (asked[i]?.at ?? 0));
    expect(waits.slice(0, 5)).toEqual([30_000, 15_000, 15_000, 18_750, 23_438]);
    expect(waits.at(-1)).toBe(2 * MINUTE);
  });

  test("should not be polled again before the feed wants it", async () => {
    const { asked, clock, engine } = pollingEngine(() => ({ events: [], pollAfterMs: 10 * MINUTE }));
    await engine.start();
    await clock.advance(10 * MINUTE);
    expect(asked.map(({ at }) => at)).toEqual([0, 10 * MINUTE]);
  });

  test("should begin anew where `next` is null, and stay where it is undefined", async () => {
    const nexts = ["1", undefined, null, undefined];
    const { asked, clock, engine } = pollingEngine((_, count) => ({ events: [], next: nexts[count - 1] }));
    await engine.start();
    await clock.advance(10 * MINUTE);
    expect(asked.slice(0, 5).map(({ cursor }) => cursor)).toEqual([
      undefined,
      "1",
      "1",
      undefined,
      undefined,
    ]);
  });

  test("should poll each connection from its own cursor, and new ones within a minute", async () => {
    const accounts = ["a", "b"];
    const { asked, clock, engine } = pollingEngine(
      ({ cursor }, _, { connection }) => ({ events: [], next: cursor ?? `${connection.id}1` }),
      { engine: { connections: { get: (_, id) => ({ id, credentials: {} }), list: () => accounts } } },
    );
    await engine.start();
    await clock.advance(0);
    accounts.push("c");
    await clock.advance(5 * MINUTE);
    const cursors = (id: string) =>
      asked.filter(({ connection }) => connection === id).map(({ cursor }) => cursor);
    expect(cursors("a").slice(0, 2)).toEqual([undefined, "a1"]);
    expect(cursors("b").slice(0, 2)).toEqual([undefined, "b1"]);
    expect(cursors("c").slice(0, 2)).toEqual([undefined, "c1"]);
  });

  test("should poll only the connections that it is given", async () => {
    const { asked, clock, engine } = pollingEngine(() => ({ events: [] }), {
      source: { connection: "b" },
      engine: { connections: { get: (_, id) => ({ id, credentials: {} }), list: () => ["a", "b"] } },
    });
    await engine.start();
    await clock.advance(5 * MINUTE);
    expect(new Set(asked.map(({ connection }) => connection))).toEqual(new Set(["b"]));
  });

  test("should share event ids with the webhooks", async () => {
    const { clock, deliver, engine, fetched, named, settled } = pollingEngine((_, count) => ({
      events: count > 1 ? [about("a", "e1"), about("b", "e2")] : [],
      more: false,
    }));
    await engine.start();
    const answered = deliver("feed", [about("a", "e1")]);
    await settled();
    await answered;
    await clock.advance(2 * MINUTE);
    expect(fetched).toEqual(["a", "b"]);
    expect(named("delivery")[1]).toMatchObject({ origin: "poll", accepted: 1, duplicates: 1 });
  });

  test("should be refused for a provider that nobody defined, and twice under one name", async () => {
    const known = defineProvider({ name: "known", resources: {} });
    const source = (provider: string) => pollSource({ provider, every: 1_000, poll: () => ({ events: [] }) });
    const make = async (sources: readonly Source[]) => void new SyncEngine({ providers: [known], sources });
    expect((await failureOf(make([source("nobody")]))).message).toContain('no provider is named "nobody"');
    expect((await failureOf(make([source("known"), source("known")]))).message).toContain(
      "one another `name`",
    );
    await make([source("known")]);
  });
});

describe("a poll that fails", () => {
  test("should be tried again with backoff, from the same cursor", async () => {
    const { asked, clock, engine, fetched, named } = pollingEngine((_, count) => {
      if (count <= 3) throw new Error("no answer");
      return { events: [about("a")], next: "1", more: false };
    });
    await engine.start();
    await clock.advance(10_000);
    expect(asked.slice(0, 4).map(({ at }) => at)).toEqual([0, 1_000, 2_000, 4_000]);
    expect(named("poll.failed").map(({ retryInMs }) => retryInMs)).toEqual([1_000, 1_000, 2_000]);
    expect(named("poll")[0]).toMatchObject({
      source: "poll:feed",
      events: 0,
      error: { message: "no answer" },
    });
    expect(fetched).toEqual(["a"]);
  });

  test.each([
    ["no page", undefined],
    ["a cursor that is none", { events: [about("a")], next: 7 }],
    ["an event that is none", { events: [about("a"), { resource: "thing", objectId: {} }], next: "9" }],
  ])("should not move the cursor for %s", async (_, nonsense) => {
    const { asked, clock, engine, fetched, named } = pollingEngine((_args, count) =>
      count === 1 ? (nonsense as never) : { events: [] },
    );
    await engine.start();
    await clock.advance(5_000);
    expect(named("poll.failed").map(({ error }) => (error as { code?: string }).code)).toEqual([
      "EVENT_INVALID",
    ]);
    expect(asked.map(({ cursor }) => cursor)).toEqual([undefined, undefined]);
    expect(fetched).toEqual([]);
  });

  test("should pause the connection for as long as a 429 says, and not be polled meanwhile", async () => {
    const { asked, clock, engine, named } = pollingEngine((_, count) => {
      if (count === 1) throw new RateLimitError(5 * MINUTE, "slow down");
      return { events: [] };
    });
    await engine.start();
    await clock.advance(6 * MINUTE);
    expect(named("connection.paused")).toMatchObject([{ provider: "feed", reason: "rate-limit" }]);
    expect(asked.slice(0, 2).map(({ at }) => at)).toEqual([0, 5 * MINUTE]);
  });

  test("should wait while its connection is paused by hand, and go on within a minute", async () => {
    const { asked, clock, engine } = pollingEngine(() => ({ events: [] }));
    await engine.pause({ provider: "feed" });
    await engine.start();
    await clock.advance(10 * MINUTE);
    expect(asked).toEqual([]);
    await engine.resume({ provider: "feed" });
    await clock.advance(MINUTE);
    expect(asked).toHaveLength(1);
  });

  test("should be told of a feed that says there is more and stays where it is", async () => {
    const { asked, engine, fetched, named } = pollingEngine(() => ({
      events: [about("a")],
      next: "1",
      more: true,
    }));
    await engine.start();
    await until(() => named("poll.failed").length > 0);
    expect(named("poll.failed")).toMatchObject([{ error: { code: "CURSOR_REPEATED" } }]);
    expect(asked).toHaveLength(2);
    expect(fetched).toContain("a");
  });

  test("should be told of a feed that runs in a circle, instead of running with it", async () => {
    const { asked, engine, named } = pollingEngine(({ cursor }) => ({
      events: [about("a")],
      next: cursor === "1" ? "2" : cursor === "2" ? "3" : "1",
    }));
    await engine.start();
    await until(() => named("poll.failed").length > 0);
    expect(named("poll.failed")).toMatchObject([{ error: { code: "CURSOR_REPEATED" } }]);
    expect(asked.length).toBeLessThan(12);
  });

  test("should wait for its turn with a feed that never ends", async () => {
    const { asked, clock, engine } = pollingEngine((_, count) => ({
      events: [],
      next: String(count),
      more: true,
    }));
    await engine.start();
    await until(() => asked.length >= 1_000);
    await clock.advance(29_000);
    expect(asked).toHaveLength(1_000);
    await clock.advance(60_000); // the control: it goes on after its interval
    expect(asked.length).toBeGreaterThan(1_000);
  });

  test("should end when its time is up, whatever it goes on doing", async () => {
    const { clock, engine, named } = pollingEngine(() => new Promise<never>(() => {}), {
      engine: { fetchTimeoutMs: 5_000 },
    });
    await engine.start();
    await clock.advance(5_000);
    expect(named("poll.failed")).toMatchObject([{ error: { code: "API_TIMEOUT" } }]);
  });

  test("should not keep the engine from stopping", async () => {
    const begun = gate();
    const { engine, named } = pollingEngine(() => {
      begun.open();
      return new Promise<never>(() => {});
    });
    await engine.start();
    await begun.promise;
    await engine.stop();
    expect(named("poll.failed")).toEqual([]);
    expect(named("source.failed")).toEqual([]);
  });
});

describe("a cursor that has expired", () => {
  const listed = [{ id: "lost", rev: 1 }];

  test.each([
    ["by a status", () => Promise.reject(new HttpError(410, "gone"))],
    ["by the adapter's word", () => ({ events: [], expired: true })],
  ])("%s should bring a full pass, loudly, and begin the feed at its present end", async (_, refuse) => {
    const { asked, clock, engine, lists, named, told } = pollingEngine(
      ({ cursor }) => {
        if (cursor === "old") return refuse();
        return { events: [], next: cursor === undefined && asked.length === 1 ? "old" : "new" };
      },
      { listed },
    );
    await engine.start();
    await clock.advance(3 * MINUTE);
    expect(asked.slice(0, 4).map(({ cursor }) => cursor)).toEqual([undefined, "old", undefined, "new"]);
    expect(named("warning").filter(({ code }) => code === "CURSOR_EXPIRED")).toMatchObject([
      { scope: { provider: "feed", connection: "default" } },
    ]);
    expect(named("pass.started")).toMatchObject([{ mode: "full", resource: "thing" }]);
    expect(lists).toHaveLength(1);
    // The feed's new place was found before the pass began: what changes in between is told by one of them.
    const names = told.map(({ name }) => name);
    expect(names.indexOf("pass.started")).toBeGreaterThan(names.indexOf("warning"));
    expect(asked[2]?.at).toBe(asked[1]?.at);
  });

  test("should go on from a `next` that comes with the news", async () => {
    const { asked, clock, engine, fetched, lists } = pollingEngine(
      (_, count) =>
        count === 1
          ? { events: [], next: "1" }
          : { events: [about("a", `e${count}`)], next: "5", expired: count === 2, more: false },
      { listed },
    );
    await engine.start();
    await clock.advance(2 * MINUTE);
    expect(asked.slice(0, 3).map(({ cursor }) => cursor)).toEqual([undefined, "1", "5"]);
    expect(fetched).toContain("a");
    expect(lists).toHaveLength(1);
  });

  test("should keep its cursor when the feed refuses to answer without one too", async () => {
    const { asked, clock, engine, lists, named } = pollingEngine(
      (_, count) => {
        if (count === 1) return { events: [], next: "1" };
        throw new HttpError(404, "not found");
      },
      { listed },
    );
    await engine.start();
    await clock.advance(2 * MINUTE);
    expect(asked.slice(0, 4).map(({ cursor }) => cursor)).toEqual([undefined, "1", undefined, "1"]);
    expect(named("poll.failed")[0]).toMatchObject({ error: { status: 404 } });
    expect(lists).toEqual([]);
  });

  test("should be no news at a first poll, which has none", async () => {
    const { clock, engine, lists, named } = pollingEngine(() => ({ events: [], expired: true }), { listed });
    await engine.start();
    await clock.advance(2 * MINUTE);
    expect(named("poll").length).toBeGreaterThan(1);
    expect(named("warning").filter(({ code }) => code === "CURSOR_EXPIRED")).toEqual([]);
    expect(lists).toEqual([]);
  });
});
