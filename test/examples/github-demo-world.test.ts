import { createHmac } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import { startApiServer, type ApiServer } from "../../examples/github-demo/api-server.ts";
import { keyOf, objectOf, pathOf, reidentify } from "../../examples/github-demo/identity.ts";
import { kinds } from "../../examples/github-demo/kinds.ts";
import { repositories } from "../../examples/github-demo/plan.ts";
import { Random } from "../../examples/github-demo/random.ts";
import { isObject, loadRecordings, textOf, type JsonObject } from "../../examples/github-demo/recordings.ts";
import { planTraffic, signer, traffic, type Delivery } from "../../examples/github-demo/traffic.ts";
import { World } from "../../examples/github-demo/world.ts";

const recordings = loadRecordings();
const others = recordings.filter(({ event }) => !kinds.some((kind) => kind.event === event));

function makeWorld({ seed = 1, updates = 300, lagMs = 0, clock = (): number => 0 } = {}): World {
  return new World(recordings, new Random(seed), { updates, lagMs, clock });
}

function finished(world: World): World {
  while (!world.done) world.step();
  return world;
}

describe("a recorded delivery under another identity", () => {
  const [, repository] = repositories;

  it.each(kinds)("is about that $resource and nothing else", (kind) => {
    const identity = {
      kind,
      repository: repository!,
      id: 777_000_111,
      number: 4242,
      name: "help wanted: yes",
    };
    for (const { payload } of recordings.filter(({ event }) => event === kind.event)) {
      const before = objectOf(payload, kind);
      const moved = reidentify(payload, identity);
      const object = objectOf(moved, kind);
      expect(object["id"]).toBe(identity.id);
      expect(textOf(object[kind.key])).toBe(keyOf(identity));
      expect(object["url"]).toBe(`https://api.github.com${pathOf(identity)}`);
      expect(Object.keys(object)).toEqual(Object.keys(before));
      expect(JSON.stringify(object)).not.toContain(textOf(before["id"]));
      expect(moved["repository"]).toMatchObject({
        id: repository!.id,
        full_name: repository!.fullName,
        name: "Spoon-Knife",
      });
      expect(moved["sender"]).toEqual(payload["sender"]);
    }
  });

  it("carries its id within the node_id", () => {
    const kind = kinds.find(({ resource }) => resource === "issue")!;
    const { payload } = recordings.find(({ event }) => event === "issues")!;
    const moved = reidentify(payload, {
      kind,
      repository: repository!,
      id: 777_000_111,
      number: 7,
      name: "",
    });
    const nodeId = textOf(objectOf(moved, kind)["node_id"]);
    expect(Buffer.from(nodeId, "base64").toString()).toBe("05:Issue777000111");
  });
});

