import { describe, expect, onTestFinished, test } from "vitest";
import { TrueupError } from "../../../src/core/errors.ts";
import type { EventMap } from "../../../src/core/hooks.ts";
import type { Outcome, OutcomeStatus, RawDelivery, Sink } from "../../../src/core/source.ts";
import type { DriverDefaults, QueueSourceOptions } from "../../../src/sources/queue/options.ts";
import { queueSource } from "../../../src/sources/queue/source.ts";
import { TestClock } from "../../../src/testing/test-clock.ts";
import { type Gate, gate, rejection } from "../../core/fakes.ts";
import { MemoryQueue, type MemoryQueueOptions } from "./memory-queue.ts";

const outcome = (status: OutcomeStatus, rest: Partial<Outcome> = {}): Outcome => ({
  status,
  accepted: status === "accepted" ? 1 : 0,
  duplicates: 0,
  ignored: 0,
  ...rest,
});

interface Setup {
  readonly queue?: MemoryQueueOptions;
  readonly options?: Partial<QueueSourceOptions>;
  readonly defaults?: DriverDefaults;
  /** What becomes of a message; by default it is accepted. */
  readonly become?: (id: string | undefined) => Outcome | Promise<Outcome>;
}

/** A source over a queue in memory, and a sink that keeps what it was given. */
function setup({ become = () => outcome("accepted"), defaults, options, queue: given }: Setup = {}) {
  const clock = new TestClock();
  const queue = new MemoryQueue(clock, given);
  const seen: RawDelivery[] = [];
  const told: { name: string; event: unknown }[] = [];
  const sink: Sink = async (deliveries) => {
    seen.push(...(deliveries as RawDelivery[]));
    return Promise.all((deliveries as RawDelivery[]).map(async ({ delivery }) => become(delivery.id)));
  };
  const environment = {
    clock,
    random: () => 1,
    emit: <Name extends keyof EventMap>(name: Name, event: EventMap[Name]) => void told.push({ name, event }),
  };
  const source = queueSource("memory", queue, { provider: "crm", ...options }, defaults);
  const stop = new AbortController();
  const run = () => {
    const running = source.run(sink, stop.signal, environment);
    running.catch(() => {}); // looked at by the tests that expect it
    return running;
  };
  onTestFinished(() => stop.abort());
  const settledCalls = () => queue.calls.filter((call) => /^(ack|nack|reject|extend)/.test(call));
  return {
    clock,
    queue,
    run,
    seen,
    settledCalls,
    stop,
    told,
    ids: () => seen.map(({ delivery }) => delivery.id),
  };
}

