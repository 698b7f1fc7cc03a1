import { describe, expect, test } from "vitest";
import type { Context } from "../../src/core/api.ts";
import type { ListArguments, Page } from "../../src/core/resource.ts";
import { cursorPages, linkPages, type ListFunction, offsetPages, pageNumbers } from "../../src/http/index.ts";
import { type Handler, json, rejection, setup, TOKEN } from "./harness.ts";

const since = new Date(Date.UTC(2026, 0, 2));

/** Lists to the end as the reconciler does, cursors through JSON as a checkpoint would. */
async function all(list: ListFunction, context: Context, args: Partial<ListArguments> = {}): Promise<Page[]> {
  const pages: Page[] = [];
  let cursor: string | undefined;
  do {
    const page = await list({ since: undefined, limit: 2, ...args, cursor }, context);
    pages.push(page);
    cursor = page.next == null ? undefined : (JSON.parse(JSON.stringify(page.next)) as string);
  } while (cursor !== undefined && pages.length < 20);
  return pages;
}

const items = (pages: Page[]) => pages.map((page) => page.items);
const queryOf = (url: string | undefined) => Object.fromEntries(new URL(url ?? "", "http://x").searchParams);

/** Rows 1 to 5, by a window into them. */
const rows = (offset: number, limit: number) => [1, 2, 3, 4, 5].slice(offset, offset + limit);

