import { describe, expect, test } from "vitest";
import { DeliveryHealth } from "../../src/core/delivery-health.ts";
import type { Origin } from "../../src/core/event.ts";

const HOUR = 3_600_000;
const START = Date.UTC(2030, 0, 1);
const acme = { provider: "crm", connection: "acme" };
const contact = { ...acme, resource: "contact" };

/** Health that is told things at hours since its start. */
function setup() {
  const health = new DeliveryHealth(START);
  const at = (hours: number) => START + hours * HOUR;
  return {
    health,
    at,
    delivered: (origin: Origin, hours: number, events = 1) =>
      health.delivered(acme, origin, events, at(hours)),
    changed: (origin: Origin, hours: number, count = 1) => {
      for (let i = 0; i < count; i += 1) health.changed(contact, origin, at(hours));
    },
    /** A complete pass that finds so many changes. */
    pass: (hours: number, finds = 0, news = true) => {
      health.passStarted(contact, { news }, at(hours));
      for (let i = 0; i < finds; i += 1) health.changed(contact, "reconcile", at(hours));
      health.passCompleted(contact, at(hours));
    },
    suspects: (hours: number) => health.suspects(acme, at(hours)),
    status: (hours: number) => health.status(acme, at(hours)),
  };
}

describe("how events arrive", () => {
  test("should be told of a connection that nothing was heard of", () => {
    expect(setup().status(1)).toEqual({
      ...acme,
      lastEvent: { webhook: undefined, queue: undefined, poll: undefined },
      eventsPerHour: { webhook: 0, queue: 0, poll: 0 },
      signatureFailures: 0,
      changes: { webhook: 0, queue: 0, poll: 0, reconcile: 0 },
      shares: undefined,
      countedSince: START,
      quietSince: undefined,
    });
  });

  test("should say when each kind came last, how often, and what came by which", () => {
    const { at, changed, delivered, health, pass, status } = setup();
    delivered("webhook", 0, 10);
    delivered("webhook", 1, 10);
    delivered("queue", 2);
    delivered("poll", 3);
    delivered("trigger", 3.5);
    health.signatureRefused(acme, at(3));
    changed("webhook", 1, 6);
    changed("queue", 2, 1);
    changed("poll", 3, 1);
    changed("trigger", 3, 5);
    pass(3);
    pass(3.5, 2);
    expect(status(4)).toMatchObject({
      lastEvent: { webhook: at(1), queue: at(2), poll: at(3) },
      eventsPerHour: { webhook: 5, queue: 0.25, poll: 0.25 },
      signatureFailures: 1,
      changes: { webhook: 6, queue: 1, poll: 1, reconcile: 2 },
      shares: { webhook: 0.6, queue: 0.1, poll: 0.1, reconcile: 0.2 },
    });
  });

  test("should forget what is older than a day, by the hour", () => {
    const { at, changed, delivered, status } = setup();
    delivered("webhook", 0.5, 24);
    changed("webhook", 0.5);
    delivered("webhook", 10.5, 12);
    expect(status(23.9).eventsPerHour.webhook).toBeCloseTo(36 / 23.9);
    expect(status(24)).toMatchObject({ eventsPerHour: { webhook: 0.5 }, changes: { webhook: 0 } });
    expect(status(500)).toMatchObject({ eventsPerHour: { webhook: 0 }, lastEvent: { webhook: at(10.5) } });
  });

  test("should count on when the clock is set back", () => {
    const { delivered, status } = setup();
    delivered("webhook", 30);
    delivered("webhook", 5);
    expect(status(30).eventsPerHour.webhook).toBeCloseTo(2 / 24);
  });

  test("should leave out what passes hand over that is no news", () => {
    const { pass, status } = setup();
    pass(0, 1_000, false);
    expect(status(1).changes.reconcile).toBe(0);
    pass(1, 3); // the control
    expect(status(1).changes.reconcile).toBe(3);
  });

  test("should be remembered of a bounded number of connections, the latest", () => {
    const { at, health } = setup();
    for (let i = 0; i <= 10_000; i += 1)
      health.delivered({ provider: "crm", connection: String(i) }, "webhook", 1, at(0));
    expect(health.connections()).toHaveLength(10_000);
    expect(health.lastEvents({ provider: "crm", connection: "0" })).toEqual({});
    expect(health.lastEvents({ provider: "crm", connection: "10000" })).toEqual({ webhook: START });
  });

  test("should be taken over from elsewhere where that is later", () => {
    const { at, delivered, health } = setup();
    delivered("webhook", 2);
    health.remembered(acme, { webhook: at(1), poll: at(-50) });
    expect(health.lastEvents(acme)).toEqual({ webhook: at(2), poll: at(-50) });
    health.remembered(acme, { webhook: at(3) });
    expect(health.lastEvents(acme)).toEqual({ webhook: at(3), poll: at(-50) });
    health.forget(acme);
    expect(health.lastEvents(acme)).toEqual({});
  });
});