describe("a message", () => {
  test("should reach the sink as the provider's webhook would, and be acked only when the sink says so", async () => {
    const committed = gate<Outcome>();
    const at = setup({ become: () => committed.promise, options: { connection: "acme", verify: true } });
    at.queue.send("m_1", new Uint8Array([0xff, 0]), { "x-topic": "a", "x-twice": ["a", "b"] });
    const running = at.run();
    await at.clock.settle();
    expect(at.seen).toMatchObject([{ provider: "crm", connection: "acme", verify: true }]);
    const { delivery } = at.seen[0]!;
    expect([delivery.id, delivery.method, delivery.receivedAt, [...delivery.body]]).toEqual([
      "m_1",
      "POST",
      at.clock.now(),
      [0xff, 0],
    ]);
    expect(delivery.header("X-Topic")).toBe("a");
    expect(() => delivery.header("x-twice")).toThrow(expect.objectContaining({ code: "HEADER_REPEATED" }));
    expect(at.settledCalls()).toEqual([]);
    committed.open(outcome("accepted"));
    await at.clock.settle();
    expect(at.settledCalls()).toEqual(["ack m_1"]);
    at.stop.abort();
    await running;
  });

  test.each<[OutcomeStatus, Partial<Outcome>, string]>([
    ["accepted", {}, "ack m_1"],
    ["duplicate", {}, "ack m_1"],
    ["ignored", {}, "ack m_1"],
    ["rejected", { error: new TrueupError("EVENTS_FAILED", "no") }, "reject m_1"],
    ["retry", { retryAfterMs: 7_000 }, "nack 7000 m_1"],
    ["retry", {}, "nack 5000 m_1"],
    ["retry", { error: new TrueupError("STOPPED", "stopping"), retryAfterMs: 7_000 }, "nack 0 m_1"],
  ])("that is %s (%j) should be settled by %s", async (status, rest, call) => {
    const at = setup({ become: () => outcome(status, rest) });
    at.queue.send("m_1");
    void at.run();
    await at.clock.settle();
    expect(at.settledCalls()[0]).toBe(call);
  });

  test("should be delivered again later each time that it cannot be taken", async () => {
    const at = setup({ become: () => outcome("retry", { retryAfterMs: 1_000 }) });
    at.queue.send("m_1");
    void at.run();
    await at.clock.advance(60_000);
    expect(at.settledCalls().slice(0, 4)).toEqual([
      "nack 1000 m_1",
      "nack 2000 m_1",
      "nack 4000 m_1",
      "nack 8000 m_1",
    ]);
  });

  test("should go to the dead letters with a reason that quotes nobody else's error", async () => {
    const at = setup({
      become: (id) =>
        outcome("rejected", {
          error: id === "ours" ? new TrueupError("EVENT_INVALID", "no id") : new Error("password=hunter2"),
        }),
    });
    at.queue.send("ours");
    at.queue.send("theirs");
    void at.run();
    await at.clock.settle();
    expect(at.queue.dead).toEqual([
      { id: "ours", reason: "EVENT_INVALID: no id" },
      { id: "theirs", reason: "Error" },
    ]);
  });

  test("that is over the limit should be rejected and counted, and one at the limit taken", async () => {
    const at = setup({ options: { maxBodyBytes: 10 } });
    at.queue.send("small", "x".repeat(10));
    at.queue.send("large", "x".repeat(11));
    void at.run();
    await at.clock.settle();
    expect(at.ids()).toEqual(["small"]);
    expect(at.queue.dead).toMatchObject([{ id: "large", reason: expect.stringContaining("BODY_TOO_LARGE") }]);
    expect(at.told).toMatchObject([
      { name: "delivery.refused", event: { provider: "crm", status: 413, code: "BODY_TOO_LARGE" } },
    ]);
  });

  test("that is delivered again and again and never settled should be rejected: it ends its consumers", async () => {
    const at = setup({ options: { maxDeliveries: 2 } });
    at.queue.send("poison");
    at.queue.send("fresh");
    at.queue.stored.get("poison")!.deliveries = 2;
    void at.run();
    await at.clock.settle();
    expect(at.ids()).toEqual(["fresh"]);
    expect(at.queue.dead).toMatchObject([
      { id: "poison", reason: expect.stringContaining("ATTEMPTS_EXHAUSTED") },
    ]);
  });

  test("should come again when the sink throws, which no sink should", async () => {
    const at = setup({ become: () => Promise.reject(new Error("a bug")) });
    at.queue.send("m_1");
    void at.run();
    await at.clock.settle();
    expect(at.settledCalls()).toEqual(["nack 5000 m_1"]);
  });
});

describe("room", () => {
  test("should be fetched for and no more, and again as soon as there is some", async () => {
    const gates = new Map<string | undefined, Gate<Outcome>>();
    const at = setup({
      options: { prefetch: 3 },
      become: (id) => {
        const open = gate<Outcome>();
        gates.set(id, open);
        return open.promise;
      },
    });
    for (let i = 0; i < 5; i += 1) at.queue.send(`m_${i}`);
    void at.run();
    await at.clock.settle();
    expect(at.ids()).toEqual(["m_0", "m_1", "m_2"]);
    gates.get("m_1")!.open(outcome("accepted"));
    await at.clock.settle();
    expect(at.ids()).toEqual(["m_0", "m_1", "m_2", "m_3"]);
    expect(at.queue.calls.filter((call) => call.startsWith("receive"))).toEqual(["receive 3", "receive 1"]);
  });

  test("should not be filled while the store takes nothing, and be filled again once it does", async () => {
    let full = true;
    const at = setup({ become: () => outcome(full ? "retry" : "accepted", { retryAfterMs: 100 }) });
    for (let i = 0; i < 30; i += 1) at.queue.send(`m_${i}`);
    void at.run();
    await at.clock.advance(60_000);
    const { length } = at.seen;
    expect(length).toBeLessThan(150); // 30 messages every 100 ms would be 18,000
    full = false;
    await at.clock.advance(300_000);
    expect(at.queue.stored.size).toBe(0);
  });
});

