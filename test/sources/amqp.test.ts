import { randomUUID } from "node:crypto";
import { connect } from "amqplib";
import { afterAll, beforeAll, expect, it, describe, test, onTestFinished } from "vitest";
import { amqpPublisher, amqpSource, type AmqpSourceOptions } from "trueup/amqp";
import { testSource } from "trueup/testing";
import { TrueupError } from "../../src/core/errors.ts";
import type { Outcome } from "../../src/core/source.ts";
import { rejection, turn } from "../core/fakes.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { proxied } from "./tcp-proxy.ts";

/** Counts the acks that clients send. */
function ackCounter() {
  let count = 0;
  const listen = () => {
    let rest = Buffer.alloc(0);
    let greeted = false;
    return (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      if (!greeted && rest.length >= 8) {
        greeted = true;
        rest = rest.subarray(8); // "AMQP" and the version
      }
      // A frame: type, channel, size, payload, end. Of a method, the payload begins with class and method.
      if (!greeted) return;
      while (rest.length >= 7 && rest.length >= 8 + rest.readUInt32BE(3)) {
        const size = rest.readUInt32BE(3);
        const isMethod = rest.readUInt8(0) === 1;
        if (isMethod && rest.readUInt16BE(7) === 60 && rest.readUInt16BE(9) === 80) count += 1;
        rest = rest.subarray(8 + size);
      }
    };
  };
  return { listen, count: () => count };
}

type Admin = Awaited<ReturnType<typeof connect>>;

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

