import { describe, expect, it, onTestFinished, test } from "vitest";
import { sqsPublisher, sqsSource, type SqsSourceOptions } from "trueup/sqs";
import { testSource } from "trueup/testing";
import type { Outcome } from "../../src/core/source.ts";
import { sleep, systemClock } from "../../src/core/clock.ts";
import { rejection } from "../core/fakes.ts";
import { FakeSqs } from "./fake-sqs.ts";

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

const config = (fake: FakeSqs, endpoint: string) => ({
  endpoint,
  region: "us-east-1",
  maxAttempts: 1,
  credentials: { accessKeyId: fake.accessKeyId, secretAccessKey: "secret" },
});

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let looks = 0; !holds(); looks += 1) {
    if (looks > 1_000) throw new Error(`waited in vain: ${what}`);
    await sleep(systemClock, 10);
  }
}

testSource(
  { describe, it },
  {
    create: async () => {
      const fake = new FakeSqs();
      const endpoint = await fake.start();
      fake.createQueue("dead");
      const queueUrl = fake.createQueue("queue", { to: "dead", maxReceiveCount: 100 });
      const sqs = config(fake, endpoint);
      const publisher = sqsPublisher({ queueUrl, sqs });
      return {
        source: (wish) => sqsSource({ ...wish, queueUrl, sqs, visibilityTimeoutMs: 2_000, waitMs: 1_000 }),
        send: ({ body, headers = {} }) =>
          publisher.publish({ headers: new Map(Object.entries(headers)), body }),
        remaining: async () => fake.messagesIn("queue").length,
        deadLetters: async () =>
          fake.messagesIn("dead").map(({ Body, MessageAttributes }) => {
            const encoding = MessageAttributes["trueup-encoding"]?.StringValue;
            return Buffer.from(Body, encoding === "base64" ? "base64" : "utf8");
          }),
        cut: () => fake.cut(),
        dispose: async () => {
          await publisher.close();
          await fake.close();
        },
      };
    },
  },
);

async function setup(given: Partial<SqsSourceOptions> = {}, become: () => Outcome = () => accepted) {
  const fake = new FakeSqs();
  const endpoint = await fake.start();
  fake.createQueue("dead");
  const queueUrl = fake.createQueue("queue", { to: "dead", maxReceiveCount: 100 });
  const sqs = config(fake, endpoint);
  const publisher = sqsPublisher({ queueUrl, sqs });
  const stop = new AbortController();
  const bodies: Uint8Array[] = [];
  const run = () => {
    const source = sqsSource({ provider: "crm", queueUrl, sqs, waitMs: 1_000, ...given });
    const running = source.run(async (deliveries) => {
      for (const raw of deliveries) if ("delivery" in raw) bodies.push(raw.delivery.body);
      return deliveries.map(become);
    }, stop.signal);
    running.catch(() => {});
    return running;
  };
  onTestFinished(async () => {
    stop.abort();
    await publisher.close();
    await fake.close();
  });
  return { bodies, fake, publisher, run, sqs, stop };
}

