import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Cluster, Redis } from "ioredis";
import { onTestFinished } from "vitest";
import { systemClock, systemRandom } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/hooks.ts";
import type { Store, StoreEnvironment } from "../../src/core/store.ts";

/** Removes what a store under a prefix has left, and nothing else. */
export async function removeKeys(client: Redis, prefix: string): Promise<void> {
  for await (const keys of client.scanStream({ match: `{${prefix}*`, count: 1_000 })) {
    await Promise.all((keys as string[]).map((key) => client.unlink(key))); // in a cluster, of different slots
  }
}

export function newPrefix(): string {
  return `trueup-test-${randomBytes(6).toString("hex")}`;
}

/** What the store is told, as lines. */
export function environment(lines: string[] = []): StoreEnvironment {
  const note =
    (level: string): Logger["warn"] =>
    (_, message) =>
      void lines.push(`${level}: ${message}`);
  return {
    clock: systemClock,
    random: systemRandom,
    logger: { debug: () => {}, info: note("info"), warn: note("warn"), error: note("error") },
    eventTtlMs: 60_000,
    maxEventsPerChange: 10,
  };
}

/** Opens a store for the length of a test. */
export async function opened(store: Store, lines?: string[]): Promise<Store> {
  await store.open(environment(lines));
  onTestFinished(() => store.close());
  return store;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A Redis of the test's own, which it may restart, fill, and kill. */
export class RedisServer {
  readonly port: number;
  readonly #directory: string;
  readonly #options: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(port: number, directory: string, options: readonly string[]) {
    this.port = port;
    this.#directory = directory;
    this.#options = options;
  }

  /** For the length of a test. */
  static async start(...options: string[]): Promise<RedisServer> {
    const server = await RedisServer.begin(...options);
    onTestFinished(() => server.end());
    return server;
  }

  /** Until it is ended. */
  static async begin(...options: string[]): Promise<RedisServer> {
    const directory = mkdtempSync(join(tmpdir(), "trueup-redis-"));
    const server = new RedisServer(await freePort(), directory, options);
    await server.start();
    return server;
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true });
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const own = ["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.#directory];
    this.#process = spawn("redis-server", [...own, "--save", "", ...this.#options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const output = this.#process.stdout;
    if (output === null) throw new Error("redis-server has no output");
    for await (const line of output.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
      if (String(line).includes("Ready to accept connections")) break;
    }
    output.resume();
  }

  /** Ends it as a loss of power would. */
  async kill(): Promise<void> {
    const process = this.#process;
    if (process === undefined || process.exitCode !== null || process.signalCode !== null) return;
    const exited = once(process, "exit");
    process.kill("SIGKILL");
    await exited;
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#process?.kill(name);
  }

  /** A client of the test's own. */
  client(): Redis {
    const client = new Redis(this.port, "127.0.0.1", { retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on("error", () => {});
    onTestFinished(() => client.disconnect());
    return client;
  }
}

/** Three masters that have all slots between them. */
export class RedisCluster {
  readonly #servers: readonly RedisServer[];

  private constructor(servers: readonly RedisServer[]) {
    this.#servers = servers;
  }

  static async start(): Promise<RedisCluster> {
    const servers = await Promise.all(
      [1, 2, 3].map(() => RedisServer.begin("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")),
    );
    const nodes = servers.map(({ port }) => `127.0.0.1:${port}`);
    await promisify(execFile)("redis-cli", ["--cluster", "create", ...nodes, "--cluster-yes"]);
    return new RedisCluster(servers);
  }

  get urls(): string[] {
    return this.#servers.map(({ url }) => url);
  }

  client(): Cluster {
    return new Cluster(this.#servers.map(({ port }) => ({ host: "127.0.0.1", port })));
  }

  async end(): Promise<void> {
    for (const server of this.#servers) await server.end();
  }
}
