/**
 * The conformance suite of queue sources (`src/sources/queue/driver.ts`): what the contract says, as tests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { TrueupError } from "../core/errors.ts";
import { outcome, PROVIDER, SourceTest, type SourceSuiteOptions } from "./source-suite/fixture.ts";
import type { TestRunner } from "./store-suite/fixture.ts";

/** What a queue of texts keeps too. */
const TEXT = Uint8Array.from(Buffer.from('{"name":"Grüße"}'));

type Body = (test: SourceTest) => Promise<void>;

/** Bytes that no text survives: not UTF-8, with a NUL and a line break. */
const BYTES = Uint8Array.from([0x7b, 0x00, 0xff, 0xfe, 0x0d, 0x0a, 0x80, 0x7d]);

const tests: Readonly<Record<string, Body>> = {
  async "should hand over the bytes as they were sent, with an id and the time"(test) {
    const sent = test.options.keepsBytes === false ? TEXT : BYTES;
    await test.subject.send({ body: sent });
    test.run();
    await test.until("the message should come", () => test.seen.length === 1);
    const [raw] = test.seen;
    assert.equal(raw?.provider, PROVIDER);
    assert.equal(raw.verify, false);
    assert.deepEqual(Uint8Array.from(raw.delivery.body), sent);
    assert.ok(raw.delivery.id !== undefined && raw.delivery.id !== "", "messages have ids");
    assert.ok(raw.delivery.receivedAt > 0);
    await test.untilRemaining(0);
  },

  async "should hand over the headers as they were sent, whatever the case of their names"(test) {
    if (test.options.keepsHeaders === false) return;
    const value = 'sha256=ab+/=; "quoted"';
    await test.subject.send({ body: BYTES, headers: { "X-Signature": value, "x-topic": "contact/update" } });
    test.run();
    await test.until("the message should come", () => test.seen.length === 1);
    assert.equal(test.seen[0]?.delivery.header("x-signature"), value);
    assert.equal(test.seen[0].delivery.header("X-TOPIC"), "contact/update");
    assert.equal(test.seen[0].delivery.header("x-other"), undefined);
  },

  async "should ack nothing before the sink says so"(test) {
    const committed = Promise.withResolvers<void>();
    test.become = async () => {
      await committed.promise;
      return outcome("accepted");
    };
    await test.send("a");
    test.run();
    await test.until("the message should come", () => test.seen.length === 1);
    assert.equal(await test.subject.remaining(), 1);
    committed.resolve();
    await test.untilRemaining(0);
  },

  async "should ack what is accepted, a duplicate or ignored"(test) {
    test.become = (text) => outcome(text as "accepted");
    await test.send("accepted", "duplicate", "ignored");
    test.run();
    await test.untilRemaining(0);
    assert.deepEqual(test.texts.toSorted(), ["accepted", "duplicate", "ignored"]);
    assert.deepEqual(await test.subject.deadLetters(), []);
  },

  async "should put what is rejected among the dead letters, with its bytes"(test) {
    test.become = () => outcome("rejected", { error: new TrueupError("EVENTS_FAILED", "cannot be read") });
    const sent = test.options.keepsBytes === false ? TEXT : BYTES;
    await test.subject.send({ body: sent });
    test.run();
    await test.until("there should be a dead letter", async () => {
      return (await test.subject.deadLetters()).length === 1;
    });
    assert.deepEqual(
      (await test.subject.deadLetters()).map((body) => Uint8Array.from(body)),
      [sent],
    );
    await test.untilRemaining(0);
    assert.equal(test.seen.length, 1);
  },

  async "should put a body over the limit among the dead letters, unseen, and take one at the limit"(test) {
    await test.send("x".repeat(100), "y".repeat(101));
    test.run({ maxBodyBytes: 100 });
    await test.until("there should be a dead letter", async () => {
      return (await test.subject.deadLetters()).length === 1;
    });
    await test.untilRemaining(0);
    assert.deepEqual(test.texts, ["x".repeat(100)]);
    assert.ok(test.told.some(({ name }) => name === "delivery.refused"));
  },

  async "should deliver again what cannot be taken now, under the same id"(test) {
    test.become = () => outcome(test.seen.length === 1 ? "retry" : "accepted", { retryAfterMs: 1 });
    await test.send("a");
    test.run();
    await test.untilRemaining(0);
    assert.deepEqual(test.texts, ["a", "a"]);
    assert.equal(test.seen[0]?.delivery.id, test.seen[1]?.delivery.id);
  },

  async "should give different messages different ids, also where their bytes are the same"(test) {
    await test.send("a", "a");
    test.run();
    await test.untilRemaining(0);
    assert.notEqual(test.seen[0]?.delivery.id, test.seen[1]?.delivery.id);
  },

  async "should hold no more messages than its prefetch, and go on as they are settled"(test) {
    let held = 0;
    let most = 0;
    const full = Promise.withResolvers<void>();
    test.become = async () => {
      most = Math.max(most, (held += 1));
      if (held === 3) full.resolve();
      await full.promise;
      held -= 1;
      return outcome("accepted");
    };
    await test.send(...Array.from({ length: 12 }, (_, i) => `m${i}`));
    test.run({ prefetch: 3 });
    await test.untilRemaining(0);
    assert.equal(new Set(test.texts).size, 12);
    assert.equal(most, 3);
  },

  async "should wait on an empty queue, and take what comes later"(test) {
    const source = test.run();
    await test.send("a");
    await test.untilRemaining(0);
    await test.send("b");
    await test.untilRemaining(0);
    assert.deepEqual(test.texts, ["a", "b"]);
    await source.stop();
  },

  async "should settle what is in work when it stops, and leave the rest to the next consumer"(test) {
    const committed = Promise.withResolvers<void>();
    test.become = async (text) => {
      if (text === "a") await committed.promise;
      return outcome("accepted");
    };
    await test.send("a");
    const source = test.run({ prefetch: 1 });
    await test.until("the message should come", () => test.seen.length === 1);
    await test.send("b", "c");
    const stopped = source.stop();
    committed.resolve();
    await stopped;
    await test.untilRemaining(2);
    assert.deepEqual(test.texts, ["a"]);
    test.run();
    await test.untilRemaining(0);
    assert.deepEqual(test.texts.toSorted(), ["a", "b", "c"]);
  },

  async "should share the queue with other consumers"(test) {
    test.run({ prefetch: 2 });
    test.run({ prefetch: 2 });
    await test.send(...Array.from({ length: 20 }, (_, i) => `m${i}`));
    await test.untilRemaining(0);
    assert.equal(new Set(test.texts).size, 20);
    assert.equal(test.seen.length, 20);
  },

  async "should lose nothing when the connection is cut between work and ack"(test) {
    if (test.subject.cut === undefined) return;
    const cut = Promise.withResolvers<void>();
    test.become = async () => {
      if (test.seen.length === 1) await cut.promise;
      return outcome("accepted");
    };
    await test.send("a", "b");
    test.run({ prefetch: 1 });
    await test.until("the message should come", () => test.seen.length === 1);
    await test.subject.cut();
    cut.resolve();
    await test.untilRemaining(0);
    assert.ok(test.texts.includes("a") && test.texts.includes("b"));
  },
};

/**
 * Tests a queue source against the contract of its driver, over the real broker. Each test has a queue of its own.
 *
 * @example
 * import { describe, it } from "node:test";
 * import { testSource } from "trueup/testing";
 *
 * testSource({ describe, it }, { create: () => myQueue() });
 */
export function testSource(runner: TestRunner, options: SourceSuiteOptions): void {
  runner.describe("a queue source", () => {
    for (const [name, body] of Object.entries(tests)) {
      // A rest parameter: runners that count parameters would take a first one for a callback.
      runner.it(name, async (..._context: unknown[]) => {
        const test = await SourceTest.start(options);
        try {
          await body(test);
        } finally {
          await test.end();
        }
      });
    }
  });
}
