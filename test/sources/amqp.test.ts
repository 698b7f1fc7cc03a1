import { randomUUID } from "node:crypto";
import { connect } from "amqplib";
import { afterAll, beforeAll, expect, it, describe, test, onTestFinished } from "vitest";
import { amqpPublisher, amqpSource, type AmqpSourceOptions } from "trueup/amqp";
import { testSource } from "trueup/testing";
import type { Outcome, RawDelivery } from "../../src/core/source.ts";
import { rejection } from "../core/fakes.ts";
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
      while (greeted && rest.length >= 7 && rest.length >= 8 + rest.readUInt32BE(3)) {
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
});
