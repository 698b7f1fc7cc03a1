import { describe, expect, test } from "vitest";
import { RetryLaterError, TrueupError } from "../../src/core/errors.ts";
import { logEvents } from "../../src/core/event-log.ts";
import { type EventMap, Hooks, type Logger, stderrLogger } from "../../src/core/hooks.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { refOf, turn } from "./fakes.ts";

type Line = { level: string; fields: object; message: string };

function setup() {
  const lines: Line[] = [];
  const level = (name: string) => (fields: object, message: string) =>
    lines.push({ level: name, fields, message });
  const logger: Logger = {
    debug: level("debug"),
    info: level("info"),
    warn: level("warn"),
    error: level("error"),
  };
  return { hooks: new Hooks(logger), lines, logger };
}

const resumed = { provider: "crm", connection: "acme" };

describe("listeners", () => {
  test("should hear of their event, each as often as it was registered", () => {
    const { hooks } = setup();
    const heard: unknown[] = [];
    const listener = (event: EventMap["connection.resumed"]) => void heard.push(event);
    hooks.on("connection.resumed", listener);
    const off = hooks.on("connection.resumed", listener);
    hooks.emit("connection.resumed", resumed);
    expect(heard).toEqual([resumed, resumed]);
    off();
    off();
    hooks.emit("connection.resumed", resumed);
    expect(heard).toHaveLength(3);
  });

  test("should not hear of other events", () => {
    const { hooks } = setup();
    hooks.on("change.lost", () => expect.unreachable());
    hooks.emit("connection.resumed", resumed);
    expect([hooks.has("change.lost"), hooks.has("connection.resumed")]).toEqual([true, false]);
  });

  test("should change nothing when they throw: the others hear, and it is logged", () => {
    const { hooks, lines } = setup();
    const error = new Error("a bug of the listener's");
    let heard = 0;
    hooks.on("connection.resumed", () => {
      throw error;
    });
    hooks.on("connection.resumed", () => (heard += 1));
    hooks.emit("connection.resumed", resumed);
    expect(heard).toBe(1);
    expect(lines).toEqual([
      { level: "error", fields: { error, event: "connection.resumed" }, message: "a listener threw" },
    ]);
  });

  test("should change nothing when they reject: an async listener cannot end the process", async () => {
    const { hooks, lines } = setup();
    const error = new Error("a bug of the listener's");
    // oxlint-disable-next-line typescript/no-misused-promises -- what users do
    hooks.on("connection.resumed", async () => {
      await turn();
      throw error;
    });
    hooks.emit("connection.resumed", resumed);
    await turn();
    await turn();
    expect(lines).toEqual([
      { level: "error", fields: { error, event: "connection.resumed" }, message: "a listener threw" },
    ]);
  });
});

describe("the log of who listens to nothing", () => {
  test("should have what went wrong, and nothing else", () => {
    const { hooks, lines, logger } = setup();
    logEvents(hooks, logger, new TestClock());
    const error = new Error("boom");
    const ref = refOf("1");
    hooks.emit("connection.resumed", resumed);
    hooks.emit("change.lost", { ref });
    hooks.emit("change.failed", { ref, attempt: 1, retryInMs: 5, error });
    hooks.emit("error", { error, during: "settling" });
    hooks.emit("warning", {
      code: "LIST_INVALID",
      message: "rows without ids",
      scope: { resource: "contact" },
    });
    hooks.emit("change.dead", { ref, attempt: 3, error });
    hooks.emit("source.failed", { source: "queue", error, retryInMs: 5 });
    hooks.emit("connection.paused", { ...resumed, until: null, reason: "by hand" });
    hooks.emit("connection.paused", { ...resumed, until: 60_000, reason: "UNAUTHORIZED" });
    hooks.emit("deletes.suppressed", { ...ref, count: 60, indexed: 100, samples: ["1"] });
    expect(lines.map(({ level, message }) => `${level}: ${message}`)).toEqual([
      "warn: crm.contact 1 failed, and is tried again in 5 ms: boom",
      "error: settling failed: boom",
      "warn: rows without ids",
      "error: gave up: boom",
      "warn: source queue failed: boom",
      "warn: connection crm/acme is paused until it is resumed: by hand",
      "warn: connection crm/acme is paused until 1970-01-01T00:01:00.000Z: UNAUTHORIZED",
      "warn: 60 deletions of crm.contact look like a mistake and were held back",
    ]);
  });

  test("should have one failure of a route for many, before all of them are given up", async () => {
    const { hooks, lines, logger } = setup();
    const clock = new TestClock();
    logEvents(hooks, logger, clock);
    const error = new Error("the database is down");
    const failed = (id: string, resource = "contact", why: Error = error) =>
      hooks.emit("change.failed", { ref: { ...refOf(id), resource }, attempt: 1, retryInMs: 5, error: why });
    failed("1", "contact", new RetryLaterError(5)); // what a handler asks for is no failure
    for (const id of ["2", "3", "4"]) failed(id);
    failed("5", "deal");
    await clock.advance(10_000);
    failed("6");
    expect(lines.map(({ message }) => message.split(" failed")[0])).toEqual([
      "crm.contact 2",
      "crm.deal 5",
      "crm.contact 6",
    ]);
  });

  test("should suspect the secret where deliveries come whose signature does not fit", () => {
    const { hooks, lines, logger } = setup();
    logEvents(hooks, logger, new TestClock());
    const quiet = { ...resumed, missed: 3, quietSince: 0, lastEventAt: undefined };
    hooks.emit("webhooks.quiet", { ...quiet, signatureFailures: 0 });
    hooks.emit("webhooks.quiet", { ...quiet, signatureFailures: 7 });
    expect(lines.map(({ message }) => message.split(": ")[1])).toEqual([
      "is its webhook still on?",
      "the signatures of 7 deliveries did not fit; is the webhook's secret the one that is configured?",
    ]);
  });
});

describe("the default logger", () => {
  const written = (use: (logger: Logger) => void) => {
    const lines: string[] = [];
    use(stderrLogger((line) => lines.push(line)));
    return lines;
  };

  test("should write warnings and errors as JSON lines", () => {
    const lines = written((logger) => {
      logger.debug({}, "no");
      logger.info({}, "no");
      logger.warn({ big: 5n }, "careful");
      logger.error({ error: new TrueupError("NETWORK", "no answer", { cause: "secret" }) }, "it\nfailed");
    });
    expect(lines.every((line) => line.endsWith("\n") && !line.slice(0, -1).includes("\n"))).toBe(true);
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: "warn", message: "careful", big: "5" },
      {
        level: "error",
        message: "it\nfailed",
        error: { name: "TrueupError", code: "NETWORK", message: "no answer" },
      },
    ]);
  });

  test("should tell what was behind an error, and where one without a code was made", () => {
    const bug = new TypeError("Cannot read properties of undefined (reading 'id')");
    const endless = new TrueupError("STORE_FAILED", "round and round");
    endless.cause = endless;
    const [told, bounded] = written((logger) => {
      logger.error(
        { error: new TrueupError("EVENTS_FAILED", "`webhook.events` threw", { cause: bug }) },
        "failed",
      );
      logger.error({ error: endless }, "failed");
    });
    expect(JSON.parse(told ?? "")).toMatchObject({
      error: {
        code: "EVENTS_FAILED",
        cause: {
          name: "TypeError",
          message: bug.message,
          stack: expect.stringContaining("hooks.test.ts") as string,
        },
      },
    });
    expect(JSON.parse(told ?? "")).not.toHaveProperty("error.stack");
    expect(bounded?.match(/round and round/g)?.length).toBeLessThan(10);
  });
});
