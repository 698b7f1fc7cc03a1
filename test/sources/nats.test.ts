import { randomUUID } from "node:crypto";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, it } from "vitest";
import { natsPublisher, natsSource } from "trueup/nats";
import { testSource } from "trueup/testing";
import { describeWith, serviceUrl } from "../services.ts";
import { proxied } from "./tcp-proxy.ts";

describeWith("nats")("NATS JetStream", () => {
  let connection: NatsConnection;
  let admin: JetStreamManager;
  beforeAll(async () => {
    connection = await connect({ servers: serviceUrl("nats") });
    admin = await jetstreamManager(connection);
  });
  afterAll(() => connection.close());

  testSource(
    { describe, it },
    {
      create: async () => {
        const stream = `trueup-test-${randomUUID()}`;
        const { proxy, url } = await proxied(serviceUrl("nats"));
        const publisher = natsPublisher({ url: serviceUrl("nats"), stream });
        const messages = async (name: string) => (await admin.streams.info(name)).state.messages;
        return {
          source: (wish) => natsSource({ ...wish, url, stream, ackWaitMs: 1_500 }),
          send: ({ body, headers = {} }) =>
            publisher.publish({ headers: new Map(Object.entries(headers)), body }),
          remaining: () => messages(stream), // a work queue drops what is acked
          deadLetters: async () => {
            const found: Uint8Array[] = [];
            for (let seq = 1; seq <= (await messages(`${stream}-dead`)); seq += 1) {
              const message = await admin.streams.getMessage(`${stream}-dead`, { seq });
              if (message !== null) found.push(message.data);
            }
            return found;
          },
          cut: () => proxy.cut(),
          dispose: async () => {
            await publisher.close();
            await proxy.stop();
            await admin.streams.delete(stream);
            await admin.streams.delete(`${stream}-dead`);
          },
        };
      },
    },
  );
});