describe("the world", () => {
  it("goes the same way with the same seed, and another with another", () => {
    const truth = (seed: number) => JSON.stringify(finished(makeWorld({ seed })).truth());
    expect(truth(5)).toBe(truth(5));
    expect(truth(5)).not.toBe(truth(6));
  });

  it("creates, changes and deletes objects of every kind that can be", () => {
    const world = makeWorld({ updates: 1_200 });
    const paths = new Set(world.truth().map(({ identity }) => pathOf(identity)));
    const left = new Set(
      finished(world)
        .truth()
        .map(({ identity }) => pathOf(identity)),
    );
    for (const { collection, goneStatus } of kinds) {
      const own = (path: string) => new RegExp(`^/repos/[^/]+/[^/]+/${collection}/[^/]+$`).test(path);
      expect(
        [...left].some((path) => own(path) && !paths.has(path)),
        `a new one in ${collection}`,
      ).toBe(true);
      const deleted = [...paths].some((path) => own(path) && !left.has(path));
      expect(deleted, `one deleted from ${collection}`).toBe(goneStatus !== undefined);
    }
  });

  it("announces what it does, save for deletions that GitHub has no webhook for", () => {
    const world = makeWorld();
    let told = 0;
    let silent = 0;
    while (!world.done) {
      const before = world.truth().length;
      const notice = world.step();
      if (notice !== undefined) told += 1;
      else silent += before - world.truth().length;
    }
    expect(told).toBe(world.notices);
    expect(silent).toBeGreaterThan(0);
  });

  it("changes some issues without moving updated_at", () => {
    const world = makeWorld({ updates: 1_200 });
    const seen = new Map<string, JsonObject>();
    let quiet = 0;
    while (!world.done) {
      const notice = world.step();
      const issue = notice?.event === "issues" ? notice.payload["issue"] : undefined;
      if (!isObject(issue)) continue;
      const before = seen.get(textOf(issue["url"]));
      if (before?.["updated_at"] === issue["updated_at"] && before?.["title"] !== issue["title"]) quiet += 1;
      seen.set(textOf(issue["url"]), issue);
    }
    expect(quiet).toBeGreaterThan(0);
  });

  it("shows a change only when the replica has it", () => {
    let now = 1_000;
    const world = makeWorld({ lagMs: 150, clock: () => now });
    const before = world.truth();
    finished(world);
    const shown = () =>
      world.truth().filter(({ identity, object }) => world.read(pathOf(identity)) === object).length;
    const untouched = before.filter(({ object }) =>
      world.truth().some((after) => after.object === object),
    ).length;
    now += 149;
    expect(shown()).toBe(untouched);
    now += 1;
    expect(shown()).toBe(world.truth().length);
  });
});

describe("deliveries", () => {
  function run(seed: number) {
    const world = makeWorld({ seed });
    const random = new Random(seed + 1);
    const plan = planTraffic(world.notices + others.length, random);
    const deliveries: Delivery[] = [];
    const happenedAt: { readonly updated: number; readonly now: number }[] = [];
    for (const delivery of traffic(world, others, plan.fates, signer("secret"), random)) {
      deliveries.push(delivery);
      const { issue } = JSON.parse(Buffer.from(delivery.body).toString()) as {
        issue?: { updated_at: string };
      };
      if (delivery.headers["x-github-event"] === "issues" && issue !== undefined) {
        happenedAt.push({ updated: Date.parse(issue.updated_at), now: world.now.getTime() });
      }
    }
    return { world, plan, deliveries, happenedAt };
  }

  it("are dropped and repeated in exactly the shares that are promised", () => {
    const { fates, requests } = planTraffic(1_000, new Random(3));
    const count = (fate: string) => fates.filter((other) => other === fate).length;
    expect([count("dropped"), count("twice"), count("once")]).toEqual([300, 200, 500]);
    expect(requests).toBe(900);
  });

  it("are as many as planned; what comes twice is the very same", () => {
    const { plan, deliveries } = run(2);
    expect(deliveries).toHaveLength(plan.requests);
    const byId = Map.groupBy(deliveries, ({ headers }) => headers["x-github-delivery"]);
    const repeated = [...byId.values()].filter((same) => same.length > 1);
    expect(repeated).toHaveLength(plan.fates.filter((fate) => fate === "twice").length);
    for (const [first, second] of repeated) expect(second).toBe(first);
  });

  it("come in no order, but never before what they tell of", () => {
    const { happenedAt } = run(2);
    const updated = happenedAt.map((at) => at.updated);
    expect(updated).not.toEqual(updated.toSorted((a, b) => a - b));
    expect(happenedAt.every((at) => at.updated <= at.now)).toBe(true);
  });

  it("are the same with the same seed", () => {
    const ids = (seed: number) => run(seed).deliveries.map(({ headers }) => headers["x-hub-signature-256"]);
    expect(ids(4)).toEqual(ids(4));
  });

  it("include every recording of the events that nobody keeps, unless dropped", () => {
    const { deliveries } = run(2);
    const events = new Set(deliveries.map(({ headers }) => headers["x-github-event"]));
    expect(events.size).toBeGreaterThan(40);
  });

  it("are signed over the bytes that are sent", () => {
    const [delivery] = run(2).deliveries;
    const hmac = createHmac("sha256", "secret").update(delivery!.body).digest("hex");
    expect(delivery!.headers["x-hub-signature-256"]).toBe(`sha256=${hmac}`);
  });
});

