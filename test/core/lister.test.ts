import { describe, expect, test } from "vitest";
import { Deadlines } from "../../src/core/deadline.ts";
import { listPages, type ListedPage, type ListRequest } from "../../src/core/lister.ts";
import { newCycle } from "../../src/core/pass.ts";
import type { ListArguments, Page } from "../../src/core/resource.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { type Contact, fakeApis, gate, rejection, resourceOf, scope, turn } from "./fakes.ts";

type List = (args: ListArguments) => Promise<Page>;

function setup(list: List | undefined, parts: object = {}, given: Partial<ListRequest> = {}) {
  const clock = new TestClock();
  const apis = fakeApis(1_234);
  const log: string[] = [];
  let counter = 0;
  const request: ListRequest = {
    scope,
    resource: resourceOf({ list, ...parts }),
    since: null,
    limit: 100,
    cursor: null,
    cycle: newCycle(),
    mark: async () => {
      log.push("mark");
      return (counter += 1);
    },
    onRequest: () => log.push("request"),
    signal: new AbortController().signal,
    ...given,
  };
  const pages = listPages(request, { apis, deadlines: new Deadlines(clock), fetchTimeoutMs: 1_000 });
  return { apis, clock, log, pages };
}

async function all(pages: AsyncGenerator<ListedPage>): Promise<ListedPage[]> {
  const found: ListedPage[] = [];
  for await (const page of pages) found.push(page);
  return found;
}

/** A list of pages with the cursors c1, c2, … */
const paged =
  (pages: readonly Partial<Page>[]): List =>
  async ({ cursor }) => {
    const i = cursor === undefined ? 0 : Number(cursor.slice(1));
    return { items: [], next: i + 1 < pages.length ? `c${i + 1}` : null, ...pages[i] };
  };

const contact = (id: unknown, name = "Ada"): Contact => ({ id: id as string, name });

describe("a page that proves nothing", () => {
  test("should be refused where none of its rows can be read, rather than pass for an empty one (I7)", async () => {
    const { pages } = setup(paged([{ items: [{ name: "Ada" }, null] }]));
    expect(await rejection(all(pages))).toMatchObject({ code: "LIST_INVALID" });
    // The control: one that can be read is enough.
    const [page] = await all(setup(paged([{ items: [{ name: "Ada" }, contact("1")] }])).pages);
    expect(page).toMatchObject({ rows: [{ id: "1" }], unreadable: [{}] });
  });

  test("should be refused where its cursor is longer than a checkpoint should be (I10)", async () => {
    const withCursor = (next: string) => setup(paged([{ items: [], next }])).pages;
    expect(await rejection(all(withCursor("c".repeat(65_537))))).toMatchObject({ code: "LIST_INVALID" });
    const { value } = await withCursor("c".repeat(65_536)).next();
    expect((value as ListedPage).next).toHaveLength(65_536);
  });
});

describe("the pages of a list", () => {
  test("should be read to the end, each with the counter of before its request", async () => {
    const { log, pages } = setup(paged([{ items: [contact("1")] }, { items: [contact("2")] }, {}]));
    const found = await all(pages);
    expect(found.map(({ mark, next }) => [mark, next])).toEqual([
      [1, "c1"],
      [2, "c2"],
      [3, null],
    ]);
    expect(found.map(({ rows }) => rows.map((row) => row.id))).toEqual([["1"], ["2"], []]);
    expect(log).toEqual(["mark", "request", "mark", "request", "mark", "request"]);
  });

  test("should be asked for with a cursor, a limit and a lower bound", async () => {
    const asked: ListArguments[] = [];
    const list: List = async (args) => {
      asked.push(args);
      return { items: [], next: args.cursor === "c5" ? "c6" : undefined };
    };
    await all(setup(list, {}, { cursor: "c5", limit: 7, since: 5_000 }).pages);
    expect(asked).toEqual([
      { cursor: "c5", limit: 7, since: new Date(5_000) },
      { cursor: "c6", limit: 7, since: new Date(5_000) },
    ]);
    asked.length = 0;
    await all(setup(list).pages);
    expect(asked).toEqual([{ cursor: undefined, limit: 100, since: undefined }]);
  });

  test("should be read one ahead, and no further", async () => {
    const { log, pages } = setup(paged([{}, {}, {}, {}]));
    const requests = () => log.filter((entry) => entry === "request").length;
    await pages.next();
    await turn();
    expect(requests()).toBe(2);
    await turn();
    expect(requests()).toBe(2);
    await pages.next();
    await turn();
    expect(requests()).toBe(3);
    await pages.return();
  });

  test("should carry the moment that they are true of: the provider's, else its server's clock", async () => {
    const asOf = new Date(99_000);
    const found = await all(setup(paged([{ asOf }, {}])).pages);
    expect(found.map((page) => page.asOf)).toEqual([99_000, 1_234]);
  });

  test("should be requested in the repair lane, under the caller's signal", async () => {
    const caller = new AbortController();
    const { apis, pages } = setup(paged([{}]), {}, { signal: caller.signal });
    await all(pages);
    expect(apis.calls[0]).toMatchObject({ lane: "repair" });
    caller.abort();
    expect(apis.calls[0]?.signal.aborted).toBe(true);
  });
});

