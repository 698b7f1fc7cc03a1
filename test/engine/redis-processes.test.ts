import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import { redisStore } from "trueup/redis";
import type { Store } from "../../src/core/store.ts";
import { entry, SCOPE } from "../../src/testing/store-suite/words.ts";
import { describeWith, serviceUrl } from "../services.ts";
import { newPrefix, opened, RedisServer, removeKeys } from "../stores/redis-fixture.ts";

const script = fileURLToPath(new URL("fixtures/redis-worker.ts", import.meta.url));

type Word = "ready" | "handling" | "handled" | "settled" | "lost";
type Message = Partial<Record<Word, string>>;

/** An engine in a process of its own. */
class WorkerProcess {
  readonly said: Message[] = [];
  readonly #child: ChildProcess;
  #listener = () => {};

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (message: Message) => {
      this.said.push(message);
      this.#listener();
    });
    onTestFinished(() => this.kill());
  }

  static async start(url: string, prefix: string, how = ""): Promise<WorkerProcess> {
    const flags = ["--disable-warning=ExperimentalWarning"];
    const worker = new WorkerProcess(fork(script, [url, prefix, how], { execArgv: flags }));
    await worker.until("ready");
    return worker;
  }

  idsOf(word: Word): string[] {
    return this.said.flatMap((message) => message[word] ?? []);
  }

  async until(word: Word, id?: string): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#listener = () => {
        if (this.said.some((message) => (id === undefined ? word in message : message[word] === id)))
          resolve();
      };
      this.#listener();
    });
  }

  /** Calls back with each message from now on. */
  onMessage(listener: () => void): void {
    this.#child.on("message", listener);
  }

  letGo(): void {
    this.#child.send("go");
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
}

async function shared(): Promise<{ store: Store; prefix: string }> {
  const prefix = newPrefix();
  const client = new Redis(serviceUrl("redis"));
  onTestFinished(async () => {
    await removeKeys(client, prefix);
    await client.quit();
  });
  return { store: await opened(redisStore({ url: serviceUrl("redis"), prefix })), prefix };
}

async function untilDone(store: Store, ids: readonly string[]): Promise<void> {
  for (;;) {
    const found = await store.lookup(SCOPE, ids).catch(() => []);
    if (found.length === ids.length && found.every((one) => one?.pending === false)) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describeWith("redis")("processes that share a store on Redis", { timeout: 60_000 }, () => {
  test("should take over from one that is killed, and lose nothing", async () => {
    const { store, prefix } = await shared();
    const workers = await Promise.all([1, 2, 3].map(() => WorkerProcess.start(serviceUrl("redis"), prefix)));
    const ids = Array.from({ length: 600 }, (_, i) => `o${i}`);
    const [victim, ...others] = workers;
    const handledTwenty = new Promise<void>((resolve) => {
      victim?.onMessage(() => {
        if (victim.idsOf("handled").length >= 20) resolve();
      });
    });
    const killed = handledTwenty.then(() => victim?.kill());
    for (let i = 0; i < ids.length; i += 20) {
      await store.append(ids.slice(i, i + 20).map((id) => entry(id, { eventId: id })));
    }
    await killed;
    await untilDone(store, ids);
    expect((await store.lookup(SCOPE, ids)).every((one) => one?.index?.state === "present")).toBe(true);
    const handled = workers.flatMap((worker) => worker.idsOf("handled"));
    expect(new Set(handled).size).toBe(600);
    expect(others.every((worker) => worker.idsOf("handled").length > 0)).toBe(true);
    expect((await store.counts())[0]).toMatchObject({ dirty: 0, leased: 0, dead: 0, present: 600 });
  });

  test("should write nothing after a sleep longer than the lease, and work on", async () => {
    const { store, prefix } = await shared();
    const sleeper = await WorkerProcess.start(serviceUrl("redis"), prefix, "hold-first");
    await store.append([entry("a", { eventId: "1" })]);
    await sleeper.until("handling", "a");
    sleeper.signal("SIGSTOP");
    const other = await WorkerProcess.start(serviceUrl("redis"), prefix);
    await other.until("settled", "a");
    const [after] = await store.lookup(SCOPE, ["a"]);
    sleeper.letGo();
    sleeper.signal("SIGCONT");
    await sleeper.until("lost", "a");
    expect((await store.lookup(SCOPE, ["a"]))[0]).toEqual(after);
    expect(sleeper.idsOf("settled")).toEqual([]);
    await other.kill();
    await store.append([entry("b", { eventId: "2" })]);
    await sleeper.until("settled", "b");
  });

  test("should go on by themselves after the server was restarted under them", async () => {
    const server = await RedisServer.start("--appendonly", "yes", "--appendfsync", "always");
    const store = await opened(redisStore({ url: server.url }));
    const workers = await Promise.all([1, 2].map(() => WorkerProcess.start(server.url, "trueup")));
    await store.append([entry("before")]);
    await untilDone(store, ["before"]);
    await server.kill();
    await server.start();
    for (;;) {
      const appended = await store.append([entry("after")]).catch(() => undefined);
      if (appended !== undefined) break;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await untilDone(store, ["before", "after"]);
    const handled = workers.flatMap((worker) => worker.idsOf("handled"));
    expect(new Set(handled)).toEqual(new Set(["before", "after"]));
  });
});
