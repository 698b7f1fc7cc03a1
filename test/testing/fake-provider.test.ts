import { describe, expect, it, onTestFinished } from "vitest";
import { Webhook } from "standardwebhooks";
import { z } from "zod";
import { defineProvider, defineResource, standardWebhooks } from "trueup";
import {
  FAKE_SECRET,
  FakeProvider,
  type FakeProviderOptions,
  type Faults,
  seededRandom,
  TestClock,
  testEngine,
} from "trueup/testing";
import { rejection } from "../http/harness.ts";

interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON of a fake
  readonly body: any;
}

function fakeOf(options: Partial<FakeProviderOptions<"contact">> = {}) {
  const clock = new TestClock();
  const fake = new FakeProvider({ resources: ["contact"], clock, ...options });
  const get = async (path: string, headers: Record<string, string> = {}): Promise<Answered> => {
    const answer = await fake.transport({ method: "GET", url: `http://fake.example/v1/${path}`, headers });
    const text = Buffer.from(answer.body).toString();
    return { status: answer.status, headers: answer.headers, body: text === "" ? "" : parsed(text) };
  };
  return { clock, fake, get };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return `broken: ${text}`;
  }
}

/** Keeps what it was sent. */
function receiver(status = () => 200) {
  const received: { id: string; type: string; genuine: boolean }[] = [];
  return {
    received,
    target: async (request: Request): Promise<Response> => {
      const body = await request.text();
      const { id, type } = JSON.parse(body) as { id: string; type: string };
      const headers = Object.fromEntries(request.headers);
      received.push({ id, type, genuine: headers["webhook-signature"]?.startsWith("v1,") === true });
      return new Response(null, { status: status() });
    },
  };
}

describe("a FakeProvider's API", () => {
  it("shows objects, lists them page by page, and what changed since", async () => {
    const { clock, fake, get } = fakeOf();
    for (const id of ["a", "b", "c"]) fake.put("contact", id, { name: id.toUpperCase() });
    expect(await get("contact/a")).toMatchObject({ status: 200, body: { id: "a", name: "A", version: 1 } });
    expect((await get("contact/x")).status).toBe(404);
    expect((await get("elsewhere/a")).status).toBe(404);
    const first = await get("contact?limit=2");
    expect(first.body.items.map(({ id }: { id: string }) => id)).toEqual(["a", "b"]);
    const second = await get(`contact?limit=2&cursor=${first.body.next}`);
    expect([second.body.items.length, second.body.next]).toEqual([1, null]);
    expect((await get("contact?ids=c,x,a")).body.items.map(({ id }: { id: string }) => id)).toEqual([
      "c",
      "a",
    ]);

    await clock.advance(60_000);
    const since = new Date(clock.now()).toISOString();
    fake.put("contact", "b", { name: "other" });
    fake.delete("contact", "c");
    expect((await get(`contact?since=${since}`)).body).toMatchObject({
      items: [{ id: "b", name: "other" }],
      deleted: ["c"],
    });
  });

  it("answers 304 to who knows the ETag, until the object changes", async () => {
    const { fake, get } = fakeOf();
    fake.put("contact", "a", { name: "A" });
    const { headers } = await get("contact/a");
    const etag = { "if-none-match": headers["etag"] ?? "" };
    expect((await get("contact/a", etag)).status).toBe(304);
    fake.put("contact", "a", { name: "B" });
    expect((await get("contact/a", etag)).status).toBe(200);
    expect(fake.traffic).toMatchObject({ requests: 3, fetches: 3, notModified: 1 });
  });

  it("has a feed of events, whose old cursors expire", async () => {
    const { fake, get } = fakeOf({ feedSize: 2 });
    const start = await get("events");
    expect(start).toMatchObject({ body: { events: [], next: "0" }, headers: { "x-poll-interval": "1" } });
    fake.put("contact", "a", {});
    fake.put("contact", "a", {}, { quiet: true });
    const { body } = await get("events?cursor=0");
    expect(body).toMatchObject({ events: [{ type: "contact.created", object_id: "a" }], more: false });
    expect((await get(`events?cursor=${body.next}`)).body.events).toEqual([]);
    for (const id of ["b", "c", "d"]) fake.put("contact", id, {});
    expect((await get("events?cursor=0")).status).toBe(410);
  });

  it("refuses who is not authorized, and who asks too often", async () => {
    const { clock, get } = fakeOf({ authorization: "Bearer t", rateLimit: { requests: 2, perMs: 1_000 } });
    expect((await get("contact")).status).toBe(401);
    const known = { authorization: "Bearer t" };
    expect((await get("contact", known)).headers).toMatchObject({
      "x-ratelimit-limit": "2",
      "x-ratelimit-remaining": "0",
    });
    expect(await get("contact", known)).toMatchObject({ status: 429, headers: { "retry-after": "1" } });
    await clock.advance(1_000);
    expect((await get("contact", known)).status).toBe(200);
  });

  it("serves the same over a real socket, faults included", async () => {
    const fake = new FakeProvider({ resources: ["contact"] });
    onTestFinished(() => fake.close());
    const origin = await fake.listen();
    expect(await fake.listen()).toBe(origin);
    fake.put("contact", "a", { name: "A" });
    const answer = await fetch(`${origin}/v1/contact/a`);
    expect([answer.status, await answer.json()]).toMatchObject([200, { name: "A" }]);
    const etag = answer.headers.get("etag") ?? "";
    const again = await fetch(`${origin}/v1/contact/a`, { headers: { "if-none-match": etag } });
    expect([again.status, await again.text()]).toEqual([304, ""]);
    fake.setFaults({ reset: 1 });
    await expect(fetch(`${origin}/v1/contact/a`).then((broken) => broken.text())).rejects.toThrow(
      /terminated|fetch failed/,
    );
    fake.calm();
    expect((await fetch(`${origin}/v1/contact/a`)).status).toBe(200);
  });
});

