/**
 * The kinds of objects that GitHub keeps in this demo: where a webhook carries them and where the API serves them.
 * This is GitHub's side. The syncing process has its own view of the same thing in provider.ts, as a user would.
 */
export interface Kind {
  /** What the provider definition calls it. */
  readonly resource: string;
  /** X-GitHub-Event of the deliveries about it. */
  readonly event: string;
  /** The field of the delivery's payload that holds the object. */
  readonly field: string;
  /** Its path below `/repos/{owner}/{repo}/`. */
  readonly collection: string;
  /** The field that the last part of its path names. */
  readonly key: "id" | "number" | "name";
  /** Path segments that are followed by its number wherever GitHub links to it. */
  readonly numberedPaths?: readonly string[];
  /** A field that people edit, so that no two states of an object are equal. */
  readonly text: string;
  /** Lists wrap their rows in this field. */
  readonly wrappedIn?: string;
  /** Lists show open ones only, unless asked for `state=all`. */
  readonly openByDefault?: true;
  /** Lists understand `since`. */
  readonly since?: true;
  /** A list's rows lack these fields, which only a single read has. */
  readonly notInLists?: readonly string[];
  /** What the API says once it was deleted. Absent: nobody can delete it. */
  readonly goneStatus?: 404 | 410;
  /** How many of them each repository gets in the course of the demo. */
  readonly perRepository: number;
}

export const kinds: readonly Kind[] = [
  {
    resource: "issue",
    event: "issues",
    field: "issue",
    collection: "issues",
    key: "number",
    numberedPaths: ["issues"],
    text: "title",
    openByDefault: true,
    since: true,
    goneStatus: 410,
    perRepository: 45,
  },
  {
    resource: "issue_comment",
    event: "issue_comment",
    field: "comment",
    collection: "issues/comments",
    key: "id",
    text: "body",
    since: true,
    goneStatus: 404,
    perRepository: 45,
  },
  {
    resource: "pull_request",
    event: "pull_request",
    field: "pull_request",
    collection: "pulls",
    key: "number",
    numberedPaths: ["pulls", "pull", "issues"],
    text: "title",
    openByDefault: true,
    notInLists: ["merged", "mergeable", "comments", "commits", "additions", "deletions", "changed_files"],
    perRepository: 35,
  },
  {
    resource: "review_comment",
    event: "pull_request_review_comment",
    field: "comment",
    collection: "pulls/comments",
    key: "id",
    text: "body",
    since: true,
    goneStatus: 404,
    perRepository: 20,
  },
  {
    resource: "release",
    event: "release",
    field: "release",
    collection: "releases",
    key: "id",
    text: "body",
    goneStatus: 404,
    perRepository: 12,
  },
  {
    resource: "label",
    event: "label",
    field: "label",
    collection: "labels",
    key: "name",
    text: "description",
    goneStatus: 404,
    perRepository: 15,
  },
  {
    resource: "milestone",
    event: "milestone",
    field: "milestone",
    collection: "milestones",
    key: "number",
    numberedPaths: ["milestones", "milestone"],
    text: "description",
    openByDefault: true,
    goneStatus: 404,
    perRepository: 8,
  },
  {
    resource: "workflow_run",
    event: "workflow_run",
    field: "workflow_run",
    collection: "actions/runs",
    key: "id",
    text: "display_title",
    wrappedIn: "workflow_runs",
    goneStatus: 404,
    perRepository: 20,
  },
];
