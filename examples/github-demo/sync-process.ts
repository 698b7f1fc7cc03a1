/**
 * The syncing process: the service that a user would run. It receives GitHub's webhooks and keeps a copy of the objects
 * in its own tables. It is the process that gets killed.
 */
import { createServer } from "node:http";
import { SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { listen } from "./api-server.ts";
import { applyChange, createTables } from "./copy.ts";
import { githubProvider } from "./provider.ts";
import { resources } from "./resources.ts";
import type { Message, Request, SyncConfig } from "./sync-protocol.ts";

const config = JSON.parse(process.argv[2] ?? "") as SyncConfig;
const { repositories } = config;
createTables(config.database);

const engine = new SyncEngine({
  providers: [githubProvider(config)],
  store: sqliteStore({ path: config.database }),
  connections: {
    get: (_provider, id) =>
      repositories.includes(id) ? { id, credentials: { token: config.token } } : undefined,
    list: () => repositories,
  },
});

const routes = Object.keys(resources).map((name) => `github.${name as keyof typeof resources}` as const);
for (const route of routes) {
  engine.handle(route, (change) => change.commit((tx) => applyChange(tx, change)));
}

engine.on("change.unchanged", ({ eventCount }) => tell({ kind: "unchanged", events: eventCount }));
engine.on("change.lagging", () => tell({ kind: "lagging" }));

const receiver = engine.webhook("github");
const server = createServer(receiver.node);
await engine.start();
process.on("message", (request: Request) => void answer(request));
process.once("disconnect", () => process.exit()); // the parent is gone, and with it all that there was to do
tell({ kind: "listening", url: await listen(server) });

async function answer(request: Request): Promise<void> {
  try {
    tell({ kind: "answer", id: request.id, answer: await obey(request) });
    if (request.name === "stop") process.disconnect();
  } catch (error) {
    tell({
      kind: "failure",
      id: request.id,
      message: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  }
}

async function obey(request: Request): Promise<unknown> {
  switch (request.name) {
    case "reconcile": {
      const { mode } = request;
      const able = routes.filter((route) => mode === "full" || resources[resourceOf(route)].incremental);
      return forEach(able, (route, connection) => engine.reconcile(route, { mode, connection }));
    }
    case "verify":
      return forEach(routes, (route, connection) => engine.verify(route, { connection }));
    case "drain":
      return (await engine.drain({ timeoutMs: request.timeoutMs })).idle;
    case "stop":
      server.close();
      server.closeAllConnections();
      await engine.stop();
      return null;
  }
}

type Route = (typeof routes)[number];

/** Of each repository all resources together; one repository after the other. */
async function forEach<Result>(
  of: readonly Route[],
  run: (route: Route, connection: string) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const connection of repositories) {
    results.push(...(await Promise.all(of.map((route) => run(route, connection)))));
  }
  return results;
}

function resourceOf(route: Route): keyof typeof resources {
  return route.slice("github.".length) as keyof typeof resources;
}

/**
 * The kernel has the message when `send` returns, and the parent gets it even if this process is killed right after. A
 * kill between a commit and its message leaves these two counts short of it; they decide nothing.
 */
function tell(message: Message): void {
  process.send?.(message);
}
