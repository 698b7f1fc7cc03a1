/** Brokers that end and are started again under load: nothing is lost, and nothing was acked early. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type QueuePublisher, type Source, SyncEngine } from "trueup";
import { amqpPublisher, amqpSource } from "trueup/amqp";
import { natsPublisher, natsSource } from "trueup/nats";
import { redisStreamsPublisher, redisStreamsSource } from "trueup/redis-streams";
import { sqliteStore } from "trueup/sqlite";
import { sleep, systemClock } from "../../src/core/clock.ts";
import { notesProvider, World } from "../engine/world.ts";
import { describeWith, type Service } from "../services.ts";
import { OwnServer } from "./own-server.ts";

const MESSAGES = 400;
const LIMIT_MS = 170_000;

interface Broker {
  readonly service: Extract<Service, "amqp" | "nats" | "redis">;
  readonly publisher: (port: number) => QueuePublisher;
  readonly source: (port: number) => Source;
  /** After which parts of the messages it ends, and how. */
  readonly ends: readonly (readonly [after: number, how: NodeJS.Signals])[];
}

/** As by a loss of power, but for what the kernel still writes. */
const TWICE_KILLED: Broker["ends"] = [
  [0.25, "SIGKILL"],
  [0.5, "SIGKILL"],
];

const brokers: Readonly<Record<string, Broker>> = {
  RabbitMQ: {
    service: "amqp",
    // In order first: until then, or for minutes, RabbitMQ 3.10 does not write down which quorum queues a node has, and
    // one that it then finds without having known it stays without a leader, whoever its client is.
    ends: [
      [0.3, "SIGTERM"],
      [0.6, "SIGKILL"],
    ],
    publisher: (port) => amqpPublisher({ url: `amqp://guest:guest@127.0.0.1:${port}`, queue: "notes" }),
    source: (port) =>
      amqpSource({ provider: "notes", url: `amqp://guest:guest@127.0.0.1:${port}`, queue: "notes" }),
  },
  "NATS JetStream": {
    service: "nats",
    ends: TWICE_KILLED,
    publisher: (port) => natsPublisher({ url: `nats://127.0.0.1:${port}`, stream: "notes" }),
    source: (port) =>
      natsSource({ provider: "notes", url: `nats://127.0.0.1:${port}`, stream: "notes", ackWaitMs: 2_000 }),
  },
  "Redis Streams": {
    service: "redis",
    ends: TWICE_KILLED,
    publisher: (port) => redisStreamsPublisher({ url: `redis://127.0.0.1:${port}`, stream: "notes" }),
    source: (port) =>
      redisStreamsSource({
        provider: "notes",
        url: `redis://127.0.0.1:${port}`,
        stream: "notes",
        leaseMs: 2_000,
      }),
  },
};

/** Publishes until it is confirmed, as a webhook's sender does. */
async function publishAll(
  publisher: QueuePublisher,
  ids: readonly string[],
  onPublished: () => void,
): Promise<void> {
  const waiting = [...ids];
  const lane = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      const body = Buffer.from(JSON.stringify([{ resource: "note", objectId: id }]));
      for (;;) {
        try {
          await publisher.publish({ headers: new Map(), body });
          break;
        } catch {
          await sleep(systemClock, 50);
        }
      }
      onPublished();
    }
  };
  await Promise.all(Array.from({ length: 4 }, lane));
}

describe.each(Object.entries(brokers))(
  "%s",
  (_, { ends, publisher: publisherAt, service, source: sourceAt }) => {
    describeWith(service)("killed under load, and started again", () => {
      test("should lose none of what it has confirmed", { timeout: LIMIT_MS }, async () => {
        const server = await OwnServer.start(service);
        const publisher = publisherAt(server.port);
        const world = new World();
        const ids = Array.from({ length: MESSAGES }, (_unused, i) => `n${i}`);
        for (const id of ids) world.put(id, "text");
        const directory = mkdtempSync(join(tmpdir(), "trueup-restart-"));
        const engine = new SyncEngine({
          providers: [notesProvider(world)],
          store: sqliteStore({ path: join(directory, "restart.db") }),
          sources: [sourceAt(server.port)],
          logger: { debug() {}, info() {}, warn() {}, error() {} },
          random: () => 0.02, // the source looks again soon
        });
        onTestFinished(async () => {
          await publisher.close();
          await engine.stop();
          await server.remove();
          rmSync(directory, { recursive: true });
        });
        const handled = new Set<string>();
        const all = Promise.withResolvers<void>();
        engine.handle("notes.note", ({ ref }) => {
          handled.add(ref.id);
          if (handled.size === MESSAGES) all.resolve();
        });
        const failures: string[] = [];
        engine.on("source.failed", ({ error }) =>
          failures.push((error as { code?: string }).code ?? error.message),
        );
        await engine.start();

        let published = 0;
        const marks = new Map(
          ends.map(([after, how]) => [MESSAGES * after, { how, reached: Promise.withResolvers<void>() }]),
        );
        const publishing = publishAll(publisher, ids, () => marks.get((published += 1))?.reached.resolve());
        for (const { how, reached } of marks.values()) {
          await reached.promise;
          await server.kill(how);
          await server.start();
        }
        await publishing;
        await all.promise;
        expect(handled.size).toBe(MESSAGES);
        // Control: the source did notice.
        expect(failures.length).toBeGreaterThanOrEqual(1);
        expect(new Set(failures)).toEqual(new Set(["NETWORK"]));
      });
    });
  },
);
