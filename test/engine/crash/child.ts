/** A process that does what it is asked to by messages, and may die before it answers. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

type Answer = { readonly n: number; readonly value?: unknown; readonly error?: string };

export class Child<Ask extends { readonly ask: string }, Told extends string> {
  /** Resolves when the process has ended, however. */
  readonly ended: Promise<void>;
  /** Called with all that it tells. */
  onTold: (told: Told, value: unknown) => void = () => {};
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #heard = new Map<Told, PromiseWithResolvers<unknown>>();
  #asks = 0;

  /**
   * @param script below ../fixtures/
   * @param config its argument
   * @param cache where compiled code is kept: most of a short life is loading, and what the first one has compiled serves all
   */
  constructor(script: string, config: object, cache: string) {
    const path = fileURLToPath(new URL(`../fixtures/${script}`, import.meta.url));
    const env = { ...process.env, NODE_COMPILE_CACHE: cache };
    const execArgv = ["--disable-warning=ExperimentalWarning"];
    this.#process = fork(path, [JSON.stringify(config)], { execArgv, env });
    this.ended = once(this.#process, "exit").then(() => {});
    this.#process.on("message", (message: { readonly told: Told; readonly value?: unknown } | Answer) => {
      if ("n" in message) {
        this.#waiting.get(message.n)?.(message);
        return;
      }
      this.#hearing(message.told).resolve(message.value);
      this.onTold(message.told, message.value);
    });
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** What it answers; `undefined` when it dies before it does. */
  async ask<T>(ask: Ask): Promise<T | undefined> {
    this.#asks += 1;
    const n = this.#asks;
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(n, resolve));
    if (this.alive) this.#process.send({ ...ask, n }, () => {});
    const answer = await this.#unlessEnded(answered);
    this.#waiting.delete(n);
    if (answer?.error !== undefined) throw new Error(`${ask.ask}: ${answer.error}`);
    return answer?.value as T | undefined;
  }

  /** Resolves with what it told first; `undefined` when it ends before. */
  told(what: Told): Promise<unknown> {
    return this.#unlessEnded(this.#hearing(what).promise);
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#process.kill(name);
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.ended;
  }

  #hearing(told: Told): PromiseWithResolvers<unknown> {
    const known = this.#heard.get(told) ?? Promise.withResolvers<unknown>();
    this.#heard.set(told, known);
    return known;
  }

  #unlessEnded<T>(promise: Promise<T>): Promise<T | undefined> {
    return Promise.race([promise, this.ended.then(() => undefined)]);
  }
}