describe("a FakeProvider's ledger", () => {
  it("has every state that an object really had", () => {
    const { fake } = fakeOf();
    fake.put("contact", "a", { name: "A" });
    fake.put("contact", "a", { name: "B" }, { keepVersion: true });
    expect(fake.delete("contact", "a")).toBe(true);
    expect(fake.delete("contact", "a")).toBe(false);
    fake.put("contact", "a", { name: "C" });
    const history = fake.history("contact", "a");
    expect(history.map(({ object }) => object?.["name"])).toEqual(["A", "B", undefined, "C"]);
    expect(history.map(({ version }) => version)).toEqual([1, 1, 3, 4]);
    expect([fake.ids("contact"), fake.all("contact")]).toEqual([["a"], [fake.get("contact", "a")]]);
  });

  it("refuses a resource or a fault that it does not know", () => {
    const { fake } = fakeOf();
    expect(() => fake.put("deal" as "contact", "a", {})).toThrow(/has no "deal"/);
    expect(() => fake.setFaults({ dropWebhooks: 1 } as Partial<Faults>)).toThrow(/dropWebhooks/);
    expect(() => fake.setFaults({ lag: 2 })).toThrow(/faults.lag/);
    expect(() => new FakeProvider({ resources: [] })).toThrow(/resources/);
  });
});

describe("a FakeProvider's webhooks", () => {
  it("are signed as Standard Webhooks has it", async () => {
    const { fake } = fakeOf({ clock: new TestClock(Date.now()) });
    const bodies: unknown[] = [];
    fake.deliverTo(async (request) => {
      bodies.push(new Webhook(FAKE_SECRET).verify(await request.text(), Object.fromEntries(request.headers)));
      return new Response(null, { status: 204 });
    });
    fake.put("contact", "a", {});
    await fake.delivered();
    expect(bodies).toMatchObject([{ id: "evt_1", type: "contact.created", object_id: "a", version: 1 }]);
    expect(fake.deliveries).toMatchObject([{ id: "evt_1", statuses: [204], ended: true }]);
  });

  it("are sent again after failures", async () => {
    const { clock, fake } = fakeOf({ webhookRetryDelaysMs: [1_000, 5_000] });
    let failures = 2;
    const { received, target } = receiver(() => (failures-- > 0 ? 503 : 200));
    fake.deliverTo(target);
    fake.put("contact", "a", {});
    await clock.advance(999);
    expect(received.length).toBe(1);
    await clock.advance(5_001);
    expect(fake.deliveries[0]?.statuses).toEqual([503, 503, 200]);
  });

  it.each([
    ["dropWebhook", []],
    ["duplicateWebhook", ["evt_1", "evt_1", "evt_2", "evt_2"]],
  ] as const)("come as %s says", async (fault, ids) => {
    const { fake } = fakeOf({ faults: { [fault]: 1 } });
    const { received, target } = receiver();
    fake.deliverTo(target);
    fake.put("contact", "a", {});
    fake.put("contact", "a", {});
    await fake.delivered();
    expect(received.map(({ id }) => id)).toEqual(ids);
  });

  it("overtake each other, and come late", async () => {
    const { clock, fake } = fakeOf({ faults: { reorderWebhook: 1 } });
    const { received, target } = receiver();
    fake.deliverTo(target);
    fake.put("contact", "a", {});
    fake.setFaults({ reorderWebhook: 0 });
    fake.put("contact", "b", {});
    await fake.delivered();
    expect(received.map(({ id }) => id)).toEqual(["evt_2", "evt_1"]);
    fake.setFaults({ delayWebhook: 1, webhookDelayMs: 1_000 });
    fake.put("contact", "c", {});
    await clock.settle();
    expect(received.length).toBe(2);
    await clock.advance(1_000);
    expect(received.length).toBe(3);
  });
});