describe("a lease", () => {
  test("that ran out before work began should drop the message, unacked", async () => {
    const at = setup({ queue: { leaseMs: 1_000 } });
    at.queue.send("m_1");
    const connect = at.queue.connect.bind(at.queue);
    // What the driver had fetched ahead has been lying there for a while.
    at.queue.connect = async (environment) => {
      const connection = await connect(environment);
      return {
        ...connection,
        receive: async (limit, signal) =>
          (await connection.receive(limit, signal)).map((message) => ({
            ...message,
            takenAt: message.takenAt - (message.attempt === 1 ? 900 : 0),
          })),
      };
    };
    const running = at.run();
    await at.clock.settle();
    expect([at.ids(), at.settledCalls()]).toEqual([[], []]);
    expect(at.told).toMatchObject([{ name: "delivery.unsettled", event: { id: "m_1", reason: "stale" } }]);
    at.stop.abort();
    await running;
  });

  test("that ran out during work should leave the ack to the next delivery, and undo nothing (I8)", async () => {
    const first = gate<Outcome>();
    const at = setup({
      queue: { leaseMs: 1_000, waits: false },
      become: () => (at.seen.length === 1 ? first.promise : outcome("duplicate")),
    });
    at.queue.send("m_1");
    void at.run();
    await at.clock.advance(8_000);
    expect(at.ids()).toEqual(["m_1", "m_1"]);
    expect(at.settledCalls()).toEqual(["ack m_1"]);
    first.open(outcome("accepted"));
    await at.clock.settle();
    expect(at.settledCalls()).toEqual(["ack m_1"]);
    expect(at.told).toMatchObject([{ name: "delivery.unsettled", event: { reason: "lease-lost" } }]);
  });

  test("should be kept for as long as the work takes, where the broker allows it", async () => {
    const work = gate<Outcome>();
    const at = setup({ queue: { leaseMs: 1_000, extends: true, waits: false }, become: () => work.promise });
    at.queue.send("m_1");
    const running = at.run();
    await at.clock.advance(5_000);
    work.open(outcome("accepted"));
    await at.clock.settle();
    expect(at.ids()).toEqual(["m_1"]);
    const calls = at.settledCalls();
    expect(calls.at(-1)).toBe("ack m_1");
    expect(calls.length).toBeGreaterThan(10);
    at.stop.abort();
    await running;
    expect(at.clock.pendingTimers).toBe(0);
  });

  test("that the broker says is lost should be an event, not a failure", async () => {
    const at = setup();
    at.queue.send("m_1");
    at.queue.before = (call) => {
      if (call === "ack m_1") throw new TrueupError("LEASE_LOST", "410");
    };
    void at.run();
    await at.clock.settle();
    at.queue.send("m_2");
    await at.clock.settle();
    expect(at.settledCalls()).toEqual(["ack m_1", "ack m_2"]);
    expect(at.told).toMatchObject([
      { name: "delivery.unsettled", event: { id: "m_1", reason: "lease-lost" } },
    ]);
  });
});

describe("an ack that fails", () => {
  test("should be tried again, and then left to the next delivery", async () => {
    const at = setup();
    at.queue.send("m_1");
    let failures = 2;
    at.queue.before = (call) => {
      if (call === "ack m_1" && failures-- > 0) throw new Error("502");
    };
    void at.run();
    await at.clock.advance(1_000);
    expect(at.settledCalls()).toEqual(["ack m_1", "ack m_1", "ack m_1"]);
    expect(at.told).toEqual([]);
    failures = Infinity;
    at.queue.send("m_1");
    await at.clock.advance(10_000);
    expect(at.settledCalls()).toHaveLength(7);
    expect(at.told).toMatchObject([
      { name: "delivery.unsettled", event: { reason: "failed", error: { message: "502" } } },
    ]);
  });
});

describe("an ack that fails while the source stops", () => {
  test("should be tried again without a pause, and leave no timer", async () => {
    const at = setup();
    at.queue.send("m_1");
    at.queue.before = (call) => {
      if (call === "ack m_1") throw new Error("502");
    };
    const running = at.run();
    await at.clock.settle();
    expect(at.settledCalls()).toEqual(["ack m_1"]);
    at.stop.abort();
    await running;
    expect(at.settledCalls()).toHaveLength(4);
    expect(at.told).toMatchObject([{ name: "delivery.unsettled", event: { reason: "failed" } }]);
    expect(at.clock.pendingTimers).toBe(0);
  });
});

