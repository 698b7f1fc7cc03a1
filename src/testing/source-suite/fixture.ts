/**
 * What the source suite's tests stand on: a queue of their own, a sink that can be told what to answer, and waiting for
 * facts.
 *
 * @module
 */

import { sleep, systemClock } from "../../core/clock.ts";
import type { EventMap } from "../../core/hooks.ts";
import type { Outcome, RawDelivery, Sink, Source, SourceEnvironment } from "../../core/source.ts";

/** A message to be put into the queue. */
export interface SentMessage {
  readonly body: Uint8Array;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** What the suite asks of the source that it is given. */
export interface SourceWish {
  readonly provider: string;
  readonly prefetch?: number | undefined;
  readonly maxBodyBytes?: number | undefined;
}

/** One queue at the broker, for one test: empty, and nobody else's. */
export interface SourceSubject {
  /** A source that consumes the queue; called again, another consumer of the same queue. */
  source(wish: SourceWish): Source;
  /** Publishes; resolves when the broker has the message. */
  send(message: SentMessage): Promise<void>;
  /** How many messages the broker still keeps for consumers, those in their hands included. */
  remaining(): Promise<number>;
  /** The bodies of the dead letters, in any order. */
  deadLetters(): Promise<readonly Uint8Array[]>;
  /** Breaks the consumers' connections, as a network would. What it would prove is skipped where absent. */
  cut?(): void | Promise<void>;
  /** Removes the queue, after the suite has stopped its sources. */
  dispose?(): void | Promise<void>;
}

export interface SourceSuiteOptions {
  create(): SourceSubject | Promise<SourceSubject>;
  /** Whether messages keep their headers. @default true */
  readonly keepsHeaders?: boolean | undefined;
  /** Whether bodies may be any bytes. False: texts only. @default true */
  readonly keepsBytes?: boolean | undefined;
  /** How long a test waits for a fact, in real milliseconds. @default 10_000 */
  readonly patienceMs?: number | undefined;
}

export const PROVIDER = "suite";
const PATIENCE_MS = 10_000;
const LOOK_EVERY_MS = 10;
const RESTART_AFTER_MS = 50;

export function outcome(status: Outcome["status"], rest: Partial<Outcome> = {}): Outcome {
  return { status, accepted: status === "accepted" ? 1 : 0, duplicates: 0, ignored: 0, ...rest };
}

/** One test's queue, and the sources that run over it. */
export class SourceTest {
  readonly subject: SourceSubject;
  readonly options: SourceSuiteOptions;
  /** What reached the sink, in order. */
  readonly seen: RawDelivery[] = [];
  readonly told: { readonly name: keyof EventMap; readonly event: unknown }[] = [];
  /** What becomes of a delivery. */
  become: (text: string, delivery: RawDelivery) => Outcome | Promise<Outcome> = () => outcome("accepted");
  #lastFailure: unknown;
  readonly #running: { readonly stop: AbortController; readonly ended: Promise<void> }[] = [];

  private constructor(subject: SourceSubject, options: SourceSuiteOptions) {
    this.subject = subject;
    this.options = options;
  }

  static async start(options: SourceSuiteOptions): Promise<SourceTest> {
    return new SourceTest(await options.create(), options);
  }

  get #patienceMs(): number {
    return this.options.patienceMs ?? PATIENCE_MS;
  }

  /** Bodies that reached the sink, as text. */
  get texts(): string[] {
    return this.seen.map(({ delivery }) => Buffer.from(delivery.body).toString());
  }

  readonly send = async (...texts: readonly string[]): Promise<void> => {
    for (const text of texts) await this.subject.send({ body: Buffer.from(text) });
  };

  /** Runs a source over the queue, and again when it fails, as an engine does. */
  run(wish: Partial<SourceWish> = {}): { readonly stop: () => Promise<void> } {
    const source = this.subject.source({ provider: PROVIDER, ...wish });
    const stop = new AbortController();
    const ended = this.#keepRunning(source, stop.signal);
    this.#running.push({ stop, ended });
    return {
      stop: async () => {
        stop.abort(new Error("the test stops the source"));
        await ended;
      },
    };
  }

  async #keepRunning(source: Source, signal: AbortSignal): Promise<void> {
    const emit: SourceEnvironment["emit"] = (name, event) => void this.told.push({ name, event });
    while (!signal.aborted) {
      try {
        await source.run(this.#sink, signal, { clock: systemClock, random: () => 0.5, emit });
        if (!signal.aborted) throw new Error("the source ended by itself");
      } catch (error) {
        this.#lastFailure = error;
        await sleep(systemClock, RESTART_AFTER_MS, signal).catch(() => {});
      }
    }
  }

  readonly #sink: Sink = async (deliveries) =>
    Promise.all(
      (deliveries as readonly RawDelivery[]).map(async (raw) => {
        this.seen.push(raw);
        return this.become(Buffer.from(raw.delivery.body).toString(), raw);
      }),
    );

  /** Waits until something is so. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = systemClock.monotonic() + this.#patienceMs;
    while (!(await holds())) {
      if (systemClock.monotonic() > deadline) throw this.#inVain(what);
      await sleep(systemClock, LOOK_EVERY_MS);
    }
  }

  #inVain(what: string): Error {
    return new Error(`waited in vain: ${what}`, { cause: this.#lastFailure });
  }

  /** Waits until the broker keeps so many messages. */
  async untilRemaining(count: number): Promise<void> {
    await this.until(`the queue should keep ${count} messages`, async () => {
      return (await this.subject.remaining()) === count;
    });
  }

  async end(): Promise<void> {
    for (const { stop } of this.#running) stop.abort(new Error("the test is over"));
    const ended = Promise.allSettled(this.#running.map((source) => source.ended));
    // What a failed test left waiting in its sink keeps no source from being given up.
    const late = new AbortController();
    await Promise.race([ended, sleep(systemClock, this.#patienceMs, late.signal).catch(() => {})]);
    late.abort();
    await this.subject.dispose?.();
  }
}
