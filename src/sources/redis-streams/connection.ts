/**
 * A consumer of a Redis stream's group: reads what is new, claims what others left behind, and settles what it holds.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import { batcher } from "../../core/batcher.ts";
import type { Clock } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import type { QueueConnection, QueueMessage } from "../queue/driver.ts";
import { REASON_HEADER } from "../queue/envelope.ts";
import { BODY_FIELD, type Entry, entryOf, HEADER_PREFIX, type Link } from "./broker.ts";
import { ACK, LEAVE, REJECT, TOUCH, TRIM } from "./scripts.ts";

export interface StreamMessage extends QueueMessage {
  readonly entry: Entry;
  readonly deliveries: number;
}

/** How long one read waits, and how often is looked for what others left behind. */
const BLOCK_MS = 1_000;
const TRIM_EVERY_MS = 60_000;
const TRIM_EVERY_ACKS = 1_000;
const ACKS_AT_ONCE = 256;
/** Names and values of an entry that a script can hand on at once. Of one with more, the body is the dead letter. */
const MOST_COPIED = 4_000;

export interface GroupSettings {
  readonly stream: string;
  readonly group: string;
  readonly leaseMs: number;
  readonly dead: string;
  readonly maxDeadLetters: number;
  readonly trim: boolean;
  readonly prefetch: number;
}

export class StreamConnection implements QueueConnection<StreamMessage> {
  readonly leaseMs: number;
  readonly waits = true;
  readonly delays = true;
  readonly batch: number;
  readonly #reader: Link;
  readonly #control: Link;
  readonly #clock: Clock;
  readonly #settings: GroupSettings;
  /** Of this connection alone: who connects anew is another, and claims what this one held. */
  readonly #consumer = `trueup-${randomUUID()}`;
  #readerId: unknown;
  #cursor = "0-0";
  #claimsAt = Number.NEGATIVE_INFINITY;
  #trimsAt: number;
  #acks = 0;
  #lost: TrueupError | undefined;

  constructor(reader: Link, control: Link, clock: Clock, settings: GroupSettings) {
    this.#reader = reader;
    this.#control = control;
    this.#clock = clock;
    this.#settings = settings;
    this.leaseMs = settings.leaseMs;
    this.batch = settings.prefetch;
    this.#trimsAt = clock.monotonic() + TRIM_EVERY_MS;
    for (const { lost } of [reader, control]) void lost.then((error) => (this.#lost ??= error));
  }

  async receive(limit: number, signal: AbortSignal): Promise<readonly StreamMessage[]> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#clock.monotonic() >= this.#claimsAt) {
      const claimed = await this.#claim(limit);
      if (claimed.length > 0) return claimed;
    }
    return await this.#read(limit, signal);
  }