describe("webhooks that are quiet", () => {
  test("should be suspected after an hour without an event in which passes found changes", () => {
    const { at, delivered, pass, suspects } = setup();
    delivered("webhook", 1);
    pass(1.1);
    pass(1.5, 3);
    expect(suspects(1.9)).toBeUndefined(); // a lag, perhaps
    expect(suspects(2)).toEqual({ missed: 3, quietSince: at(1), lastEventAt: at(1), signatureFailures: 0 });
  });

  test("should be suspected where no event ever came", () => {
    const { pass, suspects } = setup();
    pass(0);
    pass(1, 3);
    expect(suspects(1)).toMatchObject({ missed: 3, quietSince: START, lastEventAt: undefined });
  });

  test("should be told with how many came whose signature did not fit, of the last day", () => {
    const { at, health, pass, suspects } = setup();
    health.signatureRefused(acme, at(1));
    health.signatureRefused(acme, at(25));
    health.signatureRefused(acme, at(25));
    pass(0);
    pass(25.5, 3);
    expect(suspects(26)).toMatchObject({ missed: 3, signatureFailures: 2 });
    expect(suspects(60)).toMatchObject({ missed: 3, signatureFailures: 0 });
  });

  test("should not be suspected for few changes, nor for what happened while nobody was there", () => {
    const few = setup();
    few.pass(0);
    few.pass(1, 2);
    expect(few.suspects(2)).toBeUndefined();

    const away = setup();
    away.health.remembered(acme, { webhook: away.at(-100) });
    away.pass(0, 500); // the first pass of this process: the changes of the days before it
    expect(away.suspects(2)).toBeUndefined();
    away.pass(2, 3); // the control
    expect(away.suspects(2)).toMatchObject({ missed: 3, lastEventAt: away.at(-100) });
  });

  test("should not be suspected of a connection that is polled and never had any", () => {
    const { delivered, pass, suspects } = setup();
    delivered("poll", 0);
    pass(0);
    pass(1, 3);
    expect(suspects(2)).toBeUndefined();
    delivered("webhook", 2); // the control
    pass(4, 3);
    expect(suspects(4)).toBeDefined();
  });

  test.each(["webhook", "queue"] as const)("should be cleared by an event of a %s", (kind) => {
    const { delivered, health, pass, status, suspects, at } = setup();
    pass(0);
    pass(1, 3);
    const quiet = suspects(1);
    if (quiet !== undefined) health.quietTold(acme, quiet);
    expect(suspects(1)).toBeUndefined(); // told once
    expect(status(1).quietSince).toBe(START);
    delivered(kind, 2);
    expect(status(2).quietSince).toBeUndefined();
    pass(4, 3);
    expect(suspects(4)).toMatchObject({ missed: 3, quietSince: at(2), lastEventAt: at(2) });
  });

  test("should be cleared by a change that a webhook to another process brought", () => {
    const { changed, pass, suspects } = setup();
    pass(0);
    pass(1, 3);
    changed("poll", 1.5); // a poller is no webhook
    expect(suspects(2)).toBeDefined();
    changed("webhook", 1.5);
    expect(suspects(3)).toBeUndefined();
  });
});
