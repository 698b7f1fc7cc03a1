import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisStreamsPublisher, redisStreamsSource } from "trueup/redis-streams";
import { testSource } from "trueup/testing";
import { describeWith, serviceUrl } from "../services.ts";
import { proxied } from "./tcp-proxy.ts";

describeWith("redis")("Redis Streams", () => {
  let admin: Redis;
  beforeAll(() => void (admin = new Redis(serviceUrl("redis"))));
  afterAll(() => admin.disconnect());

  /** Entries that the group has not acked: those in hands, and those that nobody had yet. */
  const remaining = async (stream: string): Promise<number> => {
    const groups = (await admin.call("XINFO", "GROUPS", stream).catch(() => [])) as (string | number)[][];
    const [fields] = groups;
    if (fields === undefined) return await admin.xlen(stream);
    const of = (name: string) => fields[fields.indexOf(name) + 1];
    const left = await admin.xrange(stream, `(${of("last-delivered-id")}`, "+");
    return Number(of("pending")) + left.length;
  };

  testSource(
    { describe, it },
    {
      create: async () => {
        const stream = `trueup-test-${randomUUID()}`;
        const { proxy, url } = await proxied(serviceUrl("redis"));
        const publisher = redisStreamsPublisher({ url: serviceUrl("redis"), stream });
        return {
          source: (wish) => redisStreamsSource({ ...wish, url, stream, leaseMs: 1_500 }),
          send: ({ body, headers = {} }) =>
            publisher.publish({ headers: new Map(Object.entries(headers)), body }),
          remaining: () => remaining(stream),
          deadLetters: async () => {
            const entries = (await admin.callBuffer("XRANGE", `${stream}:dead`, "-", "+")) as [
              Buffer,
              Buffer[],
            ][];
            return entries.map(
              ([, fields]) => fields[fields.findIndex((field) => String(field) === "body") + 1]!,
            );
          },
          cut: () => proxy.cut(),
          dispose: async () => {
            await publisher.close();
            await proxy.stop();
            await admin.del(stream, `${stream}:dead`);
          },
        };
      },
    },
  );
});
