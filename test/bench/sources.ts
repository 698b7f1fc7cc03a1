/** Consuming a queue into a durable store, beside the broker's own client with an empty handler. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { DeleteMessageBatchCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import { connect as connectAmqp } from "amqplib";
import { Redis } from "ioredis";
import { type QueuePublisher, type Source, SyncEngine } from "trueup";
import { amqpPublisher, amqpSource } from "trueup/amqp";
import { hooqueSource } from "trueup/hooque";
import { natsPublisher, natsSource } from "trueup/nats";
import { redisStreamsPublisher, redisStreamsSource } from "trueup/redis-streams";
import { sqliteStore } from "trueup/sqlite";
import { sqsPublisher, sqsSource } from "trueup/sqs";
import { FakeHooque } from "trueup/testing";
import { Agent, request } from "undici";
import { FakeSqs } from "../sources/fake-sqs.ts";
import { median, ratio, temporaryDirectory, type Row } from "./report.ts";
import { quiet, thingProvider } from "./thing.ts";

/** One queue, full of messages. */
interface Stand {
  readonly publish: QueuePublisher["publish"];
  /** Consumes `count` messages with the broker's own client, and acks each. */
  readonly bare: (count: number) => Promise<void>;
  readonly source: () => Source;
  readonly close: () => Promise<void>;
}

interface Broker {
  readonly name: string;
  readonly messages: number;
  readonly open: () => Promise<Stand>;
}

/** The sources' own default. */
const PREFETCH = 256;
const provider = "bench";
const env = (name: string, fallback: string) => process.env[`TRUEUP_TEST_${name}_URL`] ?? fallback;
const uniqueName = () => `trueup-bench-${randomUUID()}`;

const rabbit: Broker = {
  name: "RabbitMQ, quorum queue",
  messages: 5_000,
  async open() {
    const url = env("AMQP", "amqp://guest:guest@127.0.0.1:5672");
    const queue = uniqueName();
    const publisher = amqpPublisher({ url, queue });
    return {
      publish: (envelope) => publisher.publish(envelope),
      source: () => amqpSource({ provider, url, queue, prefetch: PREFETCH }),
      bare: async (count) => {
        const connection = await connectAmqp(url);
        const channel = await connection.createChannel();
        await channel.prefetch(PREFETCH);
        let left = count;
        const { promise, resolve } = Promise.withResolvers<void>();
        await channel.consume(queue, (message) => {
          if (message !== null) channel.ack(message);
          if ((left -= 1) === 0) resolve();
        });
        await promise;
        await channel.close();
        await connection.close();
      },
      close: async () => {
        await publisher.close();
        const connection = await connectAmqp(url);
        const channel = await connection.createChannel();
        for (const name of [queue, `${queue}.dead`]) await channel.deleteQueue(name);
        await channel.deleteExchange(`${queue}.dead`);
        await connection.close();
      },
    };
  },
};

const nats: Broker = {
  name: "NATS JetStream",
  messages: 5_000,
  async open() {
    const url = env("NATS", "nats://127.0.0.1:4222");
    const stream = uniqueName();
    const publisher = natsPublisher({ url, stream });
    const connection = await connectNats({ servers: url });
    const manager = await jetstreamManager(connection);
    return {
      publish: (envelope) => publisher.publish(envelope),
      source: () => natsSource({ provider, url, stream, prefetch: PREFETCH }),
      bare: async (count) => {
        await manager.consumers.add(stream, {
          durable_name: "trueup",
          ack_policy: AckPolicy.Explicit,
          max_deliver: -1,
        });
        const consumer = await jetstream(connection).consumers.get(stream, "trueup");
        const messages = await consumer.consume({ max_messages: PREFETCH });
        let left = count;
        for await (const message of messages) {
          message.ack();
          if ((left -= 1) === 0) break;
        }
        await connection.flush();
      },
      close: async () => {
        await publisher.close();
        await manager.streams.delete(stream);
        await manager.streams.delete(`${stream}-dead`);
        await connection.close();
      },
    };
  },
};

const redis: Broker = {
  name: "Redis Streams",
  messages: 5_000,
  async open() {
    const url = env("REDIS", "redis://127.0.0.1:6379");
    const stream = uniqueName();
    const publisher = redisStreamsPublisher({ url, stream });
    const client = new Redis(url);
    return {
      publish: (envelope) => publisher.publish(envelope),
      source: () => redisStreamsSource({ provider, url, stream, prefetch: PREFETCH, trim: false }),
      bare: async (count) => {
        await client.xgroup("CREATE", stream, "bare", "0");
        for (let left = count; left > 0;) {
          const reply = await client.xreadgroup(
            "GROUP",
            "bare",
            "c",
            "COUNT",
            PREFETCH,
            "STREAMS",
            stream,
            ">",
          );
          const [[, entries] = ["", []]] = (reply ?? []) as [string, [string, string[]][]][];
          await client.xack(stream, "bare", ...entries.map(([id]) => id));
          left -= entries.length;
        }
      },
      close: async () => {
        await publisher.close();
        await client.del(stream, `${stream}:dead`);
        client.disconnect();
      },
    };
  },
};

