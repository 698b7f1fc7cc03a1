import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished, test, vi } from "vitest";
import { hooqueSource, type HooqueSourceOptions } from "trueup/hooque";
import { FakeHooque, type FakeHooqueOptions, TestClock, testSource } from "trueup/testing";
import { sleep, systemClock, type Clock } from "../../src/core/clock.ts";
import type { EventMap } from "../../src/core/hooks.ts";
import type { Outcome, RawDelivery } from "../../src/core/source.ts";
import { gate, rejection } from "../core/fakes.ts";

const accepted: Outcome = { status: "accepted", accepted: 1, duplicates: 0, ignored: 0 };

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let looks = 0; !holds(); looks += 1) {
    if (looks > 1_000) throw new Error(`waited in vain: ${what}`);
    await sleep(systemClock, 10);
  }
}

async function started(options?: FakeHooqueOptions): Promise<{ hooque: FakeHooque; url: string }> {
  const hooque = new FakeHooque(options);
  const url = await hooque.start();
  onTestFinished(() => hooque.close());
  return { hooque, url };
}

interface Setup {
  readonly fake?: FakeHooqueOptions;
  readonly source?: Partial<HooqueSourceOptions>;
  readonly clock?: Clock;
  readonly become?: (raw: RawDelivery) => Outcome | Promise<Outcome>;
}

async function setup({ become = () => accepted, clock = systemClock, fake, source: given }: Setup = {}) {
  const { hooque, url } = await started(fake);
  const seen: RawDelivery[] = [];
  const told: { name: string; event: unknown }[] = [];
  const stop = new AbortController();
  const source = hooqueSource({ provider: "crm", url, token: hooque.token, ...given });
  const run = () => {
    const running = source.run(
      async (deliveries) =>
        Promise.all(
          (deliveries as RawDelivery[]).map(async (raw) => {
            seen.push(raw);
            return become(raw);
          }),
        ),
      stop.signal,
      {
        clock,
        random: () => 0.5,
        emit: <Name extends keyof EventMap>(name: Name, event: EventMap[Name]) =>
          void told.push({ name, event }),
      },
    );
    running.catch(() => {});
    return running;
  };
  onTestFinished(() => stop.abort());
  return { hooque, run, seen, stop, told, url };
}

