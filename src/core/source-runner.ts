/**
 * Runs sources: each for as long as the engine runs, again with backoff when it fails.
 *
 * @module
 */

import { sleep, type Clock, type Random } from "./clock.ts";
import type { Hooks } from "./hooks.ts";
import { asError, backoff } from "./retry.ts";
import type { Sink, Source } from "./source.ts";

export interface SourceRunnerOptions {
  readonly sources: readonly Source[];
  readonly sink: Sink;
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
}

const RETRY = { attempts: Infinity, minDelayMs: 1_000, maxDelayMs: 60_000 };
/** A source that ran this long before it failed begins its backoff anew. */
const HEALTHY_MS = 60_000;

export class SourceRunner {
  readonly #options: SourceRunnerOptions;
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;

  constructor(options: SourceRunnerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= Promise.all(this.#options.sources.map((source) => this.#keepRunning(source)));
  }

  /** Aborts the sources' signal, and waits for them to end. */
  async stop(reason: Error): Promise<void> {
    this.#stop.abort(reason);
    await this.#running;
  }

  async #keepRunning(source: Source): Promise<void> {
    const { clock, hooks, random, sink } = this.#options;
    const { signal } = this.#stop;
    const environment = { clock, random, emit: hooks.emit.bind(hooks) } as const;
    for (let failures = 1; !signal.aborted; failures += 1) {
      const startedAt = clock.monotonic();
      let error: Error;
      try {
        await source.run(sink, signal, environment);
        if (signal.aborted) return;
        error = new Error(`source "${source.name}" ended by itself`);
      } catch (thrown) {
        if (signal.aborted) return;
        error = asError(thrown);
      }
      if (clock.monotonic() - startedAt > HEALTHY_MS) failures = 1;
      const retryInMs = backoff(failures, RETRY, random);
      hooks.emit("source.failed", { source: source.name, error, retryInMs });
      await sleep(clock, retryInMs, signal).catch(() => {});
    }
  }
}
