import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { Deadlines } from "../../src/core/deadline.ts";
import { HttpError, RateLimitError, SchemaError, TrueupError } from "../../src/core/errors.ts";
import { Fetcher, type FetchResult, validate } from "../../src/core/fetcher.ts";
import { Semaphore } from "../../src/core/semaphore.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { type Contact, fakeApis, gate, recording, refOf, rejection, resourceOf, scope } from "./fakes.ts";

function setup() {
  const clock = new TestClock();
  const apis = fakeApis();
  const { hooks, told } = recording();
  const slots = new Semaphore(4);
  const deadlines = new Deadlines(clock);
  const fetcher = new Fetcher({ apis, clock, hooks, deadlines, slots, fetchTimeoutMs: 1_000 });
  onTestFinished(() => expect(slots.free).toBe(4));
  return { apis, clock, fetcher, told };
}

/** What a result is, in short. */
function short(result: FetchResult): string {
  if (result.kind === "error") return (result.error as TrueupError).code ?? result.error.message;
  return result.kind === "gone" ? "gone" : (result.object as Contact).name;
}

const one = (fetch: (id: string) => Promise<unknown>, parts: object = {}) =>
  setup().fetcher.one(resourceOf({ fetch, ...parts }), refOf("1"), "live");

describe("one object", () => {
  test("should be evidence of what the schema made of it", async () => {
    const { apis, clock, fetcher, told } = setup();
    const resource = resourceOf({
      fetch: async (id) => {
        await clock.advance(25);
        return { id, name: "Ada", rev: 5, more: "that the schema drops" };
      },
    });
    const result = await fetcher.one(resource, refOf("1"), "repair");
    expect(result).toMatchObject({ kind: "object", shape: "fetch", version: "n:5" });
    expect(result).toHaveProperty("object", { id: "1", name: "Ada", rev: 5 });
    expect(apis.calls.map(({ lane }) => lane)).toEqual(["repair"]);
    expect(told.fetch).toEqual([{ ...scope, objects: 1, durationMs: 25, error: undefined }]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("should be gone where fetch returns undefined, or a status says so", async () => {
    expect(short(await one(async () => undefined))).toBe("gone");
    for (const status of [404, 410]) {
      expect(short(await one(() => Promise.reject(new HttpError(status, ""))))).toBe("gone");
    }
    const forbidden = () => Promise.reject(new HttpError(403, ""));
    expect(short(await one(forbidden, { gone: [403] }))).toBe("gone");
    expect(short(await one(forbidden))).toBe("HTTP_STATUS");
  });

  test("should not be gone for anything less", async () => {
    expect(short(await one(async () => null))).toBe("SCHEMA_MISMATCH");
    expect(short(await one(() => Promise.reject(Object.assign(new Error("like it"), { status: 404 }))))).toBe(
      "like it",
    );
    expect(short(await one(() => Promise.reject(new RateLimitError(5, ""))))).toBe("RATE_LIMITED");
  });

  test("should be no other object than the one that was asked for", async () => {
    const result = await one(async () => ({ id: "2", name: "Bea" }));
    expect(result).toMatchObject({ kind: "error", error: { code: "ID_MISMATCH" } });
    expect(short(await one(async () => ({ id: 1, name: "as a number" })))).toBe("as a number");
  });

  test("should be an error that names the path where its schema refuses it", async () => {
    const schema = z.object({ id: z.string(), lines: z.array(z.object({ price: z.number() })) });
    const bad = { id: "1", lines: [{ price: 1 }, { price: "2" }] };
    const result = await one(async () => bad, { schema, contentOf: undefined, versionOf: undefined });
    expect(result).toMatchObject({ kind: "error", error: { path: "lines[1].price" } });
    expect((result as { error: Error }).error).toBeInstanceOf(SchemaError);
    const whole = await one(async () => "text", { schema });
    expect(whole).toMatchObject({ error: { path: "", message: expect.stringContaining("the object: ") } });
  });

  test("should be an error where the adapter's own code fails", async () => {
    const boom = () => {
      throw new Error("a bug");
    };
    for (const parts of [{ fetch: boom }, { idOf: boom }, { versionOf: boom }, { contentOf: boom }]) {
      expect(short(await one(async () => ({ id: "1", name: "Ada" }), parts))).toBe("a bug");
    }
    expect(short(await one(async () => ({ id: "1", name: "Ada" }), { idOf: () => null }))).toBe(
      "SCHEMA_MISMATCH",
    );
  });

  test("should be given up when it takes too long, and its signal aborts", async () => {
    const { apis, clock, fetcher, told } = setup();
    const result = fetcher.one(resourceOf({ fetch: () => gate<unknown>().promise }), refOf("1"), "live");
    await clock.advance(1_000);
    expect(await result).toMatchObject({
      error: { code: "API_TIMEOUT", message: expect.stringContaining("crm.contact/1") },
    });
    expect(apis.calls[0]?.signal.aborted).toBe(true);
    expect(told.fetch).toMatchObject([{ durationMs: 1_000, error: { code: "API_TIMEOUT" } }]);
  });
});

describe("many objects", () => {
  const contacts = (ids: string[]) => ids.map((id) => ({ id, name: `contact ${id}` }));

  /** Fetches 1, 2 and 3; what was asked, and what came. */
  async function many(
    fetchMany: ((ids: string[]) => Promise<readonly unknown[]>) | undefined,
    ids = ["1", "2", "3"],
  ) {
    const { fetcher, told } = setup();
    const asked: string[] = [];
    const resource = resourceOf({
      fetch: async (id) => {
        asked.push(id);
        return id === "3" ? undefined : { id, name: `single ${id}` };
      },
      fetchMany:
        fetchMany &&
        ((given) => {
          asked.push(given.join("+"));
          return fetchMany(given);
        }),
    });
    const results = await fetcher.many(resource, scope, ids, "live");
    return { asked, results: results.map(short), told };
  }

  test("should be read with one call, in whatever order they come", async () => {
    const { asked, results, told } = await many(async (ids) => contacts(ids).toReversed());
    expect(results).toEqual(["contact 1", "contact 2", "contact 3"]);
    expect(asked).toEqual(["1+2+3"]);
    expect(told.fetch).toMatchObject([{ objects: 3 }]);
  });

  test("should be read singly where there is no fetchMany, or only one to read", async () => {
    const none = await many(undefined);
    expect([none.asked, none.results]).toEqual([
      ["1", "2", "3"],
      ["single 1", "single 2", "gone"],
    ]);
    const lone = await many(async (ids) => contacts(ids), ["2"]);
    expect([lone.asked, lone.results]).toEqual([["2"], ["single 2"]]);
  });

  test("should be read singly where fetchMany leaves them out: that is no proof that they are gone", async () => {
    const { asked, results } = await many(async () => contacts(["2"]));
    expect(results).toEqual(["single 1", "contact 2", "gone"]);
    expect(asked).toEqual(["1+2+3", "1", "3"]);
  });

  test.each<[string, unknown]>([
    ["its schema refuses", { id: "1" }],
    ["is nothing", null],
    ["has an id that cannot be read", { id: "", name: "nobody" }],
    ["is another's", { id: "9", name: "not asked for" }],
  ])("should be read singly where a row %s, without harm to the others", async (_, row) => {
    const { asked, results } = await many(async () => [row, ...contacts(["2", "3"])]);
    expect(results).toEqual(["single 1", "contact 2", "contact 3"]);
    expect(asked).toEqual(["1+2+3", "1"]);
  });

  test.each([400, 404, 414, 422])(
    "should be read singly where the API refuses the batch with %i",
    async (status) => {
      const { asked, results } = await many(() => Promise.reject(new HttpError(status, "")));
      expect(results).toEqual(["single 1", "single 2", "gone"]);
      expect(asked).toHaveLength(4);
    },
  );

  test.each<[string, Error, string]>([
    ["the API fails", new HttpError(500, ""), "HTTP_STATUS"],
    ["the rate is exceeded", new RateLimitError(5, ""), "RATE_LIMITED"],
    ["the credentials are refused", new TrueupError("UNAUTHORIZED", ""), "UNAUTHORIZED"],
    ["the adapter has a bug", new Error("a bug"), "a bug"],
  ])("should all fail, and not be asked for singly, where %s", async (_, error, code) => {
    const { asked, results } = await many(() => Promise.reject(error));
    expect(results).toEqual([code, code, code]);
    expect(asked).toEqual(["1+2+3"]);
  });

  test("should all fail where fetchMany returns no array", async () => {
    const { results } = await many(async () => ({ items: [] }) as unknown as unknown[]);
    expect(results).toEqual(Array.from({ length: 3 }, () => "RESPONSE_INVALID"));
  });

  test("should be asked for with a copy of the ids, which the adapter may spoil", async () => {
    const { results } = await many(async (ids) => contacts(ids.splice(0)));
    expect(results).toEqual(["contact 1", "contact 2", "contact 3"]);
  });
});

describe("a schema of any kind", () => {
  test("should be asked as Standard Schema says, now or later", async () => {
    const standard = (result: unknown) =>
      ({ "~standard": { version: 1, vendor: "test", validate: () => result } }) as never;
    const failure = (result: unknown) => rejection((async () => validate(standard(result), 1))());
    expect(validate(standard({ value: 5 }), 1)).toBe(5); // at once: a list has a million rows
    expect(await validate(standard(Promise.resolve({ value: 6 })), 1)).toBe(6);
    const issues = [{ message: "no", path: ["a", { key: "b" }, 0, { key: "c" }] }, { message: "nor this" }];
    for (const result of [{ issues }, Promise.resolve({ issues })])
      expect(await failure(result)).toMatchObject({ path: "a.b[0].c", message: "a.b[0].c: no" });
    expect(await failure({ issues: [] })).toMatchObject({
      code: "SCHEMA_MISMATCH",
      path: "",
    });
  });
});
