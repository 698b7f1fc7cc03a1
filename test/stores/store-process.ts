import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("fixtures/store-process.ts", import.meta.url));

interface Message {
  readonly result?: unknown;
  readonly error?: { readonly code?: string; readonly message: string };
  readonly told?: readonly string[];
}

/** A store in a process of its own. */
export class StoreProcess {
  readonly #child: ChildProcess;
  readonly told: string[] = [];
  #answer: ((message: Message) => void) | undefined;
  #toldListener = () => {};

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (message: Message) => {
      if (message.told === undefined) this.#answer?.(message);
      else this.told.push(...message.told);
      this.#toldListener();
    });
  }

  static async start(path: string): Promise<StoreProcess> {
    const process = new StoreProcess(
      fork(script, [path], { execArgv: ["--disable-warning=ExperimentalWarning"] }),
    );
    await process.#next();
    return process;
  }

  async call<T>(call: string, argument?: unknown): Promise<T> {
    const answer = this.#next();
    this.#child.send({ call, argument });
    const { result, error } = await answer;
    if (error !== undefined) throw Object.assign(new Error(error.message), { code: error.code });
    return result as T;
  }

  /** Asks for what never ends. */
  begin(call: string, argument?: unknown): void {
    this.#child.send({ call, argument });
  }

  /** Waits until it has told of so many. */
  async toldOf(count: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#toldListener = () => {
        if (this.told.length >= count) resolve();
      };
      this.#toldListener();
    });
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(name);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #next(): Promise<Message> {
    return await new Promise((resolve, reject) => {
      const died = () => reject(new Error("the process ended without an answer"));
      this.#child.once("exit", died);
      this.#answer = (message) => {
        this.#child.off("exit", died);
        resolve(message);
      };
    });
  }
}
