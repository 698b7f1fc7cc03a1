/**
 * The way to Redis: what is asked for in one turn of the event loop is sent together, but for what workers wait for, and
 * nobody waits for ever.
 *
 * @module
 */

import type { Clock } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import type { Argument, RedisClient } from "./client.ts";
import { replyCode, storeError, timedOut } from "./failure.ts";
import type { Partition } from "./partition.ts";
import type { Script } from "./script.ts";

/** Longer than any script runs, and shorter than any lease should be. */
const ANSWER_TIMEOUT_MS = 10_000;

export interface LinkOptions {
  readonly clock: Clock;
  /** `"server"`: moments are those of the server's clock, whatever ours says. */
  readonly time: "server" | "clock";
  /** Where those are told who wait for work. */
  readonly channel: string;
  /** How many of an object's events are kept. */
  readonly maxEvents: number;
}

interface Call {
  readonly script: Script;
  readonly partition: Partition;
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: TrueupError) => void;
}

export class Link {
  readonly client: RedisClient;
  readonly #options: LinkOptions;
  #calls: Call[] = [];
  #underWay = new Set<Promise<unknown>>();
  #closed = false;

  constructor(client: RedisClient, options: LinkOptions) {
    this.client = client;
    this.#options = options;
  }

  /**
   * Runs a script on a partition. A failure says nothing about whether it ran, unless {@link isRefusal} says so.
   * @param extra the keys of things that have no fixed ones
   * @throws TrueupError `STORE_FAILED`, `STORE_FULL`
   */
  run(
    script: Script,
    partition: Partition,
    args: readonly Argument[],
    ...extra: readonly string[]
  ): Promise<unknown> {
    const { clock, time, channel, maxEvents } = this.#options;
    if (this.#closed) return Promise.reject(new TrueupError("STORE_FAILED", "the store is not open"));
    return new Promise((resolve, reject) => {
      const call: Call = {
        script,
        partition,
        keys: extra.length === 0 ? partition.keys : [...partition.keys, ...extra],
        args: [clock.now(), time, channel, maxEvents, ...args],
        resolve,
        reject,
      };
      if (script.urgent) return this.#watch(this.#sendAlone(call));
      if (this.#calls.length === 0) setImmediate(() => this.#send());
      this.#calls.push(call);
    });
  }

  /** Runs a command. */
  async command(name: string, ...args: Argument[]): Promise<unknown> {
    try {
      return await this.#inTime(this.client.call(name, ...args));
    } catch (error) {
      throw storeError(error);
    }
  }

  /** Waits for what is under way; refuses all else. */
  async close(): Promise<void> {
    this.#send();
    this.#closed = true;
    await Promise.all(this.#underWay);
  }

  #send(): void {
    const calls = this.#calls;
    this.#calls = [];
    const sent =
      this.client.isCluster === true ? calls.map((call) => this.#sendAlone(call)) : this.#sendTogether(calls);
    for (const answer of sent) this.#watch(answer);
  }

  #watch(answer: Promise<void>): void {
    const underWay = answer.finally(() => this.#underWay.delete(underWay));
    this.#underWay.add(underWay);
  }

  #sendAlone(call: Call): Promise<void> {
    return this.#settle(call, this.#inTime(this.client.evalsha(...wire(call))));
  }

  /** In one write to the socket. Nobody waits for another's answer. */
  #sendTogether(calls: readonly Call[]): Promise<void>[] {
    if (calls.length === 1) return calls.map((call) => this.#sendAlone(call));
    const pipeline = this.client.pipeline();
    const answers = calls.map((call) => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      const [digest, keyCount, ...args] = wire(call);
      pipeline.evalsha(digest, keyCount, ...args, (error, reply) => {
        if (error) reject(error);
        else resolve(reply);
      });
      return this.#settle(call, this.#inTime(promise));
    });
    pipeline.exec().catch(() => {}); // each call has heard for itself
    return answers;
  }

  async #settle(call: Call, sent: Promise<unknown>): Promise<void> {
    try {
      call.resolve(await sent);
    } catch (error) {
      if (replyCode(error) === "NOSCRIPT") await this.#sendText(call);
      else call.reject(storeError(error));
    }
  }

  /** The server does not know the script, or has forgotten it (a restart, a failover, SCRIPT FLUSH). */
  async #sendText(call: Call): Promise<void> {
    const [, keyCount, ...rest] = wire(call);
    try {
      call.resolve(await this.#inTime(this.client.eval(call.script.text, keyCount, ...rest)));
    } catch (error) {
      call.reject(storeError(error));
    }
  }

  async #inTime<T>(answer: Promise<T>): Promise<T> {
    let cancel = () => {};
    const late = new Promise<never>((_, reject) => {
      cancel = this.#options.clock.setTimer(() => reject(timedOut(ANSWER_TIMEOUT_MS)), ANSWER_TIMEOUT_MS);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      cancel();
    }
  }
}

/** Whether the server itself refused, so that it is certain that nothing was done. */
export function isRefusal(error: unknown): boolean {
  return error instanceof TrueupError && replyCode(error.cause) !== undefined;
}

function wire({ script, keys, args }: Call): [digest: string, keyCount: number, ...rest: Argument[]] {
  return [script.digest, keys.length, ...keys, ...args];
}