describe("linkPages", () => {
  const linked =
    (link: (page: number, host: string) => string): Handler =>
    (request, response) => {
      const page = Number(queryOf(request.url)["page"] ?? 1);
      const next = page < 3 ? { link: `${link(page + 1, request.headers.host ?? "")}; rel="next"` } : {};
      json(response, rows((page - 1) * 2, 2), next);
    };
  const list = linkPages({ path: "issues", query: (args) => ({ since: args.since, per_page: args.limit }) });

  test.each([
    ["absolute", (page: number, host: string) => `<http://${host}/v1/issues?page=${page}&token=a%2Bb>`],
    ["relative to the host", (page: number) => `</v1/issues?page=${page}&token=a%2Bb>`],
    ["relative to the request", (page: number) => `<?page=${page}&token=a%2Bb>`],
  ])("should follow the header's links as they are: %s", async (_, link) => {
    const { context, server } = await setup(linked(link));
    expect(items(await all(list, context, { since }))).toEqual([[1, 2], [3, 4], [5]]);
    expect(server.seen.map(({ url }) => url)).toEqual([
      "/v1/issues?since=2026-01-02T00%3A00%3A00.000Z&per_page=2",
      "/v1/issues?page=2&token=a%2Bb",
      "/v1/issues?page=3&token=a%2Bb",
    ]);
  });

  test("should keep of a link to the list itself its query alone, and of any link no secret (I12)", async () => {
    const secretive = linkPages({
      path: "/issues",
      query: ({ since: from, limit }) => ({ since: from, api_key: "key of the app", limit }),
    });
    const { context, server } = await setup((request, response) => {
      const { page } = queryOf(request.url);
      const query = `page=${Number(page ?? 1) + 1}&ids=1&ids=2&api_key=key+of+the+app&t=${TOKEN}`;
      // The second link leads elsewhere.
      const next = page === undefined ? `?${query}` : `/v1/repositories/7/issues?${query}`;
      json(response, [1], page === "3" ? {} : { link: `<${next}>; rel="next"` });
    });
    const pages = await all(secretive, context, { since });
    const { origin } = new URL(`http://${server.seen[0]?.headers.host}`);
    expect(pages.map(({ next }) => next)).toEqual([
      "?page=2&ids=1&ids=2",
      `${origin}/v1/repositories/7/issues?page=3&ids=1&ids=2`,
      undefined,
    ]);
    expect(server.seen.map(({ url }) => url).slice(1)).toEqual([
      "/v1/issues?page=2&ids=1&ids=2&api_key=key%20of%20the%20app",
      "/v1/repositories/7/issues?page=3&ids=1&ids=2&api_key=key%20of%20the%20app",
    ]);
  });

  test.each([
    "<http://evil.example/v1/issues?page=2>",
    "<//evil.example/v1/issues>",
    "</admin>",
    "<http://user@HOST/v1/issues>",
  ])("should not follow %s", async (link) => {
    const { context, server } = await setup(linked((_page, host) => link.replace("HOST", host)));
    expect(await rejection(all(list, context))).toMatchObject({ code: "PATH_REFUSED" });
    expect(server.seen).toHaveLength(1);
  });

  test("should take a link from the body", async () => {
    const { context } = await setup((request, response) => {
      const second = request.url?.includes("after=2");
      json(response, {
        results: rows(second ? 2 : 0, 2),
        paging: { next: second ? null : "/v1/contacts?after=2" },
      });
    });
    const fromBody = linkPages({
      path: "contacts",
      items: (data) => data.results,
      next: (data) => data.paging.next,
    });
    expect(items(await all(fromBody, context))).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  test("should refuse a link that is none, and rows that are none", async () => {
    const { context } = await setup((_request, response) =>
      json(response, { rows: 1 }, { link: "<http://[>; rel=next" }),
    );
    for (const options of [
      { items: () => [] },
      {},
      { items: (data: { rows: number }) => data.rows as never },
    ]) {
      expect(await rejection(all(linkPages({ path: "x", ...options }), context))).toMatchObject({
        code: "LIST_INVALID",
      });
    }
  });
});

describe("cursorPages", () => {
  test("should pass each page's cursor on", async () => {
    const { context, server } = await setup((request, response) => {
      const after = Number(queryOf(request.url)["starting_after"] ?? 0);
      json(response, {
        data: rows(after, 2).map((id) => ({ id })),
        has_more: after + 2 < 5,
        gone: [9],
        as_of: 1_000,
      });
    });
    const list = cursorPages({
      path: ({ limit }) => `customers/${limit}`,
      query: ({ cursor, limit }) => ({ starting_after: cursor, limit }),
      headers: { "x-version": "3" },
      items: (data) => data.data,
      deleted: (data) => data.gone,
      asOf: (data) => new Date(data.as_of),
      next: (data) => (data.has_more ? data.data.at(-1)?.id : undefined),
    });
    const pages = await all(list, context);
    expect(items(pages)).toEqual([[{ id: 1 }, { id: 2 }], [{ id: 3 }, { id: 4 }], [{ id: 5 }]]);
    expect(pages[0]).toMatchObject({ next: "2", deleted: [9], asOf: new Date(1_000) });
    expect(server.seen.map(({ url }) => url)).toEqual([
      "/v1/customers/2?limit=2",
      "/v1/customers/2?starting_after=2&limit=2",
      "/v1/customers/2?starting_after=4&limit=2",
    ]);
    expect(server.seen.every(({ headers }) => headers["x-version"] === "3")).toBe(true);
  });

  test.each([null, "", undefined])("should end with %j", async (next) => {
    const { context } = await setup((_request, response) => json(response, []));
    expect(await all(cursorPages({ path: "x", next: () => next }), context)).toEqual([
      { items: [], deleted: undefined, asOf: undefined, next: undefined },
    ]);
  });
});

describe("pageNumbers", () => {
  const handler: Handler = (request, response) => {
    const page = Number(queryOf(request.url)["page"]);
    // Asked for any number, this provider gives two.
    json(response, rows((page - 1) * 2, 2), { "x-pages": "3" });
  };

  test("should go on to the first empty page, since a short one proves nothing", async () => {
    const { context } = await setup(handler);
    const list = pageNumbers({ path: "projects", query: ({ page, limit }) => ({ page, per_page: limit }) });
    expect(items(await all(list, context, { limit: 100 }))).toEqual([[1, 2], [3, 4], [5], []]);
  });

  test("should stop where the provider says how many there are", async () => {
    const { context, server } = await setup(handler);
    const list = pageNumbers({
      path: "projects",
      query: ({ page }) => ({ page }),
      pages: (_data, headers) => Number(headers["x-pages"]),
    });
    expect(items(await all(list, context))).toEqual([[1, 2], [3, 4], [5]]);
    expect(server.seen).toHaveLength(3);
  });

  test("should count from where it is told", async () => {
    const { context, server } = await setup((_request, response) => json(response, [1]));
    const list = pageNumbers({ path: "x", query: ({ page }) => ({ page }), first: 0, pages: () => 2 });
    await all(list, context);
    expect(server.seen.map(({ url }) => url)).toEqual(["/v1/x?page=0", "/v1/x?page=1"]);
  });

  test("should refuse a cursor of another list", async () => {
    const { context } = await setup(handler);
    const list = pageNumbers({ path: "x", query: ({ page }) => ({ page }) });
    expect(await rejection(list({ since: undefined, limit: 1, cursor: "http://x" }, context))).toMatchObject({
      code: "LIST_INVALID",
    });
  });
});

describe("offsetPages", () => {
  const handler: Handler = (request, response) =>
    json(response, { items: rows(Number(queryOf(request.url)["start"]), 2), total: 5 });
  const options = {
    path: "deals",
    query: ({ offset, limit }: { offset: number; limit: number }) => ({ start: offset, limit }),
    items: (data: { items: unknown[] }) => data.items,
  };

  test("should count by what the pages really held", async () => {
    const { context } = await setup(handler);
    expect(items(await all(offsetPages(options), context, { limit: 100 }))).toEqual([
      [1, 2],
      [3, 4],
      [5],
      [],
    ]);
  });

  test("should stop at the total", async () => {
    const { context } = await setup(handler);
    const list = offsetPages({ ...options, total: (data) => data.total });
    expect(items(await all(list, context))).toEqual([[1, 2], [3, 4], [5]]);
  });
});