describe("a FakeProvider's faults", () => {
  it("are the same in every run of a seed", async () => {
    const statuses = async (seed: number) => {
      const { get } = fakeOf({ seed, faults: { serverError: 0.5 } });
      const found: number[] = [];
      for (let i = 0; i < 20; i += 1) found.push((await get("contact")).status);
      return found;
    };
    expect(await statuses(7)).toEqual(await statuses(7));
    expect(await statuses(7)).not.toEqual(await statuses(8));
    expect(seededRandom(3)()).toBe(seededRandom(3)());
  });

  it("let the API lag behind what was announced", async () => {
    const { clock, fake, get } = fakeOf({ faults: { lag: 1, lagMs: 1_000 } });
    fake.put("contact", "a", { name: "A" });
    expect((await get("contact/a")).status).toBe(404);
    await clock.advance(1_000);
    expect((await get("contact/a")).body.name).toBe("A");
    fake.put("contact", "a", { name: "B" });
    expect((await get("contact/a")).body.name).toBe("A");
    fake.calm(); // the API has caught up
    expect((await get("contact/a")).body.name).toBe("B");
  });

  it("show a replica that is behind, which never undoes a deletion", async () => {
    const { fake, get } = fakeOf({ faults: { staleRead: 1 } });
    fake.put("contact", "a", { name: "A" });
    fake.put("contact", "a", { name: "B" });
    expect((await get("contact/a")).body.name).toBe("A");
    fake.delete("contact", "a");
    expect((await get("contact/a")).status).toBe(404);
  });

  it.each([
    ["reset", /ECONNRESET/],
    ["outage", /ECONNREFUSED|503/],
  ] as const)("break the connection: %s", async (fault, what) => {
    const { get } = fakeOf({ faults: { [fault]: 1 } });
    const seen = new Set<string>();
    for (let i = 0; i < 10; i += 1) {
      seen.add(await get("contact").then(({ body, status }) => `${status} ${String(body)}`, String));
    }
    expect([...seen].join("; ")).toMatch(fault === "reset" ? /broken|ECONNRESET/ : what);
  });

  it("say in many ways how long to wait", async () => {
    const { get } = fakeOf({ faults: { rateLimit: 1 } });
    const forms = new Set<string>();
    for (let i = 0; i < 100; i += 1) {
      const { headers, status } = await get("contact");
      expect(status).toBe(429);
      forms.add(
        Object.keys(headers)
          .filter((name) => /retry|limit/.test(name))
          .toSorted()
          .join(),
      );
      forms.add(headers["retry-after"]?.replace(/\d+/g, "n") ?? "none");
    }
    expect(forms.size).toBeGreaterThan(7);
  });

  it("spoil lists", async () => {
    const { fake, get } = fakeOf();
    for (const id of ["a", "b", "c", "d"]) fake.put("contact", id, {});
    const { next } = (await get("contact?limit=1")).body;
    fake.setFaults({ repeatedCursor: 1 });
    expect((await get(`contact?limit=1&cursor=${next}`)).body.next).toBe(next);
    fake.setFaults({ repeatedCursor: 0, expiredCursor: 1 });
    expect([400, 404, 410]).toContain((await get(`contact?limit=1&cursor=${next}`)).status);
    fake.setFaults({ expiredCursor: 0, missingRows: 1 });
    expect((await get("contact")).body).toMatchObject({ items: [], next: null });
    fake.setFaults({ missingRows: 0, ignoredFilter: 1 });
    expect((await get("contact?since=2999-01-01T00:00:00Z")).body.items.length).toBe(4);
    fake.calm();
    expect((await get("contact?since=2999-01-01T00:00:00Z")).body.items.length).toBe(0);
    fake.setFaults({ truncatedBody: 1 });
    expect(String((await get("contact")).body)).toMatch(/^(broken|$)/);
  });

  it("never answer, or set the clock wrong", async () => {
    const { clock, fake, get } = fakeOf({ clockSkewMs: 3_600_000 });
    expect(Date.parse((await get("contact")).headers["date"] ?? "")).toBe(clock.now() + 3_600_000);
    fake.setClockSkew(0);
    expect(Date.parse((await get("contact")).headers["date"] ?? "")).toBe(clock.now());
    fake.setFaults({ hang: 1 });
    let answered = false;
    void get("contact").finally(() => (answered = true));
    await clock.advance(60_000);
    expect(answered).toBe(false);
    fake.calm();
    fake.fail(1_000);
    const refused = await get("contact").catch((error: unknown) => error);
    expect(refused).toSatisfy(
      (one: { status?: number; code?: string }) => one.status === 503 || one.code === "ECONNREFUSED",
    );
    await clock.advance(1_000);
    expect((await get("contact")).status).toBe(200);
  });
});