/** A server that answers everything alike. */
async function answering(status: number, headers: Readonly<Record<string, string>>) {
  const requests: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    requests.push(request.headers.authorization);
    response.writeHead(status, headers).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => server.close().closeAllConnections());
  return { requests, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/q/next` };
}

/** Consumes until that fails. */
function runOnce(url: string, mode: "pull" | "stream" = "pull"): Promise<void> {
  const source = hooqueSource({ provider: "crm", url, token: "hq_tok", pullers: 1, mode });
  return source.run(async () => [accepted], new AbortController().signal);
}

describe.each(["pull", "stream"] as const)("in mode %s", (mode) => {
  testSource(
    { describe, it },
    {
      keepsHeaders: mode === "pull",
      keepsBytes: mode === "pull",
      create: async () => {
        const hooque = new FakeHooque({ visibilityTimeoutMs: 5_000 });
        const url = await hooque.start();
        return {
          source: (wish) => hooqueSource({ ...wish, url, token: hooque.token, mode, maxIdleMs: 100 }),
          send: async ({ body, headers }) => void hooque.send(body, headers),
          remaining: async () => hooque.remaining,
          deadLetters: async () => hooque.deadLetters.map(({ payload }) => payload),
          cut: () => hooque.cut(),
          dispose: () => hooque.close(),
        };
      },
    },
  );

  test("should send the token with every request, and the reason with a nack or reject", async () => {
    const at = await setup({
      source: { mode },
      become: ({ delivery }) => ({
        ...accepted,
        status: delivery.json.say as "accepted",
        retryAfterMs: 1,
        error: new Error("said so"),
      }),
    });
    for (const say of ["accepted", "rejected"]) at.hooque.send({ say });
    void at.run();
    await until("both should be settled", () => at.hooque.remaining === 0);
    at.hooque.send({ say: "retry" });
    await until("a nack should come", () => at.hooque.requests.some(({ path }) => path.includes("/nack/")));
    expect(new Set(at.hooque.requests.map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${at.hooque.token}`]),
    );
    const posts = at.hooque.requests.filter(({ method }) => method === "POST");
    const bodyOf = (action: string) => posts.find(({ path }) => path.includes(`/${action}/`))?.body;
    expect([bodyOf("ack"), bodyOf("reject"), bodyOf("nack")]).toEqual([
      "",
      '{"reason":"Error"}',
      '{"reason":"Error"}',
    ]);
  });

  test("should keep every digit of long ids", async () => {
    const at = await setup({ source: { mode } });
    at.hooque.send('{"id":12345678901234567890,"part":1.5}');
    void at.run();
    await until("it should come", () => at.seen.length === 1);
    expect(at.seen[0]!.delivery.json).toEqual({ id: 12345678901234567890n, part: 1.5 });
  });

  test("should say clearly that the token is refused, and not ask on", async () => {
    const at = await setup({ source: { mode, token: "wrong", pullers: 1 } });
    const error = await rejection(at.run());
    expect(error).toMatchObject({ code: "UNAUTHORIZED", message: expect.stringContaining("HOOQUE_TOKEN") });
    expect(error.message).not.toContain("wrong");
    expect(at.hooque.requests).toHaveLength(1);
  });

  test.each([
    ["another host", "https://evil.example/ack"],
    ["another port", "http://127.0.0.1:1/ack"],
    ["another scheme", "https:/ack"],
    ["no host of its own", "//evil.example/ack"],
    ["credentials", "http://user:password@127.0.0.1/ack"],
  ])("should send no token to an action URL with %s", async (_, ackUrl) => {
    const at = await setup({ source: { mode, pullers: 1 } });
    at.hooque.meta = (meta) => ({ ...meta, ackUrl });
    at.hooque.send({});
    expect(await rejection(at.run())).toMatchObject({ code: "PATH_REFUSED" });
    expect([at.seen, at.hooque.requests.filter(({ method }) => method === "POST")]).toEqual([[], []]);
  });

  test("should take an ack that is late for an event, and the next delivery for a duplicate's", async () => {
    const work = gate<Outcome>();
    const at = await setup({
      source: { mode, maxIdleMs: 100 },
      fake: { visibilityTimeoutMs: 100 }, // much shorter than the source was told
      become: () => (at.seen.length === 1 ? work.promise : { ...accepted, status: "duplicate" }),
    });
    at.hooque.send({ id: "c_1" });
    void at.run();
    await until("the second delivery should be acked", () => at.hooque.remaining === 0);
    work.open(accepted);
    await until("the late ack should be told", () => at.told.length === 1);
    expect(at.told).toMatchObject([
      { name: "delivery.unsettled", event: { id: "msg_1", reason: "lease-lost" } },
    ]);
    expect(at.seen.map(({ delivery }) => delivery.id)).toEqual(["msg_1", "msg_1"]);
  });

  test.each<[string, () => "hang-up" | number]>([
    ["a broken connection", () => "hang-up"],
    ["a 503", () => 503],
  ])("should ack all the same after %s", async (_, fault) => {
    const at = await setup({ source: { mode } });
    let failures = 2;
    at.hooque.fault = ({ path }) => (path.includes("/ack/") && failures-- > 0 ? fault() : undefined);
    at.hooque.send({});
    void at.run();
    await until("it should be acked", () => at.hooque.acked.length === 1);
    expect([at.seen.length, at.told]).toEqual([1, []]);
  });
});

