import { describe, expect, test } from "vitest";
import { checkPage, pageFingerprint } from "../../src/core/poll-page.ts";
import { pollSource } from "../../src/core/poll-source.ts";
import { rejection, thrownCode } from "./fakes.ts";

const event = { resource: "contact", objectId: "1" };

describe("a page of a feed", () => {
  test.each([
    ["nothing", undefined],
    ["null", null],
    ["a list", [event]],
    ["no events", { next: "1" }],
    ["an object of events", { events: {} }],
    ["a number as cursor", { events: [], next: 7 }],
    ["an empty cursor", { events: [], next: "" }],
    ["a huge cursor", { events: [], next: "x".repeat(65_537) }],
    ["a word for `more`", { events: [], more: "yes" }],
    ["a word for `expired`", { events: [], expired: "no" }],
    ["a delay that is none", { events: [], pollAfterMs: -1 }],
    ["a delay without end", { events: [], pollAfterMs: Infinity }],
    ["too many events", { events: Array.from({ length: 10_001 }, () => event) }],
  ])("should be refused as %s", (_, result) => {
    expect(thrownCode(() => checkPage(result))).toBe("EVENT_INVALID");
  });

  test("should be taken with nothing but events", () => {
    expect(checkPage({ events: [event] })).toEqual({
      events: [event],
      next: undefined,
      more: undefined,
      expired: false,
      pollAfterMs: undefined,
    });
  });

  test("should be known again by its events and its cursor", () => {
    const print = (page: object) => pageFingerprint(checkPage(page));
    expect(print({ events: [event], next: "1" })).toBe(print({ events: [{ ...event }], next: "1" }));
    expect(print({ events: [event], next: "1" })).not.toBe(print({ events: [event], next: "2" }));
    expect(print({ events: [{ ...event, id: 1n }] })).not.toBe(print({ events: [{ ...event, id: 2n }] }));
    const circle: { self?: unknown } = {};
    circle.self = circle;
    expect(print({ events: [{ ...event, data: circle }] })).toBeUndefined();
  });
});

describe("pollSource", () => {
  const poll = () => ({ events: [] });

  test.each([
    [{ provider: "", every: 1_000, poll }],
    [{ provider: "crm", every: 0, poll }],
    [{ provider: "crm", every: "often", poll }],
    [{ provider: "crm", every: 1_000, minEvery: 2_000, poll }],
    [{ provider: "crm", every: 1_000, name: "a name", poll }],
    [{ provider: "crm", every: 1_000, connection: [], poll }],
    [{ provider: "crm", every: 1_000, connection: "", poll }],
    [{ provider: "crm", every: 1_000, poll: "a function" as never }],
  ])("should refuse %j", (options) => {
    expect(thrownCode(() => pollSource(options))).toBe("OPTION_INVALID");
  });

  test("should be named after its provider", () => {
    expect(pollSource({ provider: "crm", every: 1_000, poll }).name).toBe("poll:crm");
  });

  test("should say that it runs in an engine only", async () => {
    const source = pollSource({ provider: "crm", every: 1_000, poll });
    const ran = source.run(async () => [], new AbortController().signal);
    expect((await rejection(ran)).code).toBe("NOT_SUPPORTED");
  });
});