describe("a broker that cannot wait", () => {
  test("should be waited for, and never for longer than the lease lasts", async () => {
    const at = setup({
      queue: { delays: false, leaseMs: 10_000 },
      become: () => outcome("retry", { retryAfterMs: 60_000 }),
    });
    at.queue.send("m_1");
    void at.run();
    await at.clock.advance(7_199);
    expect(at.settledCalls()).toEqual([]);
    await at.clock.advance(1);
    expect(at.settledCalls()).toEqual(["nack 60000 m_1"]);
  });

  test("should get back at once what is held for it when the source stops", async () => {
    const at = setup({ queue: { delays: false }, become: () => outcome("retry") });
    at.queue.send("m_1");
    const running = at.run();
    await at.clock.settle();
    expect(at.settledCalls()).toEqual([]);
    at.stop.abort();
    await running;
    expect(at.settledCalls()).toEqual(["nack 5000 m_1"]);
    expect(at.clock.pendingTimers).toBe(0);
  });
});

describe("an empty queue", () => {
  test("should be looked at ever more rarely by one of all, and by all at once when it has something", async () => {
    const at = setup({
      queue: { waits: false, batch: 1 },
      defaults: { pullers: 4, idle: { minMs: 100, maxMs: 1_000 } },
    });
    void at.run();
    const looks = () => at.queue.calls.filter((call) => call.startsWith("receive")).length;
    await at.clock.settle();
    expect(looks()).toBe(4);
    await at.clock.advance(100 + 200 + 400 + 800 + 3_000);
    expect(looks()).toBe(4 + 4 + 3);
    for (let i = 0; i < 8; i += 1) at.queue.send(`m_${i}`);
    await at.clock.advance(1_000);
    expect(at.queue.stored.size).toBe(0);
    const before = looks();
    await at.clock.advance(100);
    expect(looks()).toBe(before + 1); // the pauses are short again
  });
});

describe("a source", () => {
  test("should finish and settle what is in work when it stops, and fetch nothing more", async () => {
    const work = gate<Outcome>();
    const at = setup({ become: () => work.promise });
    at.queue.send("m_1");
    const running = at.run();
    await at.clock.settle();
    at.stop.abort();
    at.queue.send("m_2");
    await at.clock.settle();
    expect(at.queue.calls).not.toContain("close");
    work.open(outcome("accepted"));
    await running;
    expect(at.settledCalls()).toEqual(["ack m_1"]);
    expect(at.queue.calls.at(-1)).toBe("close");
    expect([...at.queue.stored.keys()]).toEqual(["m_2"]);
  });

  test("should end with the failure when the connection is lost, and deliver again what was in work", async () => {
    const work = gate<Outcome>();
    const at = setup({ become: () => (at.seen.length === 1 ? work.promise : outcome("duplicate")) });
    at.queue.send("m_1");
    const running = at.run();
    await at.clock.settle();
    at.queue.cut();
    work.open(outcome("accepted"));
    await at.clock.advance(10_000);
    expect(await rejection(running)).toMatchObject({ code: "NETWORK" });
    expect(at.told).toMatchObject([{ name: "delivery.unsettled", event: { id: "m_1", reason: "failed" } }]);
    expect(at.queue.stored.size).toBe(1);
    void at.run();
    await at.clock.settle();
    expect([at.queue.stored.size, at.ids()]).toEqual([0, ["m_1", "m_1"]]);
  });

  test("should say why it cannot connect, and not hold on to anything", async () => {
    const at = setup();
    at.queue.before = () => {
      throw new TrueupError("UNAUTHORIZED", "the token was refused");
    };
    expect(await rejection(at.run())).toMatchObject({ code: "UNAUTHORIZED" });
    expect(at.queue.calls).toEqual(["connect"]);
    expect(at.clock.pendingTimers).toBe(0);
  });

  test("should not wait for a broker that does not answer when it stops, and disconnect should it answer late", async () => {
    const at = setup();
    const answered = gate();
    at.queue.before = (call) => (call === "connect" ? answered.promise : undefined);
    const running = at.run();
    await at.clock.settle();
    at.stop.abort();
    await running;
    expect(at.queue.calls).toEqual(["connect"]);
    answered.open();
    await at.clock.settle();
    expect(at.queue.calls).toEqual(["connect", "close"]);
  });

  test("should do nothing when it was stopped before it ran", async () => {
    const at = setup();
    at.stop.abort();
    await at.run();
    expect(at.queue.calls).toEqual([]);
  });

  test.each<[string, Partial<QueueSourceOptions>]>([
    ["provider", { provider: "" }],
    ["connection", { connection: "" }],
    ["verify", { verify: "yes" as never }],
    ["prefetch", { prefetch: 0 }],
    ["maxBodyBytes", { maxBodyBytes: 0.5 }],
    ["maxDeliveries", { maxDeliveries: -1 }],
  ])("should refuse a wrong `%s`", (name, options) => {
    expect(() => setup({ options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});
