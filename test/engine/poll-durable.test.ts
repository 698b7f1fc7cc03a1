import { describe, expect, onTestFinished, test } from "vitest";
import { pollSource, type PollResult, SyncEngine, TrueupError, type Store } from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { gate } from "../core/fakes.ts";
import { passTime, recorded, silent, temporaryDirectory, timedEngine } from "./notes.ts";
import { until } from "./poll-harness.ts";
import { notesProvider, World } from "./world.ts";

const MINUTE = 60_000;

/** A feed of notes, numbered from 1, `size` a page. */
class NumberedFeed {
  readonly asked: (string | undefined)[] = [];
  readonly ids: string[] = [];
  readonly #size: number;

  constructor(size = 2) {
    this.#size = size;
  }

  readonly poll = (_: unknown, { cursor }: { readonly cursor: string | undefined }): PollResult => {
    this.asked.push(cursor);
    const from = Number(cursor ?? 0);
    const events = this.ids
      .slice(from, from + this.#size)
      .map((objectId, i) => ({ id: `e${from + i}`, resource: "note", objectId }));
    return { events, next: String(from + events.length) };
  };
}

const source = (poll: Parameters<typeof pollSource>[0]["poll"]) =>
  pollSource({ provider: "notes", every: "1m", poll });

/** Engines on one file whose feed they poll; each can be given a store of its own. */
function pollingNotes(feed: NumberedFeed, path = `${temporaryDirectory()}/sync.db`, store?: Store<SqliteTx>) {
  const made = timedEngine({
    path,
    engine: { sources: [source(feed.poll)], ...(store === undefined ? undefined : { store }) },
  });
  return { ...made, path };
}

describe("a cursor", () => {
  test("should survive a restart", async () => {
    const feed = new NumberedFeed();
    feed.ids.push("n1", "n2", "n3");
    const first = pollingNotes(feed);
    for (const id of feed.ids) first.world.put(id, "text");
    await first.engine.start();
    await first.pass(0);
    expect(first.copy.size).toBe(3);
    await first.engine.stop();
    feed.asked.length = 0;
    const second = pollingNotes(feed, first.path);
    await second.engine.start();
    await second.pass(0);
    expect(feed.asked).toEqual(["3"]);
  });

  test("should not move where the events could not be recorded, nor without the page when it could not move (I6)", async () => {
    const feed = new NumberedFeed();
    feed.ids.push("n1", "n2");
    const path = `${temporaryDirectory()}/sync.db`;
    const failing = new Set<string | symbol>(["append"]);
    const store = new Proxy(sqliteStore({ path }), {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) =>
          failing.has(name)
            ? Promise.reject(new TrueupError("STORE_FAILED", `${String(name)} fails`))
            : (Reflect.apply(value, target, args) as unknown);
      },
    });
    const { copy, engine, pass, seen, world } = pollingNotes(feed, path, store);
    for (const id of feed.ids) world.put(id, "text");
    const failures = recorded(engine, "poll.failed");
    const deliveries = recorded(engine, "delivery");
    await engine.start();
    await pass(0);
    expect(failures).toMatchObject([{ error: { code: "STORE_FAILED" } }]);
    failing.clear();
    failing.add("setCheckpoint"); // as in a crash between the two
    await pass(1_000);
    expect([copy.size, failures.length]).toEqual([2, 2]);
    failing.clear();
    await pass(MINUTE);
    expect(new Set(feed.asked.slice(0, 3))).toEqual(new Set([undefined])); // the page was asked for three times …
    expect(feed.asked.at(-1)).toBe("2");
    expect(deliveries.at(-1)).toMatchObject({ origin: "poll", status: "duplicate", duplicates: 2 }); // … and cost nothing
    expect(seen).toHaveLength(2);
  });

