import { describe, expect, it, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { queueSource } from "../../src/sources/queue/source.ts";
import { type SourceSubject, testSource } from "../../src/testing/index.ts";
import { MemoryQueue, type MemoryQueueOptions } from "../sources/queue/memory-queue.ts";

function subject(queue: MemoryQueue): SourceSubject {
  let sent = 0;
  const bodies = new Map<string, Uint8Array>();
  return {
    source: (wish) => queueSource("memory", queue, wish),
    send: async ({ body, headers = {} }) => {
      const id = `m_${(sent += 1)}`;
      bodies.set(id, body);
      const named = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
      queue.send(id, body, Object.fromEntries(named) as Record<string, string>);
    },
    remaining: async () => queue.stored.size,
    deadLetters: async () => queue.dead.map(({ id }) => bodies.get(id) ?? new Uint8Array()),
    cut: () => queue.cut(),
  };
}

const create = (options?: MemoryQueueOptions) => () => subject(new MemoryQueue(systemClock, options));

testSource({ describe, it }, { create: create() });
describe("with leases, and a broker that neither waits nor delays", () => {
  testSource(
    { describe, it },
    { create: create({ leaseMs: 2_000, extends: true, waits: false, delays: false }) },
  );
});

/** Runs the suite by hand over a queue that is spoilt, and tells which tests fail. */
async function failures(spoil: (queue: MemoryQueue) => void): Promise<string[]> {
  const bodies: [string, () => Promise<void>][] = [];
  testSource(
    { describe: (_, body) => body(), it: (name, body) => bodies.push([name, () => body()]) },
    {
      patienceMs: 1_500,
      create: () => {
        const queue = new MemoryQueue(systemClock);
        spoil(queue);
        return subject(queue);
      },
    },
  );
  const results = await Promise.all(
    bodies.map(async ([name, body]) =>
      body().then(
        () => undefined,
        () => name,
      ),
    ),
  );
  return results.filter((name) => name !== undefined);
}

type Connection = Awaited<ReturnType<MemoryQueue["connect"]>>;

function spoiling(change: (connection: Connection, queue: MemoryQueue) => Partial<Connection>) {
  return (queue: MemoryQueue) => {
    const connect = queue.connect.bind(queue);
    queue.connect = async (environment) => {
      const connection = await connect(environment);
      return { ...connection, ...change(connection, queue) };
    };
  };
}

describe("the suite", () => {
  it("should pass a driver that keeps the contract", async () => {
    expect(await failures(() => {})).toEqual([]);
  });

  test.each<[string, (queue: MemoryQueue) => void, RegExp]>([
    [
      "acks on receipt",
      spoiling((connection) => ({
        receive: async (limit, signal) => {
          const messages = await connection.receive(limit, signal);
          for (const message of messages) await connection.ack(message);
          return messages;
        },
      })),
      /ack nothing before/,
    ],
    [
      "forgets what it rejects",
      spoiling((connection) => ({ reject: (message) => connection.ack(message) })),
      /dead letters/,
    ],
    [
      "acks what it should give back",
      spoiling((connection) => ({ nack: (message) => connection.ack(message) })),
      /deliver again/,
    ],
    ["never acks", spoiling(() => ({ ack: async () => {} })), /ack what is accepted/],
    [
      "decodes bodies",
      spoiling((connection) => ({
        receive: async (limit, signal) =>
          (await connection.receive(limit, signal)).map((message) => ({
            ...message,
            body: Buffer.from(Buffer.from(message.body).toString()),
          })),
      })),
      /the bytes as they were sent/,
    ],
    [
      "loses headers",
      spoiling((connection) => ({
        receive: async (limit, signal) =>
          (await connection.receive(limit, signal)).map((message) => ({ ...message, headers: new Map() })),
      })),
      /headers/,
    ],
    [
      "takes more than it is asked for",
      spoiling((connection) => ({
        receive: (_limit, signal) => connection.receive(50, signal),
      })),
      /no more messages than its prefetch/,
    ],
  ])("should catch a driver that %s", async (_, spoil, name) => {
    expect((await failures(spoil)).join("\n")).toMatch(name);
  });
});
