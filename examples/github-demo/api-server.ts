import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { kinds, type Kind } from "./kinds.ts";
import { textOf, type Json, type JsonObject } from "./recordings.ts";
import type { World } from "./world.ts";

/** What the API has answered. It counts here, at the far end of the wire, so that it holds whatever becomes of a client. */
export interface ApiLedger {
  /** Requests for one object, whatever the answer. */
  fetches: number;
  /** Requests for a page of a list. */
  pages: number;
  /** Answers of either that were 304 Not Modified. */
  notModified: number;
}

export interface ApiServerOptions {
  readonly token: string;
  /** How long an answer takes, in milliseconds. An API that answers at once is one that nobody has. */
  readonly latencyMs: number;
}

export interface ApiServer {
  readonly url: string;
  readonly ledger: Readonly<ApiLedger>;
  close(): Promise<void>;
}

/** Serves the world as GitHub's REST API does: paths, pages, `Link`, `ETag`, and its ways of saying no. */
export async function startApiServer(world: World, options: ApiServerOptions): Promise<ApiServer> {
  const ledger: ApiLedger = { fetches: 0, pages: 0, notModified: 0 };
  const server = createServer((request, response) => {
    const answer =
      request.headers.authorization === `Bearer ${options.token}`
        ? route(world, request, ledger)
        : refusal(401);
    setTimeout(() => send(request, response, answer, world.now, ledger), options.latencyMs);
  });
  const url = await listen(server);
  return {
    url,
    ledger,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** On a free port of the loopback interface. */
export async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Answer {
  readonly status: number;
  readonly body: Json;
  readonly link?: string;
}

function route(world: World, request: IncomingMessage, ledger: ApiLedger): Answer {
  const url = new URL(request.url ?? "/", `http://${request.headers.host}`);
  const [, repository, rest] = /^\/repos\/([^/]+\/[^/]+)\/(.+)$/.exec(url.pathname) ?? [];
  if (request.method !== "GET" || repository === undefined || rest === undefined) return refusal(404);
  const listed = kinds.find(({ collection }) => collection === rest);
  if (listed !== undefined) {
    ledger.pages += 1;
    return page(world.list(repository, listed), listed, url);
  }
  ledger.fetches += 1;
  const kind = kinds.find(
    ({ collection }) => rest.startsWith(`${collection}/`) && !rest.slice(collection.length + 1).includes("/"),
  );
  if (kind === undefined) return refusal(404);
  const object = world.read(canonical(url.pathname));
  if (object === undefined) return refusal(404);
  return object === "deleted" ? refusal(kind.goneStatus ?? 404) : { status: 200, body: object };
}

/** Two clients may escape one path differently. */
function canonical(path: string): string {
  return path
    .split("/")
    .map((part) => encodeURIComponent(decodeURIComponent(part)))
    .join("/");
}

function page(objects: readonly JsonObject[], kind: Kind, url: URL): Answer {
  const query = url.searchParams;
  const perPage = Math.min(100, Math.max(1, Number(query.get("per_page") ?? 30)));
  const number = Math.max(1, Number(query.get("page") ?? 1));
  const since = query.get("since");
  const state = query.get("state") ?? "open";
  const rows = objects.filter(
    (object) =>
      (kind.since === undefined ||
        since === null ||
        Date.parse(textOf(object["updated_at"])) >= Date.parse(since)) &&
      (kind.openByDefault === undefined || state === "all" || object["state"] === state),
  );
  const last = Math.max(1, Math.ceil(rows.length / perPage));
  const shown = rows
    .slice((number - 1) * perPage, number * perPage)
    .map((row) => withoutFields(row, kind.notInLists ?? []));
  const links = [
    ...(number < last ? [linkTo(url, number + 1, "next"), linkTo(url, last, "last")] : []),
    ...(number > 1 ? [linkTo(url, number - 1, "prev"), linkTo(url, 1, "first")] : []),
  ];
  return {
    status: 200,
    body: kind.wrappedIn === undefined ? shown : { total_count: rows.length, [kind.wrappedIn]: shown },
    ...(links.length > 0 ? { link: links.join(", ") } : undefined),
  };
}

function linkTo(url: URL, number: number, rel: string): string {
  const target = new URL(url);
  target.searchParams.set("page", String(number));
  return `<${target.href}>; rel="${rel}"`;
}

function withoutFields(row: JsonObject, fields: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(row).filter(([name]) => !fields.includes(name)));
}

function refusal(status: 401 | 404 | 410): Answer {
  const message = { 401: "Bad credentials", 404: "Not Found", 410: "This issue was deleted" }[status];
  return {
    status,
    body: { message, documentation_url: "https://docs.github.com/rest", status: String(status) },
  };
}

const HOURLY_LIMIT = 15_000;

function send(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  now: Date,
  ledger: ApiLedger,
): void {
  const body = JSON.stringify(answer.body);
  const etag = `W/"${createHash("sha256").update(body).digest("hex")}"`;
  const unchanged = answer.status === 200 && request.headers["if-none-match"] === etag;
  if (unchanged) ledger.notModified += 1;
  // As at GitHub, a 304 is free of charge. The budget never ends here: the demo is not about waiting.
  const used = Math.min(HOURLY_LIMIT - 1, ledger.fetches + ledger.pages - ledger.notModified);
  response.writeHead(unchanged ? 304 : answer.status, {
    date: now.toUTCString(),
    "x-ratelimit-limit": HOURLY_LIMIT,
    "x-ratelimit-used": used,
    "x-ratelimit-remaining": HOURLY_LIMIT - used,
    "x-ratelimit-reset": Math.floor(now.getTime() / 1_000) + 3_600,
    ...(answer.status === 200 ? { etag } : undefined),
    ...(answer.link === undefined ? undefined : { link: answer.link }),
    ...(unchanged ? undefined : { "content-type": "application/json; charset=utf-8" }),
  });
  response.end(unchanged ? undefined : body);
}
