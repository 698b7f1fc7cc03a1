import { describe, expect, onTestFinished, test } from "vitest";
import { defineProvider, defineResource, pollSource } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { testEngine } from "trueup/testing";
import { z } from "zod";
import { type Handler, json, serve, until } from "../http/harness.ts";
import { temporaryDirectory } from "./notes.ts";

/** A list of events with an ETag, which is polled without a cursor, and its things. */
async function feedServer(headers: Record<string, string> = {}) {
  const feed = { events: [{ id: "e1", thing: "a" }] };
  const answer: Handler = (request, response) => {
    const { url = "" } = request;
    if (!url.startsWith("/events")) return json(response, { id: url.split("/").at(-1) });
    const etag = `"${feed.events.length}"`;
    if (request.headers["if-none-match"] === etag)
      return void response.writeHead(304, { etag, ...headers }).end();
    return json(response, feed.events, { etag, ...headers });
  };
  const server = await serve(answer);
  const polls = () => server.seen.filter(({ url }) => url === "/events");
  return { feed, server, polls };
}

interface FeedOptions {
  readonly ids?: boolean;
  /** Called with each answer, before the poll returns. */
  readonly before?: (asked: number) => void;
}

function engineOf(origin: string, { before, ids = true }: FeedOptions = {}) {
  const thing = defineResource({
    schema: z.object({ id: z.string() }),
    idOf: ({ id }) => id,
    fetch: (id, { api }) => api.get(`things/${id}`),
  });
  /** When polls began. */
  const begun: number[] = [];
  const { engine, clock, told } = testEngine({
    providers: [defineProvider({ name: "feed", api: { baseUrl: origin }, resources: { thing } })],
    store: sqliteStore({ path: `${temporaryDirectory()}/sync.db` }),
    sources: [
      pollSource({
        provider: "feed",
        every: "1m",
        poll: async ({ api }) => {
          const asked = begun.push(clock.now());
          const events = await api.get<{ id: string; thing: string }[]>("events");
          before?.(asked);
          return {
            events: events.map((event) => ({
              resource: "thing",
              objectId: event.thing,
              ...(ids ? { id: event.id } : undefined),
            })),
          };
        },
      }),
    ],
  });
  engine.handle("feed.thing", () => {});
  onTestFinished(() => engine.stop());
  const count = (name: string) => told.filter((one) => one.name === name).length;
  const polls = () => told.flatMap((one) => (one.name === "poll" ? [one.event] : []));
  /** Lets virtual time pass until the feed is polled, and then real time, until that is over. */
  const nextPoll = async () => {
    const [known, over] = [begun.length, count("poll")];
    while (begun.length === known) await clock.advance(1_000);
    await until(() => count("poll") > over);
  };
  return { engine, clock, count, nextPoll, polls };
}

describe("a feed over HTTP", () => {
  test("should cost nothing while the API says that it is not modified", async () => {
    const { feed, server } = await feedServer();
    const { count, engine, nextPoll, polls } = engineOf(server.origin, { ids: false });
    await engine.start();
    await until(() => count("change.handled") === 1);
    await nextPoll();
    await nextPoll();
    expect(polls().map(({ events, notModified }) => [events, notModified])).toEqual([
      [1, false],
      [1, true],
      [1, true],
    ]);
    expect(count("delivery")).toBe(1);
    feed.events.push({ id: "e2", thing: "b" }); // the control
    await nextPoll();
    await until(() => count("change.handled") === 2);
    expect(count("delivery")).toBe(2);
  });

  test("should be recorded all the same where an answer was had before and not recorded", async () => {
    const { server } = await feedServer();
    const { count, engine, nextPoll, polls } = engineOf(server.origin, {
      before: (asked) => {
        if (asked === 1) throw new Error("the adapter chokes on the first answer");
      },
    });
    await engine.start();
    await until(() => count("poll.failed") === 1);
    await nextPoll();
    expect(polls()[1]).toMatchObject({ events: 1, notModified: true, error: undefined });
    await until(() => count("change.handled") === 1);
  });

  test("should be polled no sooner than X-Poll-Interval says", async () => {
    const { server, polls } = await feedServer({ "x-poll-interval": "600" });
    const { clock, engine, count } = engineOf(server.origin);
    await engine.start();
    await until(() => count("change.handled") === 1);
    await clock.advance(599_000);
    expect(polls()).toHaveLength(1);
    await clock.advance(1_000);
    await until(() => count("poll") === 2);
    expect(polls()).toHaveLength(2);
  });
});