describe("the API", () => {
  const servers: ApiServer[] = [];
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
  });

  async function serve(world = finished(makeWorld())) {
    const api = await startApiServer(world, { token: "token", latencyMs: 0 });
    servers.push(api);
    const get = (path: string, headers: Record<string, string> = {}) =>
      fetch(new URL(path, api.url), { headers: { authorization: "Bearer token", ...headers } });
    return { api, world, get };
  }

  it("serves each object at its path", async () => {
    const { world, get, api } = await serve();
    for (const kind of kinds) {
      const { identity, object } = world.truth().find((entry) => entry.identity.kind === kind)!;
      const response = await get(pathOf(identity));
      expect(response.headers.get("date")).toBe(world.now.toUTCString());
      expect(await response.json()).toEqual(object);
    }
    expect(api.ledger).toEqual({ fetches: kinds.length, pages: 0, notModified: 0 });
  });

  it("lists all objects, page by page", async () => {
    const { world, get } = await serve();
    for (const kind of kinds) {
      const rows: JsonObject[] = [];
      let next: string | undefined = `/repos/Codertocat/Hello-World/${kind.collection}?state=all&per_page=7`;
      while (next !== undefined) {
        const response = await get(next);
        const body = (await response.json()) as JsonObject[] & Record<string, JsonObject[]>;
        rows.push(...(kind.wrappedIn === undefined ? body : body[kind.wrappedIn]!));
        next = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "")?.[1];
      }
      const wanted = world
        .truth()
        .filter(({ identity }) => identity.kind === kind && identity.repository === repositories[0])
        .map(({ object }) => object["url"]);
      expect(new Set(rows.map((row) => row["url"]))).toEqual(new Set(wanted));
      expect(rows).toHaveLength(wanted.length);
    }
  });

  it("understands since and state", async () => {
    const { get } = await serve();
    const issues = async (query: string) =>
      (await (
        await get(`/repos/Codertocat/Hello-World/issues?per_page=100&${query}`)
      ).json()) as JsonObject[];
    const all = await issues("state=all");
    const since = "2024-03-01T12:00:00Z";
    const young = all.filter((issue) => textOf(issue["updated_at"]) >= since);
    expect(young.length).toBeGreaterThan(0);
    expect(young.length).toBeLessThan(all.length);
    expect(await issues(`state=all&since=${since}`)).toEqual(young);
    expect(await issues("")).toEqual(all.filter((issue) => issue["state"] === "open"));
  });

  it("answers 304 to whoever has the present state", async () => {
    const { api, get } = await serve();
    const path = "/repos/Codertocat/Hello-World/pulls?state=all";
    const etag = (await get(path)).headers.get("etag")!;
    const again = await get(path, { "if-none-match": etag });
    expect([again.status, await again.text()]).toEqual([304, ""]);
    expect((await get(path, { "if-none-match": 'W/"other"' })).status).toBe(200);
    expect(api.ledger).toEqual({ fetches: 0, pages: 3, notModified: 1 });
  });

  it("says no as GitHub does", async () => {
    const before = makeWorld();
    const old = before.truth();
    const { world, get } = await serve(finished(before));
    const left = new Set(world.truth().map(({ identity }) => identity));
    const deleted = (resource: string) =>
      pathOf(
        old.find(({ identity }) => identity.kind.resource === resource && !left.has(identity))!.identity,
      );
    expect((await get(deleted("issue"))).status).toBe(410);
    expect((await get(deleted("label"))).status).toBe(404);
    expect((await get("/repos/Codertocat/Hello-World/issues/999")).status).toBe(404);
    expect((await get("/repos/Codertocat/Elsewhere/issues/1")).status).toBe(404);
    expect(
      (await get("/repos/Codertocat/Hello-World/issues", { authorization: "Bearer stolen" })).status,
    ).toBe(401);
  });
});
