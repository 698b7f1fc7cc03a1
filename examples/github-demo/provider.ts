/** GitHub as a provider: what a user of trueup would write, once, beside the resources. */
import { defineProvider, githubSignature } from "trueup";
import { z } from "zod";
import { resources } from "./resources.ts";

/**
 * Where a delivery of each event carries its object. The header that names the event is not signed, and need not be: a
 * lie finds no object, or costs a fetch.
 */
const topics: Readonly<Record<string, { resource: keyof typeof resources; field: string } | undefined>> = {
  issues: { resource: "issue", field: "issue" },
  issue_comment: { resource: "issue_comment", field: "comment" },
  pull_request: { resource: "pull_request", field: "pull_request" },
  pull_request_review_comment: { resource: "review_comment", field: "comment" },
  release: { resource: "release", field: "release" },
  label: { resource: "label", field: "label" },
  milestone: { resource: "milestone", field: "milestone" },
  workflow_run: { resource: "workflow_run", field: "workflow_run" },
};

interface Payload {
  readonly action?: string;
  readonly repository?: { readonly full_name: string };
  readonly [field: string]: unknown;
}

/** What the objects of all deliveries have in common, as far as it is of use here. */
interface WebhookObject {
  readonly id: number;
  readonly number?: number;
  readonly name?: string;
  readonly updated_at?: string;
}

export const githubProvider = (options: { readonly apiUrl: string; readonly secret: string }) =>
  defineProvider({
    name: "github",
    credentials: z.object({ token: z.string() }),
    api: {
      baseUrl: (connection) => `${options.apiUrl}/repos/${connection.id}/`,
      headers: ({ credentials }) => ({
        accept: "application/vnd.github+json",
        authorization: `Bearer ${credentials.token}`,
      }),
    },
    webhook: {
      verify: githubSignature({ secret: options.secret }),
      connection: (delivery) => (delivery.json as Payload).repository?.full_name,
      events: (delivery) => {
        const event = delivery.header("x-github-event") ?? "";
        const payload = delivery.json as Payload;
        const topic = topics[event];
        if (topic === undefined) return [];
        const { resource, field } = topic;
        const object = payload[field] as WebhookObject | undefined;
        if (object === undefined) return [];
        return [
          {
            type: `${event}.${payload.action}`,
            resource,
            objectId: resource === "label" ? object.name : (object.number ?? object.id),
            hint: payload.action === "deleted" ? "delete" : "upsert",
            version: object.updated_at,
          },
        ];
      },
    },
    resources,
  });
