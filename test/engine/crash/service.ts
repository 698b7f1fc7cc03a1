/** A service of its own process, as its parent holds it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Aim } from "./failpoints.ts";
import type { CrashStoreName } from "./stores.ts";

export interface CrashConfig {
  readonly store: CrashStoreName;
  readonly path: string;
  /** Where the tables of the handler are. */
  readonly copy: string;
  /** The provider's base URL. */
  readonly api: string;
  readonly leaseMs: number;
  /** Where compiled code is kept. */
  readonly cache: string;
  readonly aim?: Aim | undefined;
}

export type Ask =
  | { readonly ask: "aim"; readonly aim: Aim | undefined }
  | { readonly ask: "drain" | "reconcile" | "keepReconciling" }
  | { readonly ask: "index"; readonly ids: readonly string[] };

interface Told {
  readonly told: "listening" | "working" | "refused" | "late";
  readonly value?: unknown;
}

type Answer = { readonly n: number; readonly value?: unknown; readonly error?: string };

export class Service {
  /** Resolves when the process has ended, however. */
  readonly ended: Promise<void>;
  /** The codes with which commits were refused. */
  readonly refused: unknown[] = [];
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #heard = new Map<Told["told"], PromiseWithResolvers<unknown>>();
  #asks = 0;

  constructor(config: CrashConfig) {
    const script = fileURLToPath(new URL("../fixtures/crash-process.ts", import.meta.url));
    // Most of a short life is loading: what the first one has compiled serves all.
    const env = { ...process.env, NODE_COMPILE_CACHE: config.cache };
    const execArgv = ["--disable-warning=ExperimentalWarning"];
    this.#child = fork(script, [JSON.stringify(config)], { execArgv, env });
    this.ended = once(this.#child, "exit").then(() => {});
    this.#child.on("message", (message: Told | Answer) => {
      if ("n" in message) this.#waiting.get(message.n)?.(message);
      else if (message.told === "refused") this.refused.push(message.value);
      else this.#hearing(message.told).resolve(message.value);
    });
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Where it takes webhooks; `undefined` when it died before. */
  get port(): Promise<number | undefined> {
    return this.#unlessEnded(this.#hearing("listening").promise as Promise<number>);
  }

  /** Resolves once it has the right to work; false when it died before. */
  get working(): Promise<boolean> {
    return this.#unlessEnded(this.#hearing("working").promise.then(() => true)).then(
      (works) => works ?? false,
    );
  }

  /** What it answers; `undefined` when it dies before it does. */
  async ask<T>(ask: Ask): Promise<T | undefined> {
    this.#asks += 1;
    const n = this.#asks;
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(n, resolve));
    if (this.alive) this.#child.send({ ...ask, n }, () => {});
    const answer = await this.#unlessEnded(answered);
    this.#waiting.delete(n);
    if (answer?.error !== undefined) throw new Error(`${ask.ask}: ${answer.error}`);
    return answer?.value as T | undefined;
  }

  /** Resolves once it has told; also when it ends. */
  async told(what: Told["told"]): Promise<void> {
    await this.#unlessEnded(this.#hearing(what).promise);
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(name);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  #hearing(told: Told["told"]): PromiseWithResolvers<unknown> {
    const known = this.#heard.get(told) ?? Promise.withResolvers<unknown>();
    this.#heard.set(told, known);
    return known;
  }

  #unlessEnded<T>(promise: Promise<T>): Promise<T | undefined> {
    return Promise.race([promise, this.ended.then(() => undefined)]);
  }
}