describe("pulling", () => {
  test("should pause ever longer while there is nothing, and not at all while there is something", async () => {
    const clock = new TestClock();
    const at = await setup({ clock, source: { maxIdleMs: 800, pullers: 1 } });
    const running = at.run();
    const looks = async (count: number) => {
      await until(
        `look ${count}`,
        () => at.hooque.requests.length === count && clock.nextTimerInMs! < 10_000,
      );
      return clock.nextTimerInMs;
    };
    expect(await looks(1)).toBe(75);
    await clock.advance(75);
    expect(await looks(2)).toBe(150);
    await clock.advance(150);
    expect(await looks(3)).toBe(300);
    at.hooque.send({});
    at.hooque.send({});
    await clock.advance(300);
    expect(await looks(8)).toBe(75); // found, acked, found, acked, nothing
    at.stop.abort();
    await running;
    expect(clock.pendingTimers).toBe(0);
  });

  test("should wait as long as a 429 says", async () => {
    const clock = new TestClock();
    const at = await setup({ clock, source: { pullers: 1 } });
    at.hooque.fault = () => 429;
    const running = at.run();
    await until("it should ask", () => at.hooque.requests.length === 1 && clock.nextTimerInMs! <= 1_000);
    expect(clock.nextTimerInMs).toBe(1_000);
    at.stop.abort();
    await running;
  });

  test("should reject a payload over the limit without holding it", async () => {
    const at = await setup({ source: { maxBodyBytes: 1_000 } });
    at.hooque.send("x".repeat(100_000));
    void at.run();
    await until("there should be a dead letter", () => at.hooque.deadLetters.length === 1);
    expect(at.hooque.deadLetters[0]!.reason).toMatch(/^BODY_TOO_LARGE/);
    expect(at.seen).toEqual([]);
  });

  test.each<[string, unknown]>([
    ["no object", "x"],
    ["nothing", null],
    ["no id", {}],
    ["no action URLs", { messageId: "m" }],
    ["an action URL that is none", { messageId: "m", ackUrl: "http://[", nackUrl: "/n", rejectUrl: "/r" }],
  ])("should refuse metadata that it cannot use: %s", async (_, meta) => {
    const at = await setup({ source: { pullers: 1 } });
    at.hooque.meta = () => meta as Record<string, unknown>;
    at.hooque.send({});
    expect(await rejection(at.run())).toMatchObject({ code: "RESPONSE_INVALID" });
  });

  test.each([
    ["is not JSON", { "x-hooque-meta": "{" }],
    ["is missing, and so are links", {}],
    ["is missing, and not all links are there", { link: '</q/ack/1>; rel="ack"' }],
  ])("should refuse metadata that %s", async (_, headers) => {
    const { url } = await answering(200, headers);
    expect(await rejection(runOnce(url))).toMatchObject({ code: "RESPONSE_INVALID" });
  });

  test.each([
    ["ack", accepted],
    ["reject", { ...accepted, status: "rejected" as const }],
  ])("should %s by the links where metadata is missing", async (action, outcome) => {
    const at = await setup({ become: () => outcome });
    at.hooque.meta = () => undefined;
    at.hooque.send({ id: 1 });
    void at.run();
    await until("it should be settled", () => at.hooque.remaining === 0);
    expect([at.hooque.acked.length, at.hooque.deadLetters.length]).toEqual(
      action === "ack" ? [1, 0] : [0, 1],
    );
    const settled = at.hooque.requests.find(({ method }) => method === "POST");
    expect(settled).toMatchObject({ authorization: `Bearer ${at.hooque.token}` });
    expect(settled?.path).toMatch(new RegExp(`/${action}/del_\\d+\\?attempt=1$`));
  });

  test("should send no token to a link at another origin", async () => {
    const elsewhere = await answering(200, {});
    const links = ["ack", "nack", "reject"].map((rel) => `<${elsewhere.url}/${rel}>; rel="${rel}"`);
    const { url } = await answering(200, { link: links.join(", ") });
    expect(await rejection(runOnce(url))).toMatchObject({ code: "PATH_REFUSED" });
    expect(elsewhere.requests).toEqual([]);
  });
});

describe.each(["pull", "stream"] as const)("a redirect, in mode %s", (mode) => {
  test("should not be followed: the token is for one origin only", async () => {
    const elsewhere = await answering(200, { "x-hooque-meta": "{}" });
    const { requests, url } = await answering(307, { location: elsewhere.url });
    const error = await rejection(runOnce(url, mode));
    expect(error).toMatchObject({ code: "HTTP_STATUS", status: 307 });
    expect(requests[0]).toBe("Bearer hq_tok");
    expect(elsewhere.requests).toEqual([]);
  });
});

