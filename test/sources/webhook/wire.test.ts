import { once } from "node:events";
import { connect as connectHttp2, createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { standardWebhooks } from "../../../src/signatures/standard-webhooks.ts";
import { TestClock } from "../../../src/testing/test-clock.ts";
import { adapters, bench, body, listenNode, servers, signed } from "./harness.ts";
import { rawClient } from "./raw-client.ts";

const lines = (headers: Record<string, string | number>) =>
  Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
const head = (headers: Record<string, string | number>, ...more: string[]) =>
  ["POST /hook?q=1 HTTP/1.1\r\n", "Host: receiver.test\r\n", ...lines(headers), ...more, "\r\n"].join("");
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);

describe.each(adapters)("on the wire, the adapter of $name", ({ name, mount }) => {
  test("should answer a body that comes byte by byte", async () => {
    const { receiver, deliveries } = bench();
    const client = rawClient((await mount(receiver)).port);
    await client.write(head({ ...signed(body), "content-length": body.length }));
    for (const byte of body) await client.write(byte);
    expect(statusOf(await client.received("accepted"))).toBe(200);
    expect(deliveries).toHaveLength(1);
  });

  test("should answer two requests sent at once, in order", async () => {
    const { receiver, deliveries } = bench();
    const client = rawClient((await mount(receiver)).port);
    const request = (text: string) => head({ ...signed(text), "content-length": text.length }) + text;
    await client.write(request('{"id":"c_1"}') + request('{"id":"c_2"}'));
    await expect.poll(() => deliveries.map(({ events }) => events[0]?.objectId)).toEqual(["c_1", "c_2"]);
  });

  test("should refuse an announced size before it reads, and let the sender see it", async () => {
    const { receiver } = bench();
    const client = rawClient((await mount(receiver)).port);
    await client.write(head({ "content-length": 2_000_000 }));
    const answer = await client.received("BODY_TOO_LARGE");
    expect(statusOf(answer)).toBe(413);
    // A sender that writes all it has before it reads is not reset either.
    await client.write(Buffer.alloc(2_000_000));
  });

  test("should time a slow body out by its own clock, and leave no timer", async () => {
    const clock = new TestClock();
    const { receiver, refused } = bench({ clock });
    const client = rawClient((await mount(receiver)).port);
    await client.write(head({ ...signed(body), "content-length": body.length }) + body.slice(0, 3));
    await expect.poll(() => clock.pendingTimers).toBe(1);
    await clock.advance(9_999);
    expect(refused()).toEqual([]);
    await clock.advance(1);
    expect(statusOf(await client.received("BODY_TIMEOUT"))).toBe(408);
    expect(refused()).toEqual([{ status: 408, code: "BODY_TIMEOUT" }]);
    client.socket.destroy();
    await expect.poll(() => clock.pendingTimers).toBe(0);
  });

  test("should survive a sender that goes away", async () => {
    const { receiver, refused, deliveries } = bench();
    const { port, url } = await mount(receiver);
    const client = rawClient(port);
    await client.write(head({ ...signed(body), "content-length": body.length }) + body.slice(0, 3));
    client.socket.destroy();
    await expect.poll(refused).toEqual([{ status: 400, code: "BODY_INCOMPLETE" }]);
    expect(deliveries).toEqual([]);
    const next = await fetch(url, { method: "POST", body, headers: signed(body) });
    expect(next.status).toBe(200);
  });

  test("should refuse a signature that came twice", async () => {
    const { receiver, deliveries, refused } = bench();
    const client = rawClient((await mount(receiver)).port);
    const headers = signed(body);
    const again = lines({ "X-Hub-Signature-256": headers["x-hub-signature-256"] ?? "" });
    await client.write(head({ ...headers, "content-length": body.length }, ...again) + body);
    await expect.poll(refused).toHaveLength(1);
    // Headers has joined the two by the time the receiver sees them.
    const expected = name === "Hono" ? [401, "SIGNATURE_INVALID"] : [400, "HEADER_REPEATED"];
    expect(refused()).toEqual([{ status: expected[0], code: expected[1] }]);
    expect(deliveries).toEqual([]);
  });

  test("should know method, address and headers, without trusting what forwards", async () => {
    const seen: unknown[] = [];
    const { receiver } = bench({
      webhook: {
        events: (delivery) => {
          seen.push(delivery.method, delivery.url, delivery.header("X-OWN"), delivery.header("x-none"));
          return [];
        },
      },
    });
    const client = rawClient((await mount(receiver)).port);
    const forged = {
      "x-forwarded-host": "evil.test",
      "x-forwarded-proto": "https",
      forwarded: "host=evil.test",
    };
    await client.write(
      head({ ...signed(body), ...forged, "x-own": "yes", "content-length": body.length }) + body,
    );
    await client.received("accepted");
    expect(seen).toEqual(["POST", "http://receiver.test/hook?q=1", "yes", undefined]);
  });

  test("should never accept a list of signatures that two headers make", async () => {
    const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const { receiver, refused } = bench({ webhook: { verify: standardWebhooks({ secret }) } });
    const client = rawClient((await mount(receiver)).port);
    const now = Math.floor(Date.now() / 1_000);
    const headers = { "webhook-id": "msg_1", "webhook-timestamp": now, "content-length": body.length };
    await client.write(
      head(
        headers,
        ...lines({ "webhook-signature": "v1,AAAA" }),
        ...lines({ "Webhook-Signature": "v1,BBBB" }),
      ) + body,
    );
    await expect.poll(refused).toMatchObject([{ status: name === "Hono" ? 401 : 400 }]);
  });
});