describe("SQS", () => {
  test.each<[string, Uint8Array]>([
    ["no bytes at all", new Uint8Array()],
    ["text", Buffer.from('{"name":"Grüße 🎉"}')],
    ["a control character", Buffer.from("a\u0001b")],
    ["a byte order mark", Buffer.from("\uFEFF{}")],
    ["the sign for what cannot be decoded", Buffer.from("\uFFFD")],
    ["text that reads like base64", Buffer.from("aGVsbG8=")],
    ["no text", Buffer.from([0xc3, 0x28, 0x00])],
  ])("should carry a body of %s, and give it back byte for byte", async (_, body) => {
    const at = await setup();
    await at.publisher.publish({ headers: new Map(), body });
    void at.run();
    await until("it should come", () => at.bodies.length === 1);
    expect([...at.bodies[0]!]).toEqual([...body]);
  });

  test("should be told of many acks in one request, of ten at most", async () => {
    const at = await setup({ pullers: 1 });
    for (let i = 0; i < 10; i += 1)
      await at.publisher.publish({ headers: new Map(), body: Buffer.from(`${i}`) });
    void at.run();
    await until("all should be acked", () => at.fake.messagesIn("queue").length === 0);
    expect(at.fake.calls.filter((call) => call.startsWith("Delete"))).toEqual(["DeleteMessageBatch 10"]);
  });

  test("should be told again of the acks that it did not take, and of no others", async () => {
    const at = await setup({ pullers: 1 });
    for (let i = 0; i < 10; i += 1)
      await at.publisher.publish({ headers: new Map(), body: Buffer.from(`${i}`) });
    let failures = 2;
    at.fake.entryFault = (body) => (body === "7" && failures-- > 0 ? "InternalError" : undefined);
    void at.run();
    await until("all should be acked", () => at.fake.messagesIn("queue").length === 0);
    expect(at.fake.calls.filter((call) => call.startsWith("Delete"))).toEqual([
      "DeleteMessageBatch 10",
      "DeleteMessageBatch 1",
      "DeleteMessageBatch 1",
    ]);
    expect(at.bodies).toHaveLength(10); // none came twice
  });

  test("should be asked to keep a message for longer while it is in work", async () => {
    const at = await setup({ visibilityTimeoutMs: 1_000 });
    const work = Promise.withResolvers<void>();
    const source = sqsSource({
      provider: "crm",
      queueUrl: `${at.sqs.endpoint}/000000000000/queue`,
      sqs: at.sqs,
      waitMs: 1_000,
      visibilityTimeoutMs: 1_000,
    });
    let seen = 0;
    void source.run(async () => {
      seen += 1;
      await work.promise;
      return [accepted];
    }, at.stop.signal);
    await at.publisher.publish({ headers: new Map(), body: Buffer.from("a") });
    const changes = () => at.fake.calls.filter((call) => call.startsWith("ChangeMessageVisibility")).length;
    await until("it should be kept several times over its timeout", () => changes() >= 5);
    work.resolve();
    await until("it should be acked", () => at.fake.messagesIn("queue").length === 0);
    expect(seen).toBe(1);
  });

  test("should say clearly that the credentials are refused, and not ask on", async () => {
    const at = await setup();
    const credentials = { accessKeyId: "AKIDOTHER", secretAccessKey: "hunter2" };
    const queueUrl = `${at.sqs.endpoint}/000000000000/queue`;
    const source = sqsSource({ provider: "crm", queueUrl, sqs: { ...at.sqs, credentials } });
    const error = await rejection(source.run(async () => [], at.stop.signal));
    expect(error).toMatchObject({ code: "UNAUTHORIZED" });
    expect(JSON.stringify([error, error.message])).not.toContain("hunter2");
    expect(at.fake.calls).toEqual(["GetQueueAttributes"]);
  });

  test("should say that there is no queue, or nowhere for dead letters", async () => {
    const at = await setup();
    const without = at.fake.createQueue("plain");
    const run = (queueUrl: string) =>
      rejection(sqsSource({ provider: "crm", queueUrl, sqs: at.sqs }).run(async () => [], at.stop.signal));
    expect(await run(without)).toMatchObject({
      code: "OPTION_INVALID",
      message: expect.stringContaining("deadLetterUrl"),
    });
    expect(await run(`${without}-not`)).toMatchObject({ code: "OPTION_INVALID" });
  });

  test("should keep a message among the dead letters, with its reason, when it cannot be dropped from the queue", async () => {
    const at = await setup({}, () => ({ ...accepted, status: "rejected", error: new Error("no") }));
    let failures = 1;
    at.fake.fault = (action) =>
      action === "DeleteMessageBatch" && failures-- > 0 ? "ServiceUnavailable" : undefined;
    await at.publisher.publish({ headers: new Map([["x-topic", "a"]]), body: Buffer.from("a") });
    void at.run();
    await until("it should be gone", () => at.fake.messagesIn("queue").length === 0);
    const dead = at.fake.messagesIn("dead");
    expect(dead.length).toBeGreaterThanOrEqual(1);
    expect(dead[0]!.MessageAttributes).toMatchObject({
      "trueup-reason": { StringValue: "Error" },
      "trueup-headers": { StringValue: '{"x-topic":"a"}' },
    });
  });

  test("should publish nothing that is not stored", async () => {
    const at = await setup();
    at.fake.fault = () => "hang-up";
    const envelope = { headers: new Map<string, string>(), body: Buffer.from("a") };
    expect(await rejection(at.publisher.publish(envelope))).toMatchObject({ code: "NETWORK" });
    at.fake.fault = () => undefined;
    await at.publisher.publish(envelope);
    expect(at.fake.messagesIn("queue")).toHaveLength(1);
  });

  test.each<[string, Partial<SqsSourceOptions>]>([
    ["queueUrl", { queueUrl: "queue" }],
    ["waitMs", { waitMs: 30_000 }],
    ["visibilityTimeoutMs", { visibilityTimeoutMs: 0 }],
    ["pullers", { pullers: 0 }],
  ])("should refuse a wrong `%s`", (name, options) => {
    const queueUrl = "https://sqs.example/0/queue";
    expect(() => sqsSource({ provider: "crm", queueUrl, ...options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});
