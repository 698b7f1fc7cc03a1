import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Command, Commands, Message, SyncConfig } from "./sync-protocol.ts";

const PROGRAM = fileURLToPath(new URL("sync-process.ts", import.meta.url));
const ANSWER_WITHIN_MS = 60_000;

/** The parent's end of the syncing process: starts it, asks things of it, and kills it. */
export class SyncService {
  readonly #config: SyncConfig;
  readonly #onOutput: (line: string) => void;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #child: ChildProcess | undefined;
  #requests = 0;
  /** Of all the processes that there were, as far as they could tell. */
  readonly told = { unchanged: 0, coalesced: 0, lagging: 0 };
  /** Where it receives webhooks. Of a killed process: where it did. */
  url = "";

  /** @param onOutput receives each line that it writes */
  constructor(config: SyncConfig, onOutput: (line: string) => void) {
    this.#config = config;
    this.#onOutput = onOutput;
  }

  /** Resolves when it is ready for webhooks. */
  async start(): Promise<void> {
    const listening = Promise.withResolvers<string>();
    const child = fork(PROGRAM, [JSON.stringify(this.#config)], { silent: true });
    for (const output of [child.stdout, child.stderr])
      createInterface({ input: output! }).on("line", this.#onOutput);
    this.#child = child;
    child.on("message", (message: Message) => {
      if (message.kind === "listening") listening.resolve(message.url);
      else this.#hear(message);
    });
    child.once("exit", (code, signal) => {
      const error = new Error(`the syncing process ended (${signal ?? `status ${code}`})`);
      listening.reject(error);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    this.url = await listening.promise;
  }

  async ask<Name extends keyof Commands>(
    command: Command & { readonly name: Name },
  ): Promise<Commands[Name]["answer"]> {
    this.#requests += 1;
    const id = this.#requests;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    const timer = setTimeout(
      () => answer.reject(new Error(`no answer to "${command.name}"`)),
      ANSWER_WITHIN_MS,
    );
    try {
      this.#child?.send({ ...command, id });
      return (await answer.promise) as Commands[Name]["answer"];
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** SIGKILL: no handler runs, nothing is flushed, nothing is said. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  /** Lets it end its work and itself. */
  async stop(): Promise<void> {
    const ended = this.#child === undefined ? undefined : once(this.#child, "exit");
    await this.ask({ name: "stop" });
    await ended;
    this.#child = undefined;
  }

  #hear(message: Exclude<Message, { kind: "listening" }>): void {
    switch (message.kind) {
      case "answer":
        this.#waiting.get(message.id)?.resolve(message.answer);
        break;
      case "failure":
        this.#waiting.get(message.id)?.reject(new Error(message.message));
        break;
      case "unchanged":
        this.told.unchanged += 1;
        this.told.coalesced += Math.max(0, message.events - 1);
        break;
      case "lagging":
        this.told.lagging += 1;
        break;
    }
  }
}