describe("the adapter of node:http", () => {
  const node = servers["node:http"]!;

  test("should keep a connection whose refused body ended", async () => {
    const { receiver } = bench();
    const client = rawClient((await node(receiver)).port);
    await client.write(head({ "content-encoding": "gzip", "content-length": 3 }) + "abc");
    await client.received("ENCODING_NOT_SUPPORTED");
    await client.write(head({ ...signed(body), "content-length": body.length }) + body);
    await client.received("accepted");
  });

  test("should close on a sender that does not stop", async () => {
    const clock = new TestClock();
    const { receiver } = bench({ clock });
    const client = rawClient((await node(receiver)).port);
    await client.write(head({ "transfer-encoding": "chunked" }));
    const chunk = `${(1_048_576).toString(16)}\r\n${" ".repeat(1_048_576)}\r\n`;
    let sent = 0;
    while (sent < 64 && (await client.write(chunk))) sent += 1;
    expect(statusOf(await client.closed)).toBe(413);
    expect(sent).toBeLessThan(64);
    await expect.poll(() => clock.pendingTimers).toBe(0);
  });

  test("should not drain for ever either", async () => {
    const clock = new TestClock();
    const { receiver } = bench({ clock });
    const client = rawClient((await node(receiver)).port);
    await client.write(head({ "content-length": 2_000_000 }));
    await client.received("BODY_TOO_LARGE");
    await expect.poll(() => clock.pendingTimers).toBe(1);
    await clock.advance(10_000);
    expect(statusOf(await client.closed)).toBe(413);
  });

  test("should refuse any header twice that it reads itself", async () => {
    for (const twice of ["content-encoding", "content-type"]) {
      const { receiver, refused } = bench();
      const client = rawClient((await node(receiver)).port);
      const headers = { ...signed(body), "content-length": body.length };
      await client.write(
        head(headers, ...lines({ [twice]: "identity" }), ...lines({ [twice.toUpperCase()]: "identity" })) +
          body,
      );
      expect(statusOf(await client.received("HEADER_REPEATED"))).toBe(400);
      expect(refused()).toEqual([{ status: 400, code: "HEADER_REPEATED" }]);
    }
  });

  test("should set no timer for bodies that come with their heads", async () => {
    const clock = new TestClock();
    let timers = 0;
    const setTimer = (callback: () => void, delayMs: number) => {
      timers += 1;
      return clock.setTimer(callback, delayMs);
    };
    const { receiver, deliveries } = bench({
      clock: { now: clock.now, monotonic: clock.monotonic, setTimer },
    });
    const client = rawClient((await node(receiver)).port);
    for (let at = 0; at < 5; at += 1) {
      const text = `{"id":"c_${at}"}`;
      await client.write(head({ ...signed(text), "content-length": text.length }) + text);
      await expect.poll(() => deliveries).toHaveLength(at + 1);
    }
    expect(timers).toBe(0);
  });

  test("should leave alone what somebody else has answered", async () => {
    const { receiver, deliveries, events } = bench();
    const answered = Promise.withResolvers<void>();
    const { url } = await listenNode((request, response) => {
      response.end("mine");
      void Promise.resolve(receiver.node(request, response)).then(answered.resolve);
    });
    expect(await (await fetch(url, { method: "POST", body, headers: signed(body) })).text()).toBe("mine");
    await answered.promise;
    expect(deliveries).toHaveLength(1);
    expect(events).toEqual([]);
  });

  test("should serve the compatibility API of HTTP/2", async () => {
    const seen: string[] = [];
    const events = (delivery: { url: string }) => {
      seen.push(delivery.url);
      return [];
    };
    const { receiver, refused } = bench({ webhook: { events } });
    const server = createHttp2Server((request, response) => receiver.node(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    onTestFinished(() => {
      session.destroy();
      server.close();
    });
    const post = async (headers: Record<string, string>, sent: string | Buffer) => {
      const stream = session.request({ ":method": "POST", ":path": "/hook", ...headers });
      stream.on("error", () => {}); // the rest of a body that is too large is not taken
      stream.end(sent);
      const [answer] = (await once(stream, "response")) as [{ ":status": number }];
      stream.resume();
      return answer[":status"];
    };
    expect(await post(signed(body), body)).toBe(200);
    expect(seen).toEqual([`http://127.0.0.1:${port}/hook`]);
    expect(await post(signed("other"), body)).toBe(401);
    expect(await post({ "content-length": "2000000" }, Buffer.alloc(2_000_000))).toBe(413);
    expect(refused().map(({ status }) => status)).toEqual([401, 413]);
  });
});
