/**
 * What the source suite's tests stand on: a queue of their own, a sink that can be told what to answer, and waiting for
 * facts.
 *
 * @module
 */

import { sleep, systemClock } from "../../core/clock.ts";
import type { EventMap } from "../../core/hooks.ts";
import type { Outcome, RawDelivery, Sink, Source } from "../../core/source.ts";

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

  /** Runs a source over the queue. A failure of it is kept for who asks for `ended`. */
  run(wish: Partial<SourceWish> = {}): { readonly stop: () => Promise<void>; readonly ended: Promise<void> } {
    const source = this.subject.source({ provider: PROVIDER, ...wish });
    const stop = new AbortController();
    const ended = source.run(this.#sink, stop.signal, {
      clock: systemClock,
      random: () => 0.5,
      emit: (name, event) => void this.told.push({ name, event }),
    });
    ended.catch(() => {});
    this.#running.push({ stop, ended });
    return {
      ended,
      stop: async () => {
        stop.abort(new Error("the test stops the source"));
        await ended;
      },
    };
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
      if (systemClock.monotonic() > deadline) throw new Error(`waited in vain: ${what}`);
      await sleep(systemClock, LOOK_EVERY_MS);
    }
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
