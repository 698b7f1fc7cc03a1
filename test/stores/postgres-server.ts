import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Where Debian has the server's programs, which are not on the PATH; elsewhere they are. */
function programs(): string {
  const found = globSync("/usr/lib/postgresql/*/bin/initdb").toSorted().at(-1);
  return found === undefined ? "" : dirname(found);
}

/** PostgreSQL refuses to run as root. */
const asPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];

async function runAs(program: string, ...args: string[]): Promise<void> {
  const [command = "", ...rest] = [...asPostgres, join(programs(), program), ...args];
  await run(command, rest);
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A PostgreSQL of a test's own, which may be stopped and killed. */
export class PostgresServer {
  readonly #directory: string;
  readonly port: number;

  private constructor(directory: string, port: number) {
    this.#directory = directory;
    this.port = port;
  }

  static async start(): Promise<PostgresServer> {
    const directory = mkdtempSync(join(tmpdir(), "trueup-postgres-"));
    chmodSync(directory, 0o777);
    const server = new PostgresServer(directory, await freePort());
    await runAs("initdb", "-D", server.#data, "-U", "postgres", "-A", "trust", "--no-sync");
    await server.start();
    return server;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  async start(): Promise<void> {
    const options = `-p ${this.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${this.#directory}`;
    // The server outlives pg_ctl and keeps its output: with a pipe, one would wait for it.
    const log = join(this.#directory, "log");
    const [command, ...rest] = [
      ...asPostgres,
      join(programs(), "pg_ctl"),
      "-D",
      this.#data,
      "-w",
      "-l",
      log,
      "-o",
      options,
      "start",
    ];
    const [code] = await once(spawn(command, rest, { stdio: "ignore" }), "exit");
    if (code !== 0) throw new Error(`PostgreSQL did not start: ${readFileSync(log, "utf8")}`);
  }

  /** `"immediate"` is what a crash is: nothing is written any more. */
  async stop(mode: "fast" | "immediate"): Promise<void> {
    await runAs("pg_ctl", "-D", this.#data, "-w", "-m", mode, "stop");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("immediate").catch(() => {}); // it may be stopped already
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.#directory, "data");
  }
}