describe("streaming", () => {
  test("should open the stream again when it breaks, or is silent for too long", async () => {
    const at = await setup({ source: { mode: "stream", idleTimeoutMs: 200 }, fake: { keepAliveMs: 60_000 } });
    void at.run();
    const streams = () => at.hooque.requests.filter(({ path }) => path.endsWith("/stream")).length;
    await until("a first stream", () => streams() === 1);
    await until("a second, because of the silence", () => streams() >= 2);
    at.hooque.cut();
    const before = streams();
    await until("another", () => streams() > before);
    at.hooque.send({ id: 1 });
    await until("the message", () => at.hooque.acked.length === 1);
  });

  test("should give back what nobody took when it stops", async () => {
    const work = gate<Outcome>();
    const at = await setup({ source: { mode: "stream", prefetch: 1 }, become: () => work.promise });
    for (let i = 0; i < 3; i += 1) at.hooque.send({ i });
    const running = at.run();
    await until("work", () => at.seen.length === 1);
    at.stop.abort();
    work.open(accepted);
    await running;
    await until("the rest should be free", () => at.hooque.pending.length === 2);
    expect(at.hooque.acked).toEqual(["msg_1"]);
  });

  test("should refuse what is no stream", async () => {
    const { hooque, url } = await started();
    const run = (text: string) => {
      const options = { provider: "crm", mode: "stream", token: hooque.token, url: text } as const;
      return hooqueSource(options).run(async () => [], new AbortController().signal);
    };
    hooque.send({});
    // Only a last part `next` is put in place of by `stream`.
    expect(await rejection(run(`${url}/x`))).toMatchObject({ code: "RESPONSE_INVALID" });
    expect(await rejection(run(`${url}x`))).toMatchObject({ code: "HTTP_STATUS" });
  });

  test("should refuse an event that no payload within the limit can need", async () => {
    const at = await setup({ source: { mode: "stream", maxBodyBytes: 10 } });
    at.hooque.send("x".repeat(200_000));
    expect(await rejection(at.run())).toMatchObject({ code: "BODY_TOO_LARGE" });
  });
});

test("should not let a webhook's sender say whose it is, which delivery, or when it came", async () => {
  const now = 1_700_000_000_000;
  const at = await setup({ clock: { ...systemClock, now: () => now } });
  const id = at.hooque.send(
    {},
    {
      "trueup-connection": "victim",
      "trueup-delivery-id": "seen-before",
      "trueup-received-at": "1",
      "trueup-url": "https://victim.example/",
      "x-event": "contact.updated",
    },
  );
  void at.run();
  await until("it should come", () => at.seen.length === 1);
  const { connection, delivery } = at.seen[0]!;
  expect(delivery.header("x-event")).toBe("contact.updated");
  expect(delivery).toMatchObject({ id, receivedAt: now, url: "" });
  expect(connection).toBeUndefined();
  expect(delivery.header("trueup-connection")).toBeUndefined();
});

describe("options", () => {
  const url = "https://app.hooque.example/queues/cons_1/next";

  test("should come from the environment where they are left out", async () => {
    const { hooque, url: real } = await started();
    vi.stubEnv("HOOQUE_QUEUE_NEXT_URL", real);
    vi.stubEnv("HOOQUE_TOKEN", hooque.token);
    const stop = new AbortController();
    hooque.send({});
    const running = hooqueSource({ provider: "crm" }).run(async () => [accepted], stop.signal);
    await until("it should be acked", () => hooque.acked.length === 1);
    stop.abort();
    await running;
  });

  test.each<[string, Partial<HooqueSourceOptions>]>([
    ["url", { url: "queues/next" }],
    ["url", { url: "ftp://x/next" }],
    ["url", { url: "https://user:pass@x/next" }],
    ["url", { url: `${url}?autoAck=true` }],
    ["token", { token: "" }],
    ["token", { token: "tok\n" }],
    ["mode", { mode: "push" as never }],
    ["verify", { mode: "stream", verify: true }],
    ["pullers", { pullers: 0 }],
    ["visibilityTimeoutMs", { visibilityTimeoutMs: 1 }],
  ])("should refuse a wrong `%s`: %j", (name, options) => {
    expect(() => hooqueSource({ provider: "crm", url, token: "t", ...options })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID", message: expect.stringContaining(`\`${name}`) }),
    );
  });

  test("should be needed: nothing is guessed", () => {
    vi.stubEnv("HOOQUE_QUEUE_NEXT_URL", undefined);
    expect(() => hooqueSource({ provider: "crm", token: "t" })).toThrow(/HOOQUE_QUEUE_NEXT_URL/);
    vi.stubEnv("HOOQUE_TOKEN", undefined);
    expect(() => hooqueSource({ provider: "crm", url })).toThrow(/HOOQUE_TOKEN/);
  });
});
