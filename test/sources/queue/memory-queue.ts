import { sleep, type Clock } from "../../../src/core/clock.ts";
import { TrueupError } from "../../../src/core/errors.ts";
import { abortable } from "../../../src/core/abortable.ts";
import type {
  DriverEnvironment,
  Nack,
  QueueConnection,
  QueueDriver,
  QueueMessage,
} from "../../../src/sources/queue/driver.ts";

interface Stored {
  readonly id: string;
  readonly body: Uint8Array;
  readonly headers: ReadonlyMap<string, string | readonly string[]>;
  deliveries: number;
  visibleAt: number;
  /** The delivery that may settle it. */
  holder: number;
}

export interface MemoryMessage extends QueueMessage {
  readonly delivery: number;
}

export interface MemoryQueueOptions {
  readonly leaseMs?: number | undefined;
  readonly waits?: boolean;
  readonly delays?: boolean;
  readonly extends?: boolean;
  readonly batch?: number;
}

/** A broker in memory, on the test's clock, that can be made to fail. */
export class MemoryQueue implements QueueDriver<MemoryMessage> {
  readonly stored = new Map<string, Stored>();
  readonly dead: { readonly id: string; readonly reason: string }[] = [];
  /** What was called, in order: `receive 3`, `ack m_1`, … */
  readonly calls: string[] = [];
  /** Called before each call is obeyed; may wait or throw. */
  before: (call: string) => void | Promise<void> = () => {};
  connects = 0;
  readonly clock: Clock;
  readonly #options: MemoryQueueOptions;
  #deliveries = 0;
  #lost: Error | undefined;
  #arrived = Promise.withResolvers<void>();

  constructor(clock: Clock, options: MemoryQueueOptions = {}) {
    this.clock = clock;
    this.#options = options;
  }

  send(
    id: string,
    body: string | Uint8Array = JSON.stringify({ id }),
    headers: Readonly<Record<string, string | readonly string[]>> = {},
  ): void {
    this.stored.set(id, {
      id,
      body: typeof body === "string" ? Buffer.from(body) : body,
      headers: new Map(Object.entries(headers)),
      deliveries: 0,
      visibleAt: 0,
      holder: 0,
    });
    this.#wake();
  }

  /** The connection breaks: all calls fail until the next `connect`, and what was held is free again. */
  cut(error: Error = new TrueupError("NETWORK", "the broker hung up")): void {
    this.#lost = error;
    for (const message of this.stored.values()) this.#free(message);
    this.#wake();
  }

  #free(message: Stored): void {
    message.holder = 0;
    message.visibleAt = 0;
  }

  #wake(): void {
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers<void>();
  }

  async connect({ clock }: DriverEnvironment): Promise<QueueConnection<MemoryMessage>> {
    await this.#called("connect");
    this.connects += 1;
    this.#lost = undefined;
    const { batch = 10, delays = true, leaseMs, waits = true } = this.#options;
    const owned = (message: MemoryMessage): Stored => {
      if (this.#lost !== undefined) throw this.#lost;
      const stored = this.stored.get(message.id ?? "");
      if (stored?.holder !== message.delivery) throw new TrueupError("LEASE_LOST", "held by another");
      return stored;
    };
    const settled = async (call: string, message: MemoryMessage, then: (stored: Stored) => void) => {
      await this.#called(`${call} ${message.id}`);
      then(owned(message));
    };
    return {
      leaseMs,
      waits,
      delays,
      batch,
      receive: async (limit, signal) => {
        await this.#called(`receive ${limit}`);
        for (;;) {
          if (this.#lost !== undefined) throw this.#lost;
          if (signal.aborted) return [];
          const found = this.#take(limit, clock);
          if (found.length > 0 || !waits) return found;
          await this.#wait(clock, signal);
        }
      },
      ack: (message) => settled("ack", message, ({ id }) => this.stored.delete(id)),
      nack: (message, { delayMs }: Nack) =>
        settled(`nack ${delayMs}`, message, (stored) => {
          this.#free(stored);
          if (delays) stored.visibleAt = clock.monotonic() + delayMs;
          this.#wake();
        }),
      reject: (message, reason) =>
        settled("reject", message, ({ id }) => {
          this.stored.delete(id);
          this.dead.push({ id, reason });
        }),
      ...(this.#options.extends === true
        ? {
            extend: (message: MemoryMessage) =>
              settled("extend", message, (stored) => {
                stored.visibleAt = clock.monotonic() + (leaseMs ?? 0);
              }),
          }
        : undefined),
      close: async () => void this.calls.push("close"),
    };
  }

  /** Until something arrives or becomes visible again. */
  async #wait(clock: Clock, signal: AbortSignal): Promise<void> {
    const hidden = [...this.stored.values()].map(({ visibleAt }) => visibleAt - clock.monotonic());
    const next = Math.min(...hidden.filter((ms) => ms > 0));
    const over = new AbortController();
    const timer =
      next === Infinity ? [] : [sleep(clock, next, AbortSignal.any([signal, over.signal])).catch(() => {})];
    await Promise.race([abortable(this.#arrived.promise, signal).catch(() => {}), ...timer]);
    over.abort();
  }

  async #called(call: string): Promise<void> {
    this.calls.push(call);
    await this.before(call);
  }

  #take(limit: number, clock: Clock): MemoryMessage[] {
    const now = clock.monotonic();
    const taken: MemoryMessage[] = [];
    for (const message of this.stored.values()) {
      if (taken.length === limit) break;
      if (message.visibleAt > now || (message.holder !== 0 && this.#options.leaseMs === undefined)) continue;
      message.deliveries += 1;
      message.holder = this.#deliveries += 1;
      message.visibleAt = now + (this.#options.leaseMs ?? 0);
      const { body, deliveries, headers, holder, id } = message;
      taken.push({ id, body, headers, attempt: deliveries, takenAt: now, delivery: holder });
    }
    return taken;
  }
}