describeWith("amqp")("RabbitMQ", () => {
  let admin: Admin;
  beforeAll(async () => void (admin = await connect(serviceUrl("amqp"))));
  afterAll(async () => admin.close());

  const newQueue = () => {
    const queue = `trueup-test-${randomUUID()}`;
    const dispose = async () => {
      const channel = await admin.createChannel();
      await channel.deleteQueue(queue);
      await channel.deleteQueue(`${queue}.dead`);
      await channel.deleteExchange(`${queue}.dead`);
      await channel.close();
    };
    return { queue, dispose };
  };
  /** What lies in a queue; it stays there. */
  const peek = async (queue: string) => {
    const channel = await admin.createChannel();
    const found = [];
    for (let got = await channel.get(queue); got !== false; got = await channel.get(queue)) found.push(got);
    await channel.close();
    return found;
  };

  testSource(
    { describe, it },
    {
      create: async () => {
        const { dispose, queue } = newQueue();
        const { proxy, url } = await proxied(serviceUrl("amqp"));
        const publisher = amqpPublisher({ url: serviceUrl("amqp"), queue });
        const acks = ackCounter();
        proxy.listen = acks.listen;
        let sent = 0;
        return {
          source: (wish) => amqpSource({ ...wish, url, queue }),
          send: async ({ body, headers = {} }) => {
            await publisher.publish({ headers: new Map(Object.entries(headers)), body });
            sent += 1;
          },
          // A queue tells how many messages nobody holds, and no more: that those in hands are acked, the wire tells.
          remaining: async () => sent - acks.count(),
          deadLetters: async () => (await peek(`${queue}.dead`)).map(({ content }) => content),
          cut: () => proxy.cut(),
          dispose: async () => {
            await publisher.close();
            await proxy.stop();
            await dispose();
          },
        };
      },
    },
  );

  /** Runs a source over a queue of the test's own. */
  const setup = async (given: Partial<AmqpSourceOptions> = {}, status: Outcome["status"] = "accepted") => {
    const { dispose, queue } = newQueue();
    const { proxy, url } = await proxied(serviceUrl("amqp"));
    const publisher = amqpPublisher({ url, queue });
    const stop = new AbortController();
    const run = (options: Partial<AmqpSourceOptions> = {}) => {
      const source = amqpSource({ provider: "crm", url, queue, ...given, ...options });
      const error = new TrueupError("EVENTS_FAILED", "cannot be read");
      const running = source.run(
        async (deliveries) => deliveries.map(() => ({ ...accepted, status, error })),
        stop.signal,
      );
      running.catch(() => {});
      return running;
    };
    onTestFinished(async () => {
      stop.abort();
      await publisher.close();
      await proxy.stop();
      await dispose();
    });
    return { proxy, publisher, queue, run, stop, url };
  };
  const envelope = { headers: new Map([["x-topic", "a"]]), body: Buffer.from("{}") };
  const ready = async (queue: string) => {
    const channel = await admin.createChannel();
    const { messageCount } = await channel.checkQueue(queue);
    await channel.close();
    return messageCount;
  };

  test("should put the reason beside a dead letter, and leave its headers as they are", async () => {
    const at = await setup({}, "rejected");
    await at.publisher.publish(envelope);
    const running = at.run();
    while ((await ready(`${at.queue}.dead`)) === 0) await turn();
    const [letter] = await peek(`${at.queue}.dead`);
    expect(letter?.properties.headers).toMatchObject({
      "x-topic": "a",
      "trueup-reason": "EVENTS_FAILED: cannot be read",
    });
    at.stop.abort();
    await running;
    expect(await ready(at.queue)).toBe(0);
  });

  test("should bury a message that says whose it is, when it expires, and where it goes besides", async () => {
    const at = await setup({}, "rejected");
    await at.publisher.publish(envelope); // makes the queue
    const channel = await admin.createConfirmChannel();
    await channel.purgeQueue(at.queue);
    const headers = { "x-topic": "a", CC: [at.queue] };
    channel.sendToQueue(at.queue, Buffer.from("{}"), { userId: "guest", expiration: 60_000, headers });
    await channel.waitForConfirms();
    await channel.close();
    const running = at.run();
    while ((await ready(`${at.queue}.dead`)) === 0) await turn();
    const letters = await peek(`${at.queue}.dead`);
    expect(letters[0]?.properties).toMatchObject({
      headers: { "x-topic": "a" },
      userId: undefined,
      expiration: undefined,
    });
    at.stop.abort();
    await running;
  });

  test("should say clearly that the password is refused, without it", async () => {
    const at = await setup();
    const url = new URL(serviceUrl("amqp"));
    url.password = "hunter2";
    const error = await rejection(at.run({ url: url.href }));
    expect(error).toMatchObject({ code: "UNAUTHORIZED" });
    expect(`${error.message} ${String(error.cause)}`).not.toContain("hunter2");
  });

  test("should not use a queue that is otherwise than it should be, unless it is told to", async () => {
    const at = await setup();
    const channel = await admin.createChannel();
    await channel.assertQueue(at.queue, { durable: true, arguments: { "x-queue-type": "classic" } });
    await channel.close();
    expect(await rejection(at.run())).toMatchObject({ code: "OPTION_INVALID" });
    const checked = amqpPublisher({ url: at.url, queue: at.queue, topology: "check" });
    await checked.publish(envelope);
    await checked.close();
    const running = at.run({ topology: "check" });
    while ((await ready(at.queue)) > 0) await turn();
    at.stop.abort();
    await running;
  });

  test("should not make a queue where it is only to look for one", async () => {
    const at = await setup();
    expect(await rejection(at.run({ topology: "check" }))).toMatchObject({ code: "OPTION_INVALID" });
  });

  test("should be published to by several who make it at once: it has no leader for a moment", async () => {
    for (let round = 0; round < 8; round += 1) {
      const { dispose, queue } = newQueue();
      const publishers = Array.from({ length: 4 }, () => amqpPublisher({ url: serviceUrl("amqp"), queue }));
      await Promise.all(publishers.map((publisher) => publisher.publish(envelope)));
      expect(await ready(queue)).toBe(4);
      await Promise.all(publishers.map((publisher) => publisher.close()));
      await dispose();
    }
  });

  test("should confirm nothing that reaches no queue, nor while it cannot reach the broker", async () => {
    const at = await setup();
    await at.publisher.publish(envelope);
    const channel = await admin.createChannel();
    await channel.deleteQueue(at.queue);
    expect(await rejection(at.publisher.publish(envelope))).toMatchObject({ code: "OPTION_INVALID" });
    at.proxy.cut();
    // The first may find the connection broken; a later one makes another, and the queue with it.
    for (;;) {
      const failed = await at.publisher.publish(envelope).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failed === undefined) break;
      expect(failed).toMatchObject({ code: expect.stringMatching(/^(NETWORK|OPTION_INVALID)$/) });
    }
    expect(await ready(at.queue)).toBe(1);
    await channel.close();
  });

  test.each<[string, Partial<AmqpSourceOptions>]>([
    ["url", { url: "http://rabbit.example" }],
    ["queue", { queue: "" }],
    ["topology", { topology: "make" as never }],
    ["deadLetterExchange", { deadLetterExchange: "x" }],
  ])("should refuse a wrong `%s`", (name, options) => {
    const url = "amqp://rabbit.example";
    expect(() => amqpSource({ provider: "crm", url, queue: "q", ...options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});