describe("an engine over a FakeProvider's transport", () => {
  it("comes out right on virtual time, without a socket", async () => {
    const { clock, fake } = fakeOf({
      seed: 5,
      faults: { dropWebhook: 0.3, duplicateWebhook: 0.3, lag: 0.5, serverError: 0.2, reset: 0.2 },
    });
    const contact = defineResource({
      schema: z.object({ id: z.string(), name: z.string(), version: z.number() }),
      idOf: (one) => one.id,
      versionOf: (one) => one.version,
      fetch: (id, { api }) => api.get(`contact/${id}`),
      list: async ({ cursor, limit, since }, { api }) =>
        api.get("contact", { query: { cursor, limit, since } }),
    });
    const crm = defineProvider({
      name: "crm",
      api: { baseUrl: "https://crm.example/v1/" },
      webhook: {
        verify: standardWebhooks({ secret: FAKE_SECRET }),
        events: ({ json }) => [{ id: json.id, resource: "contact", objectId: json.object_id }],
      },
      resources: { contact },
    });
    const { engine, settled } = testEngine({ providers: [crm], clock, transport: fake.transport });
    onTestFinished(() => engine.stop());
    const copy = new Map<string, string>();
    engine.handle("crm.contact", ({ object, ref }) => {
      if (object === undefined) copy.delete(ref.id);
      else copy.set(ref.id, object.name);
    });
    await engine.start();
    fake.deliverTo(engine.webhook("crm").fetch);
    for (let i = 0; i < 20; i += 1) {
      fake.put("contact", `c_${i % 7}`, { name: `name ${i}` });
      await clock.advance(500);
    }
    fake.delete("contact", "c_3");
    fake.calm();
    await settled();
    const pass = engine.reconcile("crm.contact", { mode: "full" });
    await clock.settle();
    await clock.advance(1_000);
    expect((await pass).complete).toBe(true);
    expect(Object.fromEntries(copy)).toEqual(
      Object.fromEntries(fake.all("contact").map(({ id, name }) => [id, name])),
    );
  });

  it("hears of a transport's errors as of a socket's", async () => {
    const { clock, fake } = fakeOf();
    fake.fail(60_000);
    const note = defineResource({
      schema: z.object({ id: z.string() }),
      idOf: (one) => one.id,
      fetch: (id, { api }) => api.get(`contact/${id}`),
      list: async (_args, { api }) => api.get("contact"),
    });
    const crm = defineProvider({
      name: "crm",
      api: { baseUrl: "https://crm.example/" },
      resources: { note },
    });
    const { engine } = testEngine({ providers: [crm], clock, transport: fake.transport });
    onTestFinished(() => engine.stop());
    engine.handle("crm.note", () => {});
    const failed = rejection(engine.reconcile("crm.note", { mode: "full" }));
    await clock.advance(30_000);
    expect(["NETWORK", "HTTP_STATUS"]).toContain(((await failed) as { code?: string }).code);
  });
});
