/**
 * The resources of the demo: what a user of trueup would write for each kind of object that is to be kept. A connection
 * is a repository (see provider.ts), so every path is one below `/repos/{owner}/{repo}/`.
 */
import { defineResource, type Context, type ListArguments, type Page } from "trueup";
import { z } from "zod";

const read =
  (path: string) =>
  (id: string, { api }: Context): Promise<unknown> =>
    api.get(`${path}/${encodeURIComponent(id)}`);

/** Pages are chained by `Link` headers; the cursor is the next page's whole URL. `rows` names the field with the rows. */
const pages =
  (path: string, rows?: string) =>
  async ({ since, cursor, limit }: ListArguments, { api }: Context): Promise<Page> => {
    const first = { path, query: { state: "all", per_page: limit, since } };
    const { data, headers } = await api.request<unknown>(cursor === undefined ? first : { path: cursor });
    const next = /<([^>]+)>; rel="next"/.exec(headers["link"] ?? "")?.[1];
    return {
      items: (rows === undefined ? data : (data as Record<string, unknown>)[rows]) as unknown[],
      next,
    };
  };

/**
 * This API lags its webhooks by a fraction of a second; by default half a minute passes before an answer is believed
 * that contradicts an event. An object that changes again and again is fetched four times a second at most.
 */
const shared = {
  freshness: { firstRetryMs: 100, believeAfterMs: 1_500 },
  coalesceMs: 250,
  pageSize: 30,
} as const;

const versioned = { versionOf: (object: { updated_at: string }) => object.updated_at };

export const resources = {
  issue: defineResource({
    schema: z.object({
      number: z.number(),
      title: z.string(),
      state: z.string(),
      body: z.string().nullable(),
      labels: z.array(z.object({ name: z.string() })),
      updated_at: z.string(),
    }),
    idOf: (issue) => issue.number,
    fetch: read("issues"),
    list: pages("issues"),
    ...versioned,
    ...shared,
  }),
  issue_comment: defineResource({
    schema: z.object({ id: z.number(), body: z.string(), issue_url: z.string(), updated_at: z.string() }),
    idOf: (comment) => comment.id,
    fetch: read("issues/comments"),
    list: pages("issues/comments"),
    ...versioned,
    ...shared,
  }),
  pull_request: defineResource({
    // The last two are in a single read only: a list's row is no whole pull request.
    schema: z.object({
      number: z.number(),
      title: z.string(),
      state: z.string(),
      draft: z.boolean(),
      updated_at: z.string(),
      merged: z.boolean(),
      changed_files: z.number(),
    }),
    idOf: (pull) => pull.number,
    fetch: read("pulls"),
    list: async (args, context) => {
      const { items, next } = await pages("pulls")(args, context);
      const rows = items as { number: number; updated_at: string }[];
      return { items: rows.map((row) => ({ id: row.number, version: row.updated_at })), next };
    },
    listItems: "summary",
    incremental: false,
    ...versioned,
    ...shared,
  }),
  review_comment: defineResource({
    schema: z.object({ id: z.number(), body: z.string(), path: z.string(), updated_at: z.string() }),
    idOf: (comment) => comment.id,
    fetch: read("pulls/comments"),
    list: pages("pulls/comments"),
    ...versioned,
    ...shared,
  }),
  // Releases and labels say no time of their last change: content alone decides.
  release: defineResource({
    schema: z.object({
      id: z.number(),
      tag_name: z.string(),
      body: z.string().nullable(),
      prerelease: z.boolean(),
    }),
    idOf: (release) => release.id,
    fetch: read("releases"),
    list: pages("releases"),
    incremental: false,
    ...shared,
  }),
  label: defineResource({
    schema: z.object({ name: z.string(), color: z.string(), description: z.string().nullable() }),
    idOf: (label) => label.name,
    fetch: read("labels"),
    list: pages("labels"),
    incremental: false,
    ...shared,
  }),
  milestone: defineResource({
    schema: z.object({
      number: z.number(),
      title: z.string(),
      state: z.string(),
      description: z.string(),
      updated_at: z.string(),
    }),
    idOf: (milestone) => milestone.number,
    fetch: read("milestones"),
    list: pages("milestones"),
    incremental: false,
    ...versioned,
    ...shared,
  }),
  workflow_run: defineResource({
    schema: z.object({
      id: z.number(),
      display_title: z.string(),
      status: z.string(),
      conclusion: z.string().nullable(),
      updated_at: z.string(),
    }),
    idOf: (run) => run.id,
    fetch: read("actions/runs"),
    list: pages("actions/runs", "workflow_runs"),
    incremental: false,
    ...versioned,
    ...shared,
  }),
};
