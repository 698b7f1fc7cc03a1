import { fork, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { World } from "./world.ts";

const NODE_FLAGS = ["--disable-warning=ExperimentalWarning"];

/** A worker whose handler counts its effects, in a process that can be killed (see fixtures/effects-process.ts). */
export class EffectsProcess {
  readonly #child: ChildProcess;
  #effects = 0;
  #listener = () => {};

  constructor(path: string, baseUrl: string, how: "commit" | "hold" | "beside") {
    const script = fileURLToPath(new URL("fixtures/effects-process.ts", import.meta.url));
    this.#child = fork(script, [path, baseUrl, how], { execArgv: NODE_FLAGS });
    this.#child.on("message", () => {
      this.#effects += 1;
      this.#listener();
    });
    onTestFinished(() => this.kill());
  }

  /** Resolves once it has told of so many effects; rejects when it ends before. */
  toldOf(count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#child.once("exit", () => reject(new Error("the process ended by itself")));
      this.#listener = () => {
        if (this.#effects >= count) resolve();
      };
      this.#listener();
    });
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}

/** Answers take up to this long, so that a process that is killed has work of all stages under way. */
const ANSWER_MS = 40;

/** The API of a world, for other processes. */
export async function serve(world: World): Promise<string> {
  const server = createServer((request, response) => {
    const note = world.notes.get(request.url?.split("/").at(-1) ?? "");
    response.writeHead(note === undefined ? 404 : 200, { "content-type": "application/json" });
    setTimeout(() => response.end(JSON.stringify(note ?? {})), Math.random() * ANSWER_MS);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** Runs fixtures/tick-process.ts to its own end, and gives back what it said. */
export async function runTickProcess(
  path: string,
  what: "tick" | "start" | "stop",
): Promise<{ readonly handled: string[]; readonly timers: number }> {
  const script = fileURLToPath(new URL("fixtures/tick-process.ts", import.meta.url));
  const child = spawn(process.execPath, [...NODE_FLAGS, script, path, what], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`the process ended with ${code}: ${said}`);
  return JSON.parse(said) as { handled: string[]; timers: number };
}
