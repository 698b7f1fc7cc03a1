import { TrueupError, type Clock } from "trueup";
import type { QueueConnection, QueueDriver } from "../../../src/sources/queue/driver.ts";
import { type MemoryMessage, MemoryQueue } from "../../sources/queue/memory-queue.ts";
import type { Dice } from "./dice.ts";
import type { Life } from "./life.ts";

export type Driver = QueueDriver<MemoryMessage>;
type Connection = QueueConnection<MemoryMessage>;

/** For how long a message is whose it was given to. */
const MESSAGE_LEASE_MS = 20_000;

export interface BrokerOptions {
  readonly dice: Dice;
  /** How likely a call of it fails. Changes when the faults end. */
  readonly failure: () => number;
  /** Whether the store has said of an event that it is recorded. */
  readonly isRecorded: (event: string) => boolean;
  readonly violated: (what: string) => void;
}

/**
 * A broker that the provider's webhooks go through, where the scenario has one. It outlives the processes.
 *
 * I8: a process acks what is recorded, and only while the message is its own.
 */
export class Broker {
  readonly #options: BrokerOptions;
  readonly #queue: MemoryQueue;
  readonly #events = new Map<string, string>();
  readonly #extends: boolean;

  constructor(clock: Clock, options: BrokerOptions) {
    const { dice } = options;
    this.#options = options;
    this.#extends = dice.chance(0.5);
    this.#queue = new MemoryQueue(clock, {
      leaseMs: MESSAGE_LEASE_MS,
      delays: dice.chance(0.5),
      extends: this.#extends,
      batch: dice.between(1, 4),
    });
  }

  /** Messages that nobody has acked. */
  get waiting(): number {
    return this.#queue.stored.size;
  }

  /** What was given up: nothing, where nothing is wrong with the messages. */
  get dead(): readonly string[] {
    return this.#queue.dead.map(({ id, reason }) => `${this.#events.get(id)}: ${reason}`);
  }

  send(event: string, body: string): void {
    const id = `message_${this.#events.size}`;
    this.#events.set(id, event);
    this.#queue.send(id, body);
  }

  /** All connections break, and what they held is free. */
  cut(): void {
    this.#queue.cut();
  }

  /** The client of one process. */
  driver(life: Life): Driver {
    return {
      connect: (environment) =>
        life.act("broker connect", async () => {
          this.#mayFail();
          return this.#mortal(life, await this.#queue.connect(environment));
        }),
    };
  }

  #mortal(life: Life, own: Connection): Connection {
    /** Until when each message is this process's own, by its delivery. */
    const until = new Map<number, number>();
    const told = (what: string, message: MemoryMessage, tell: () => Promise<void>) => {
      if (life.clock.monotonic() >= (until.get(message.delivery) ?? Infinity))
        this.#options.violated(`${life.name}: ${what} of ${message.id}, which was not its own any more`);
      return life.act(what, async () => {
        this.#mayFail();
        await tell();
      });
    };
    return {
      ...own,
      receive: (limit, signal) =>
        life.act("receive", async () => {
          const messages = await own.receive(limit, signal);
          for (const { delivery, takenAt } of messages) until.set(delivery, takenAt + MESSAGE_LEASE_MS);
          return messages;
        }),
      ack: (message) => {
        const event = this.#events.get(message.id ?? "");
        if (event !== undefined && !this.#options.isRecorded(event))
          this.#options.violated(`${life.name} acks ${event}, which is not recorded`);
        return told("ack", message, () => own.ack(message));
      },
      nack: (message, nack) => told("nack", message, () => own.nack(message, nack)),
      reject: (message, reason) => told("reject", message, () => own.reject(message, reason)),
      ...(this.#extends
        ? {
            extend: (message: MemoryMessage) => {
              const askedAt = life.clock.monotonic();
              return life.act("extend", async () => {
                this.#mayFail();
                await own.extend?.(message);
                until.set(message.delivery, askedAt + MESSAGE_LEASE_MS);
              });
            },
          }
        : undefined),
      close: () => life.act("broker close", () => own.close()),
    };
  }

  #mayFail(): void {
    if (this.#options.dice.chance(this.#options.failure()))
      throw new TrueupError("NETWORK", "the simulated broker did not answer");
  }
}
