/**
 * The one loop that consumes every queue: fetch as much as there is room for, hand each message to the sink, tell the
 * broker what became of it.
 *
 * @module
 */

import { sleep } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import { asError, backoff } from "../../core/retry.ts";
import type { Outcome, Sink, SourceEnvironment } from "../../core/source.ts";
import { abortable } from "../../core/abortable.ts";
import { refusalCode, statusOf } from "../webhook/answer.ts";
import { Custody, settlingOf, type Unsettled } from "./custody.ts";
import type { QueueConnection, QueueDriver, QueueMessage } from "./driver.ts";
import { openMessage } from "./envelope.ts";
import { Idle } from "./idle.ts";
import type { QueueSettings } from "./options.ts";
import { Room } from "./room.ts";

/** While the sink takes nothing, each further look at it is later: random up to this, doubled each time. */
const BRAKE = { attempts: Infinity, minDelayMs: 500, maxDelayMs: 30_000 };

const NOTHING = { accepted: 0, duplicates: 0, ignored: 0 } as const;

export interface ConsumerOptions {
  readonly name: string;
  readonly driver: QueueDriver;
  readonly settings: QueueSettings;
  readonly environment: SourceEnvironment;
  readonly sink: Sink;
}

export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #room: Room;
  readonly #idle: Idle;
  readonly #working = new Set<Promise<void>>();
  /** How often in a row the sink could not take what it was given. */
  #refusals = 0;
  #braked = Promise.resolve();
  #isBraked = false;

  constructor(options: ConsumerOptions) {
    const { clock, random } = options.environment;
    this.#options = options;
    this.#room = new Room(options.settings.prefetch);
    this.#idle = new Idle(clock, random, options.settings.idle);
  }

  /**
   * Consumes until the signal aborts, and then until what is in work is settled.
   * @throws what the connection failed with, once what was in work is settled as far as that is possible
   */
  async run(signal: AbortSignal): Promise<void> {
    const { driver, environment, settings } = this.#options;
    if (signal.aborted) return;
    const { clock, random } = environment;
    const { maxBodyBytes, prefetch } = settings;
    const connecting = driver.connect({ clock, random, prefetch, maxBodyBytes }, signal);
    let connection: QueueConnection;
    try {
      connection = await abortable(connecting, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      // A broker that answers late finds nobody waiting.
      void connecting.then((late) => late.close()).catch(() => {});
      return;
    }
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    try {
      const pullers = Array.from({ length: settings.pullers }, () =>
        this.#pull(connection, stop).catch((error: unknown) => failed.abort(asError(error))),
      );
      await Promise.all(pullers);
    } finally {
      // Messages in work are ours until they are settled, whatever became of the wish for more.
      await Promise.all(this.#working);
      await connection.close();
    }
    if (!signal.aborted && failed.signal.aborted) throw failed.signal.reason;
  }

  async #pull(connection: QueueConnection, stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      await this.#waitForBrake(stop);
      const room = await this.#room.take(connection.batch, stop);
      if (stop.aborted) {
        this.#room.give(room);
        return;
      }
      let messages: readonly QueueMessage[] = [];
      try {
        messages = await connection.receive(room, stop);
      } catch (error) {
        if (stop.aborted) return;
        throw error;
      } finally {
        this.#room.give(room - messages.length);
      }
      if (messages.length > 0) this.#idle.found();
      for (const message of messages) this.#begin(message, connection, stop);
      if (messages.length === 0 && !connection.waits && !stop.aborted) await this.#idle.pause(stop);
    }
  }

  #begin(message: QueueMessage, connection: QueueConnection, stop: AbortSignal): void {
    const work = this.#handle(message, connection, stop).finally(() => {
      this.#working.delete(work);
      this.#room.give(1);
    });
    this.#working.add(work);
  }

  /** Never rejects. */
  async #handle(message: QueueMessage, connection: QueueConnection, stop: AbortSignal): Promise<void> {
    const custody = new Custody(message, connection, this.#options.environment);
    // Somebody else may have it by now; they may also ack it.
    if (custody.isLost) {
      this.#tellUnsettled(message, { reason: "stale", error: undefined });
      return;
    }
    custody.keep();
    try {
      const outcome = await this.#outcomeOf(message);
      if (outcome.status === "retry") this.#brake(stop);
      else this.#refusals = 0;
      const unsettled = await custody.settle(settlingOf(outcome, message.attempt), stop);
      if (unsettled !== undefined) this.#tellUnsettled(message, unsettled);
    } finally {
      custody.end();
    }
  }

  async #outcomeOf(message: QueueMessage): Promise<Outcome> {
    const { environment, settings, sink } = this.#options;
    const refusal = message.unreadable ?? this.#refusalOf(message);
    if (refusal !== undefined) return this.#refused(refusal);
    try {
      const { delivery, connection } = openMessage(message, environment.clock.now());
      const [outcome] = await sink([
        {
          provider: settings.provider,
          connection: settings.connection ?? connection,
          verify: settings.verify,
          delivery,
        },
      ]);
      return outcome ?? { status: "retry", ...NOTHING };
    } catch (thrown) {
      return { status: "retry", ...NOTHING, error: asError(thrown) };
    }
  }

  #refusalOf({ attempt = 1, body }: QueueMessage): TrueupError | undefined {
    const { maxBodyBytes, maxDeliveries } = this.#options.settings;
    if (body.byteLength > maxBodyBytes) {
      return new TrueupError(
        "BODY_TOO_LARGE",
        `a message of ${body.byteLength} bytes, where ${maxBodyBytes} are allowed`,
      );
    }
    // Whoever had it before did not live to say what is wrong with it.
    if (attempt > maxDeliveries) {
      return new TrueupError("ATTEMPTS_EXHAUSTED", `delivered ${attempt - 1} times, and never settled`);
    }
    return undefined;
  }

  #refused(error: TrueupError): Outcome {
    const code = refusalCode(error);
    this.#options.environment.emit("delivery.refused", {
      provider: this.#options.settings.provider,
      connection: this.#options.settings.connection,
      status: error.code === "ATTEMPTS_EXHAUSTED" ? 400 : statusOf(code),
      code: error.code,
      error,
    });
    return { status: "rejected", ...NOTHING, error };
  }

  #tellUnsettled({ id }: QueueMessage, unsettled: Unsettled): void {
    const { environment, name, settings } = this.#options;
    environment.emit("delivery.unsettled", { source: name, provider: settings.provider, id, ...unsettled });
  }

  /** The sink cannot take more now: what is fetched would only be given back. */
  #brake(stop: AbortSignal): void {
    if (this.#isBraked) return;
    const { clock, random } = this.#options.environment;
    this.#refusals += 1;
    this.#isBraked = true;
    this.#braked = sleep(clock, backoff(this.#refusals, BRAKE, random), stop)
      .catch(() => {})
      .finally(() => (this.#isBraked = false));
  }

  async #waitForBrake(stop: AbortSignal): Promise<void> {
    while (this.#isBraked && !stop.aborted) await this.#braked;
  }
}
