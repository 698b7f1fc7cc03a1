import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, systemClock } from "../../src/core/clock.ts";

/** How to run a server of one's own: with its data in a directory, on a port. */
interface Recipe {
  readonly command: string;
  readonly args: (port: number, directory: string) => readonly string[];
  readonly env?: (port: number, directory: string) => Readonly<Record<string, string>>;
}

const rabbitServer = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/lib/rabbitmq/bin/rabbitmq-server"];

export const RECIPES = {
  nats: {
    command: "nats-server",
    // Written through: what is acked outlives a kill.
    args: (port, directory) => ["-a", "127.0.0.1", "-p", `${port}`, "-js", "-sd", directory],
  },
  redis: {
    command: "redis-server",
    args: (port, directory) => [
      "--bind",
      "127.0.0.1",
      "--port",
      `${port}`,
      "--dir",
      directory,
      "--save",
      "",
      "--appendonly",
      "yes",
      "--appendfsync",
      "always",
    ],
  },
  amqp: {
    command: rabbitServer.find((path) => existsSync(path)) ?? "rabbitmq-server",
    args: () => [],
    env: (port, directory) => ({
      HOME: directory,
      RABBITMQ_NODENAME: `trueup-${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
      RABBITMQ_NODE_PORT: `${port}`,
      RABBITMQ_DIST_PORT: `${port > 40_000 ? port - 20_000 : port + 20_000}`,
      RABBITMQ_MNESIA_BASE: directory,
      RABBITMQ_LOG_BASE: directory,
      RABBITMQ_CONFIG_FILE: join(directory, "none"),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, "plugins"),
      RABBITMQ_PID_FILE: join(directory, "pid"),
    }),
  },
} satisfies Record<string, Recipe>;

/** A server that a test may kill. */
export class OwnServer {
  readonly port: number;
  readonly #recipe: Recipe;
  readonly #directory = mkdtempSync(join(tmpdir(), "trueup-server-"));
  #child: ChildProcess | undefined;

  readonly #more: readonly string[];

  private constructor(recipe: Recipe, port: number, more: readonly string[]) {
    this.#recipe = recipe;
    this.port = port;
    this.#more = more;
  }

  /** @param more arguments besides the usual ones */
  static async start(name: keyof typeof RECIPES, more: readonly string[] = []): Promise<OwnServer> {
    const server = new OwnServer(RECIPES[name], await freePort(), more);
    await server.start();
    return server;
  }

  /** Resolves once it takes connections. */
  async start(): Promise<void> {
    const { args, command, env } = this.#recipe;
    this.#child = spawn(command, [...args(this.port, this.#directory), ...this.#more], {
      detached: true, // a group of its own, so that what it starts ends with it
      stdio: "ignore",
      env: { ...process.env, ...env?.(this.port, this.#directory) },
    });
    while (!(await takesConnections(this.port))) {
      if (this.#child.exitCode !== null) throw new Error(`${command} ended with ${this.#child.exitCode}`);
      await sleep(systemClock, 50);
    }
  }

  async kill(how: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.pid === undefined || child.exitCode !== null) return;
    const exited = once(child, "exit");
    process.kill(-child.pid, how);
    await exited;
    while (await takesConnections(this.port)) await sleep(systemClock, 20);
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 10 });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const answer = (taken: boolean) => {
      socket.destroy();
      resolve(taken);
    };
    socket.on("connect", () => answer(true)).on("error", () => answer(false));
  });
}