describe("a page that fails", () => {
  test("should not spoil the one before it", async () => {
    const list: List = async ({ cursor }) => {
      if (cursor !== undefined) throw new Error("page 2 is broken");
      return { items: [contact("1")], next: "c1" };
    };
    const { pages } = setup(list);
    expect((await pages.next()).value?.rows).toHaveLength(1);
    await turn(); // the page ahead has failed by now, and nobody has asked for it yet
    expect((await rejection(pages.next())).message).toBe("page 2 is broken");
  });

  test("should disturb nobody where it was never asked for", async () => {
    const list: List = async ({ cursor }) => {
      if (cursor !== undefined) throw new Error("page 2 is broken");
      return { items: [], next: "c1" };
    };
    const { pages } = setup(list);
    await pages.next();
    await pages.return();
    await turn(); // an unhandled rejection would fail this run
    await turn();
  });

  test("should be given up when it takes too long", async () => {
    const { clock, pages } = setup(() => gate<Page>().promise);
    const failed = rejection(pages.next());
    await clock.advance(1_000);
    expect(await failed).toMatchObject({
      code: "API_TIMEOUT",
      message: expect.stringContaining("listing crm.contact"),
    });
  });

  test("should be NOT_SUPPORTED where there is no list", async () => {
    expect(await rejection(setup(undefined).pages.next())).toMatchObject({ code: "NOT_SUPPORTED" });
  });
});

describe("what is no page", () => {
  test.each<[string, unknown]>([
    ["nothing", undefined],
    ["null", null],
    ["a text", "[]"],
    ["an array", [contact("1")]],
    ["no items", { next: null }],
    ["items that are no array", { items: { 0: contact("1") } }],
    ["an empty cursor", { items: [], next: "" }],
    ["a cursor that is a number", { items: [], next: 2 }],
    ["a cursor that is false", { items: [], next: false }],
    ["deleted that is no array", { items: [], deleted: "1" }],
    ["a deleted id that cannot be read", { items: [], deleted: ["1", null] }],
    ["asOf that is text", { items: [], asOf: "2024-01-01" }],
    ["asOf that is no date", { items: [], asOf: new Date(Number.NaN) }],
  ])("should be refused: %s", async (_, page) => {
    const { pages } = setup(async () => page as Page);
    expect(await rejection(pages.next())).toMatchObject({
      code: "LIST_INVALID",
      message: expect.stringContaining("the list of crm.contact"),
    });
  });

  test("should not be seen in the least that a page may be", async () => {
    for (const page of [{ items: [] }, { items: [], next: null, deleted: undefined, asOf: undefined }]) {
      expect(await all(setup(async () => page).pages)).toMatchObject([{ rows: [], deleted: [], next: null }]);
    }
  });
});

describe("a list that runs in a circle", () => {
  test("should be refused when it gives the cursor again that it was asked with", async () => {
    const list: List = async () => ({ items: [], next: "same" });
    expect(await rejection(all(setup(list).pages))).toMatchObject({
      code: "CURSOR_REPEATED",
      message: 'the list of crm.contact repeats the cursor "same"',
    });
  });

  test("should be refused when it comes back to a page of long ago", async () => {
    let calls = 0;
    const list: List = async ({ cursor = "c0" }) => {
      calls += 1;
      return { items: [], next: `c${(Number(cursor.slice(1)) + 1) % 50}` };
    };
    expect(await rejection(all(setup(list).pages))).toMatchObject({ code: "CURSOR_REPEATED" });
    expect(calls).toBeLessThan(200);
  });
});

describe("the rows of a page", () => {
  const rowsOf = async (items: readonly unknown[], parts: object = {}) => {
    const [page] = await all(setup(async () => ({ items }), parts).pages);
    return page as ListedPage;
  };

  test("should be evidence of whole objects, in the row's shape", async () => {
    const { rows } = await rowsOf([{ ...contact(7), rev: 5 }]);
    expect(rows).toMatchObject([
      {
        id: "7",
        kind: "object",
        evidence: { kind: "object", shape: "row", version: "n:5", object: { id: 7 } },
      },
    ]);
  });

  test("should count once per id: the last of them", async () => {
    const { rows } = await rowsOf([
      contact("1", "old"),
      contact("2"),
      contact("1", "new"),
      contact(1, "newest"),
    ]);
    expect(rows.map((row) => [row.id, row.kind === "object" && row.evidence.object])).toEqual([
      ["1", contact(1, "newest")],
      ["2", contact("2")],
    ]);
  });

  test("should be left to a fetch where the schema refuses them and their id can be read", async () => {
    const { rows, unreadable } = await rowsOf([{ id: "1", name: 5 }, contact("2")]);
    expect(rows).toMatchObject([
      { id: "1", kind: "refused", error: { code: "SCHEMA_MISMATCH", path: "name" } },
      { id: "2", kind: "object" },
    ]);
    expect(unreadable).toEqual([]);
  });

  test("should be told of where they have no id", async () => {
    const { rows, unreadable } = await rowsOf([null, "text", {}, { id: "", name: "nobody" }, contact("2")]);
    expect(rows.map((row) => row.id)).toEqual(["2"]);
    expect(unreadable).toHaveLength(4);
    expect(unreadable.every((error) => error instanceof Error)).toBe(true);
  });

  test("should be ids and versions where they are summaries", async () => {
    const { rows, unreadable } = await rowsOf(
      [
        { id: 1, version: 5 },
        { id: "2", version: null },
        { id: "3" },
        { version: 5 },
        null,
        { id: "4", version: {} },
      ],
      { listItems: "summary" },
    );
    expect(rows).toEqual([
      { id: "1", kind: "summary", version: "n:5" },
      { id: "2", kind: "summary", version: null },
      { id: "3", kind: "summary", version: null },
    ]);
    expect(unreadable).toHaveLength(3);
  });

  test("should come with the ids that the provider says are deleted, as text", async () => {
    const [page] = await all(setup(async () => ({ items: [], deleted: [1, 2n, "3"] })).pages);
    expect(page?.deleted).toEqual(["1", "2", "3"]);
  });
});