  /** What dead consumers held, and what was given back: it has been left alone for longer than a lease. */
  async #claim(limit: number): Promise<StreamMessage[]> {
    const { group, leaseMs, stream } = this.#settings;
    const [cursor, entries] = (await this.#control.command(
      "XAUTOCLAIM",
      stream,
      group,
      this.#consumer,
      leaseMs,
      this.#cursor,
      "COUNT",
      limit,
    )) as readonly [Buffer, readonly unknown[]];
    this.#cursor = cursor.toString();
    // To its end before it is left alone for a while.
    if (this.#cursor === "0-0") this.#claimsAt = this.#clock.monotonic() + BLOCK_MS;
    const takenAt = this.#clock.monotonic();
    const found = entries.flatMap((entry) => entryOf(entry) ?? []);
    return await Promise.all(
      found.map(async (entry) => message(entry, await this.#deliveriesOf(entry.id), takenAt)),
    );
  }

  async #deliveriesOf(id: string): Promise<number> {
    const { group, stream } = this.#settings;
    const [held] = (await this.#control.command("XPENDING", stream, group, id, id, 1)) as readonly [
      (readonly unknown[])?,
    ];
    return Number(held?.[3] ?? 1);
  }

  async #read(limit: number, signal: AbortSignal): Promise<StreamMessage[]> {
    const { group, stream } = this.#settings;
    this.#readerId ??= await this.#reader.command("CLIENT", "ID");
    if (signal.aborted) return [];
    // A read that is let go returns as if its time were up: nothing that is on its way gets lost.
    const letGo = () =>
      void this.#control.command("CLIENT", "UNBLOCK", Number(this.#readerId)).catch(() => {});
    signal.addEventListener("abort", letGo, { once: true });
    try {
      const from = ["COUNT", limit, "BLOCK", BLOCK_MS, "STREAMS", stream, ">"] as const;
      const reply = await this.#reader.command("XREADGROUP", "GROUP", group, this.#consumer, ...from);
      const takenAt = this.#clock.monotonic();
      const [[, entries] = []] = (reply ?? []) as readonly [(readonly [unknown, readonly unknown[]])?];
      return (entries ?? [])
        .flatMap((entry) => entryOf(entry) ?? [])
        .map((entry) => message(entry, 1, takenAt));
    } finally {
      signal.removeEventListener("abort", letGo);
    }
  }

  async ack(given: StreamMessage): Promise<void> {
    if (!(await this.#ack(given))) throw leaseLost();
    await this.#trimSometimes();
  }

  /** Acks of one turn of the event loop are one step in Redis. */
  readonly #ack = batcher(async (messages: StreamMessage[]) => {
    const { group, stream } = this.#settings;
    const entries = messages.flatMap(({ deliveries, entry }) => [entry.id, deliveries]);
    const acked = await this.#control.command("EVAL", ACK, 1, stream, group, this.#consumer, ...entries);
    return (acked as readonly unknown[]).map((one) => Number(one) === 1);
  }, ACKS_AT_ONCE);

  async nack(given: StreamMessage, { delayMs }: { readonly delayMs: number }): Promise<void> {
    // As if it had been left alone for all but the delay, which therefore is a lease at most.
    await this.#settle(TOUCH, 1, given, [Math.max(0, this.leaseMs - delayMs)]);
  }

  async extend(given: StreamMessage): Promise<void> {
    await this.#settle(TOUCH, 1, given, [0]);
  }

  async reject(given: StreamMessage, reason: string): Promise<void> {
    const { body, fields } = given.entry;
    await this.#settle(REJECT, 2, given, [
      this.#settings.maxDeadLetters,
      ...(fields.length > MOST_COPIED ? [BODY_FIELD, body] : fields),
      HEADER_PREFIX + REASON_HEADER,
      reason,
    ]);
  }

  async #settle(
    script: string,
    keys: number,
    { deliveries, entry }: StreamMessage,
    rest: readonly (string | number | Uint8Array)[],
  ): Promise<void> {
    const { dead, group, stream } = this.#settings;
    const done = await this.#control.command(
      "EVAL",
      script,
      keys,
      stream,
      ...(keys === 2 ? [dead] : []),
      group,
      this.#consumer,
      entry.id,
      deliveries,
      ...rest,
    );
    if (Number(done) !== 1) throw leaseLost();
  }

  async #trimSometimes(): Promise<void> {
    this.#acks += 1;
    const due = this.#acks >= TRIM_EVERY_ACKS || this.#clock.monotonic() >= this.#trimsAt;
    if (!this.#settings.trim || !due) return;
    await this.#trimNow();
  }

  async #trimNow(): Promise<void> {
    this.#acks = 0;
    this.#trimsAt = this.#clock.monotonic() + TRIM_EVERY_MS;
    // What is not dropped now is dropped next time.
    await this.#control.command("EVAL", TRIM, 1, this.#settings.stream).catch(() => {});
  }

  async close(): Promise<void> {
    const { group, stream, trim } = this.#settings;
    await this.#reader.close();
    if (trim && this.#acks > 0) await this.#trimNow();
    await this.#control.command("EVAL", LEAVE, 1, stream, group, this.#consumer).catch(() => {});
    await this.#control.close();
  }
}

function leaseLost(): TrueupError<"LEASE_LOST"> {
  return new TrueupError("LEASE_LOST", "another consumer has claimed the entry");
}

function message(entry: Entry, deliveries: number, takenAt: number): StreamMessage {
  const publishedAt = Number(entry.id.split("-", 1)[0]);
  const { body, headers, id } = entry;
  return { id, headers, body, publishedAt, attempt: deliveries, takenAt, entry, deliveries };
}