  test("should be forgotten with its connection, also while a page is under way", async () => {
    const feed = new NumberedFeed();
    feed.ids.push("n1");
    const slow = gate<PollResult>();
    let polls = 0;
    const { engine, pass } = timedEngine({
      engine: {
        sources: [
          source((context, args) => {
            polls += 1;
            return polls === 2 ? slow.promise : feed.poll(context, args);
          }),
        ],
      },
    });
    await engine.start();
    await pass(0);
    expect(feed.asked).toEqual([undefined]);
    await until(() => polls === 2); // it looks for more
    const forgetting = engine.forget("notes", "default");
    slow.open({ events: [{ id: "late", resource: "note", objectId: "n9" }], next: "9" });
    await forgetting;
    expect((await engine.status()).routes).toEqual([]);
    feed.ids.length = 0;
    await pass(MINUTE);
    expect(feed.asked[1]).toBeUndefined();
  });
});

/** Engines that only run sources: several of them may be on one file. */
function receiver(path: string, clock: TestClock, feed: NumberedFeed) {
  const engine = new SyncEngine({
    providers: [notesProvider(new World())],
    store: sqliteStore({ path }),
    sources: [source(feed.poll)],
    clock,
    random: () => 0.5,
    logger: silent,
    leaseMs: 30_000,
  });
  onTestFinished(() => engine.stop());
  return { engine, failures: recorded(engine, "source.failed") };
}

describe("several processes", () => {
  test("should be polled by one of them, and by another once that is gone", async () => {
    const clock = new TestClock();
    const path = `${temporaryDirectory()}/sync.db`;
    const [feedOfFirst, feedOfSecond] = [new NumberedFeed(), new NumberedFeed()];
    const first = receiver(path, clock, feedOfFirst);
    const second = receiver(path, clock, feedOfSecond);
    await first.engine.start({ work: false });
    await passTime(clock, 0);
    await second.engine.start({ work: false });
    await passTime(clock, 5 * MINUTE);
    expect(feedOfFirst.asked.length).toBeGreaterThan(2);
    expect(feedOfSecond.asked).toEqual([]);
    await first.engine.stop();
    const polled = feedOfFirst.asked.length;
    await passTime(clock, MINUTE);
    expect(feedOfFirst.asked).toHaveLength(polled);
    expect(feedOfSecond.asked.length).toBeGreaterThan(0);
    expect([...first.failures, ...second.failures]).toEqual([]);
  });
});

describe("a tick", () => {
  test("should poll what is due, once, and leave no timer behind", async () => {
    const feed = new NumberedFeed();
    feed.ids.push("n1", "n2", "n3");
    const { clock, copy, engine, path, world } = pollingNotes(feed);
    for (const id of feed.ids) world.put(id, "text");
    const tick = async (of: Pick<SyncEngine, "tick">, on: TestClock) => {
      const ticking = of.tick();
      await passTime(on, 1_000);
      await ticking;
    };
    await tick(engine, clock);
    expect(copy.size).toBe(3);
    expect(feed.asked).toEqual([undefined, "2", "3"]);
    expect(clock.pendingTimers).toBe(0);
    await tick(engine, clock); // it is not due yet
    expect(feed.asked).toHaveLength(3);
    await passTime(clock, 28_000);
    // Nor in another process, which knows it from the store.
    const later = new TestClock(clock.now());
    const other = timedEngine({ path, engine: { clock: later, sources: [source(feed.poll)] } });
    await tick(other.engine, later);
    expect(feed.asked).toHaveLength(3);
    await passTime(later, 2 * MINUTE);
    await tick(other.engine, later);
    expect(feed.asked).toEqual([undefined, "2", "3", "3"]);
  });

  test("should end in time, whatever a feed goes on doing", async () => {
    const { clock, engine } = timedEngine({
      engine: { sources: [source(() => new Promise<never>(() => {}))] },
    });
    const ticking = engine.tick({ timeoutMs: 2_000 });
    await passTime(clock, 2_000);
    await ticking;
    expect(clock.pendingTimers).toBe(0);
  });
});