const hooque: Broker = {
  name: "Hooque by REST, against FakeHooque in this process",
  messages: 1_500,
  async open() {
    const fake = new FakeHooque();
    const url = await fake.start();
    const dispatcher = new Agent();
    const headers = { authorization: `Bearer ${fake.token}` };
    return {
      publish: async ({ body }) => void fake.send(body),
      source: () => hooqueSource({ provider, url, token: fake.token }),
      bare: async (count) => {
        let left = count;
        const lane = async () => {
          while (left > 0) {
            const next = await request(url, { dispatcher, headers });
            await next.body.arrayBuffer();
            if (next.statusCode !== 200) return;
            left -= 1;
            const { ackUrl } = JSON.parse(String(next.headers["x-hooque-meta"])) as { ackUrl: string };
            const acked = await request(new URL(ackUrl, url), { dispatcher, headers, method: "POST" });
            await acked.body.dump();
          }
        };
        await Promise.all(Array.from({ length: 4 }, lane));
      },
      close: async () => {
        await dispatcher.destroy();
        await fake.close();
      },
    };
  },
};

const sqs: Broker = {
  name: "SQS, against a stand-in in this process",
  messages: 1_500,
  async open() {
    const fake = new FakeSqs();
    const endpoint = await fake.start();
    fake.createQueue("dead");
    const queueUrl = fake.createQueue("queue", { to: "dead", maxReceiveCount: 100 });
    const credentials = { accessKeyId: fake.accessKeyId, secretAccessKey: "secret" };
    const config = { endpoint, region: "us-east-1", credentials };
    const publisher = sqsPublisher({ queueUrl, sqs: config });
    return {
      publish: (envelope) => publisher.publish(envelope),
      source: () => sqsSource({ provider, queueUrl, sqs: config }),
      bare: async (count) => {
        const client = new SQSClient(config);
        let left = count;
        const lane = async () => {
          while (left > 0) {
            const asked = new ReceiveMessageCommand({ QueueUrl: queueUrl, MaxNumberOfMessages: 10 });
            const { Messages = [] } = await client.send(asked);
            if (Messages.length === 0) return;
            left -= Messages.length;
            const Entries = Messages.map(({ ReceiptHandle }, i) => ({ Id: `${i}`, ReceiptHandle }));
            await client.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
          }
        };
        await Promise.all([lane(), lane()]);
        client.destroy();
      },
      close: async () => {
        await publisher.close();
        await fake.close();
      },
    };
  },
};

async function fill(stand: Stand, messages: number): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < messages) {
      const id = (next += 1);
      const content = {
        id: `evt_${id}`,
        type: "thing.updated",
        object: `t_${id}`,
        version: 1,
        note: "x".repeat(200),
      };
      const body = Buffer.from(JSON.stringify(content));
      await stand.publish({ headers: new Map([["content-type", "application/json"]]), body });
    }
  };
  await Promise.all(Array.from({ length: 64 }, lane));
}

/** @returns messages a second */
async function timed(messages: number, consume: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await consume();
  return messages / ((performance.now() - startedAt) / 1_000);
}

async function ours(stand: Stand, messages: number): Promise<number> {
  using directory = temporaryDirectory();
  const engine = new SyncEngine({
    providers: [thingProvider({})],
    store: sqliteStore({ path: join(directory.path, "sources.db") }),
    sources: [stand.source()],
    logger: quiet,
  });
  engine.handle("bench.thing", () => {});
  const all = Promise.withResolvers<void>();
  let left = messages;
  engine.on("delivery", ({ status }) => {
    if (status === "accepted" && (left -= 1) === 0) all.resolve();
  });
  const rate = await timed(messages, async () => {
    await engine.start({ work: false });
    await all.promise;
  });
  await engine.stop();
  return rate;
}

async function round({ messages, open }: Broker, kind: "bare" | "ours"): Promise<number> {
  const stand = await open();
  try {
    await fill(stand, messages);
    return kind === "bare" ? await timed(messages, () => stand.bare(messages)) : await ours(stand, messages);
  } finally {
    await stand.close();
  }
}

export async function sources(rounds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const broker of [rabbit, nats, redis, hooque, sqs]) {
    const rates = { bare: [] as number[], ours: [] as number[] };
    for (let i = 0; i < rounds; i += 1) {
      for (const kind of i % 2 === 0 ? (["bare", "ours"] as const) : (["ours", "bare"] as const)) {
        rates[kind].push(await round(broker, kind));
      }
    }
    rows.push(
      { what: `${broker.name}, messages/s: its client`, value: median(rates.bare) },
      {
        what: `${broker.name}, messages/s: trueup on SQLite (FULL)`,
        value: median(rates.ours),
        ratio: ratio(rates.ours, rates.bare),
      },
    );
  }
  return rows;
}
