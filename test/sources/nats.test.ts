import { randomUUID } from "node:crypto";
import {
  AckPolicy,
  jetstream,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
} from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, test } from "vitest";
import { natsPublisher, natsSource, type NatsSourceOptions } from "trueup/nats";
import { testSource } from "trueup/testing";
import { sleep, systemClock } from "../../src/core/clock.ts";
import { TrueupError } from "../../src/core/errors.ts";
import type { Outcome, RawDelivery } from "../../src/core/source.ts";
import { rejection } from "../core/fakes.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { OwnServer } from "./own-server.ts";
import { proxied } from "./tcp-proxy.ts";

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

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

  /** A source over a stream of the test's own. */
  const setup = (given: Partial<NatsSourceOptions> = {}) => {
    const stream = `trueup-test-${randomUUID()}`;
    const url = serviceUrl("nats");
    const publisher = natsPublisher({ url, stream });
    const stop = new AbortController();
    const seen: RawDelivery[] = [];
    let become: () => Outcome | Promise<Outcome> = () => accepted;
    const run = (options: Partial<NatsSourceOptions> = {}, { signal } = stop) => {
      const source = natsSource({ provider: "crm", url, stream, ...given, ...options });
      const running = source.run(async (deliveries) => {
        seen.push(...(deliveries as RawDelivery[]));
        return Promise.all(deliveries.map(async () => become()));
      }, signal);
      running.catch(() => {});
      return running;
    };
    onTestFinished(async () => {
      stop.abort();
      await publisher.close();
      await admin.streams.delete(stream).catch(() => {}); // some tests make none
      await admin.streams.delete(`${stream}-dead`).catch(() => {});
    });
    return { publisher, run, seen, stop, stream, url, becomes: (next: typeof become) => (become = next) };
  };
  const left = async (stream: string) => (await admin.streams.info(stream)).state.messages;
  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    for (let looks = 0; !(await holds()); looks += 1) {
      if (looks > 1_000) throw new Error(`waited in vain: ${what}`);
      await sleep(systemClock, 10);
    }
  };
  const envelope = { headers: new Map([["x-topic", "a"]]), body: Buffer.from("{}") };

  test("should say that it works on while it does, so that nobody else gets the message", async () => {
    const at = setup({ ackWaitMs: 1_000 });
    const work = Promise.withResolvers<void>();
    at.becomes(async () => {
      await work.promise;
      return accepted;
    });
    await at.publisher.publish(envelope);
    void at.run();
    await until("it should come", () => at.seen.length === 1);
    // Control: one that says nothing loses its message in the same time, twice.
    const silent = setup();
    await admin.streams.add({ name: silent.stream, subjects: [silent.stream] });
    await admin.consumers.add(silent.stream, {
      durable_name: "silent",
      ack_policy: AckPolicy.Explicit,
      ack_wait: 1_000 * 1_000_000,
    });
    const client = jetstream(connection);
    await client.publish(silent.stream, "{}");
    const consumer = await client.consumers.get(silent.stream, "silent");
    let deliveries = 0;
    while (deliveries < 3)
      deliveries = (await consumer.next({ expires: 5_000 }))?.info.deliveryCount ?? deliveries;
    const { num_redelivered } = await admin.consumers.info(at.stream, "trueup");
    expect(num_redelivered).toBe(0);
    work.resolve();
    await until("it should be acked", async () => (await left(at.stream)) === 0);
    expect(at.seen).toHaveLength(1);
  });

  test("should put the reason beside a dead letter, and pass on no orders to the server", async () => {
    const at = setup();
    at.becomes(() => ({ ...accepted, status: "rejected", error: new TrueupError("EVENTS_FAILED", "no") }));
    await at.publisher.publish({
      headers: new Map([
        ["nats-rollup", "all"],
        ["x-topic", "a"],
      ]),
      body: Buffer.from("{}"),
    });
    void at.run();
    await until("it should be gone", async () => (await left(at.stream).catch(() => 1)) === 0);
    const letter = await admin.streams.getMessage(`${at.stream}-dead`, { seq: 1 });
    expect(letter?.header.get("trueup-reason")).toBe("EVENTS_FAILED: no");
    expect(letter?.header.get("x-topic")).toBe("a");
    expect(letter?.header.has("nats-rollup")).toBe(false);
  });

  test("should not use a stream that is otherwise than it should be, nor make one where it is only to look", async () => {
    const at = setup();
    expect(await rejection(at.run({ topology: "check" }))).toMatchObject({ code: "OPTION_INVALID" });
    await admin.streams.add({ name: at.stream, subjects: [`${at.stream}.other`] });
    expect(await rejection(at.run())).toMatchObject({ code: "OPTION_INVALID" });
    const wrong = natsPublisher({ url: at.url, stream: at.stream, topology: "check" });
    expect(await rejection(wrong.publish(envelope))).toMatchObject({ code: "NETWORK" });
    await wrong.close();
  });

  test("should not consume where it is only to look and rejected messages have nowhere to go", async () => {
    const at = setup();
    at.becomes(() => ({ ...accepted, status: "rejected" }));
    await admin.streams.add({ name: at.stream, subjects: [at.stream], retention: RetentionPolicy.Workqueue });
    const error = await rejection(at.run({ topology: "check" }));
    expect(error).toMatchObject({ code: "OPTION_INVALID" });
    expect(error.message).toContain(`${at.stream}-dead`);
    // Control: any stream will do that takes them in.
    await admin.streams.add({ name: `${at.stream}-others`, subjects: [`${at.stream}-dead`] });
    const publisher = natsPublisher({ url: at.url, stream: at.stream, topology: "check" });
    await publisher.publish(envelope);
    await publisher.close();
    const running = at.run({ topology: "check" });
    await until("it should be dead", async () => (await left(`${at.stream}-others`)) === 1);
    at.stop.abort();
    await running;
    await admin.streams.delete(`${at.stream}-others`);
  });

  test("should work on with a consumer whose lease is another than it was", async () => {
    const at = setup();
    for (const ackWaitMs of [5_000, 9_000]) {
      await at.publisher.publish(envelope);
      const stop = new AbortController();
      const running = at.run({ ackWaitMs }, stop);
      await until("it should be acked", async () => (await left(at.stream)) === 0);
      stop.abort();
      await running;
      const { config } = await admin.consumers.info(at.stream, "trueup");
      expect(config.ack_wait).toBe(ackWaitMs * 1_000_000);
    }
  });

  test("should say clearly that the password is refused, without it", async () => {
    const server = await OwnServer.start("nats", ["--user", "user", "--pass", "right"]);
    onTestFinished(() => server.remove());
    const source = natsSource({
      provider: "crm",
      url: `nats://127.0.0.1:${server.port}`,
      stream: "s",
      nats: { user: "user", pass: "hunter2" },
    });
    const error = await rejection(source.run(async () => [], new AbortController().signal));
    expect(error).toMatchObject({ code: "UNAUTHORIZED" });
    expect(`${error.message} ${String(error.cause)}`).not.toContain("hunter2");
  });

  test.each<[string, Partial<NatsSourceOptions>]>([
    ["url", { url: [] }],
    ["stream", { stream: "a.b" }],
    ["topology", { topology: "make" as never }],
    ["consumer", { consumer: "" }],
    ["ackWaitMs", { ackWaitMs: 10 }],
  ])("should refuse a wrong `%s`", (name, options) => {
    expect(() => natsSource({ provider: "crm", url: "nats.example", stream: "s", ...options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}\``) }),
    );
  });
});
