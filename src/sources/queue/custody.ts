/**
 * One message from its arrival until the broker knows what became of it.
 *
 * @module
 */

import { sleep } from "../../core/clock.ts";
import { TrueupError } from "../../core/errors.ts";
import { asError, backoff } from "../../core/retry.ts";
import type { Outcome, SourceEnvironment } from "../../core/source.ts";
import type { QueueConnection, QueueMessage } from "./driver.ts";

/** What the broker is to be told. */
export type Settling =
  | { readonly kind: "ack" }
  | { readonly kind: "reject"; readonly reason: string }
  | { readonly kind: "nack"; readonly reason: string; readonly delayMs: number };

/** Why the broker was not told. */
export interface Unsettled {
  readonly reason: "stale" | "lease-lost" | "failed";
  readonly error: Error | undefined;
}

/** The part of a lease that is left unused: the broker's clock began earlier, and an answer takes its time. */
const LEASE_MARGIN = 0.1;
/** A lease is begun anew after this part of it. */
const EXTEND_AFTER = 0.4;
const RETRY = { attempts: 4, minDelayMs: 100, maxDelayMs: 2_000 };
const RETRY_AFTER_MS = 5_000;
const MAX_NACK_DELAY_MS = 300_000;
/** A message that the consumer holds in place of the broker takes up room here. */
const MAX_HOLD_MS = 60_000;
/** Of what is left of a lease that cannot be extended: the rest is for giving it back. */
const HELD_PART = 0.8;
const MAX_REASON_LENGTH = 200;

/** Decides what a broker is told. Repeated failures of one message come back ever later. */
export function settlingOf(outcome: Outcome, attempt = 1): Settling {
  switch (outcome.status) {
    case "accepted":
    case "duplicate":
    case "ignored":
      return { kind: "ack" };
    case "rejected":
      return { kind: "reject", reason: reasonOf(outcome.error) };
    case "retry": {
      const reason = reasonOf(outcome.error);
      // We are stopping: somebody who is not may have it at once.
      if (codeOf(outcome.error) === "STOPPED") return { kind: "nack", reason, delayMs: 0 };
      const delayMs = (outcome.retryAfterMs ?? RETRY_AFTER_MS) * 2 ** Math.min(Math.max(attempt - 1, 0), 10);
      return { kind: "nack", reason, delayMs: Math.min(delayMs, MAX_NACK_DELAY_MS) };
    }
  }
}

/** A code and our own words; texts of others may have secrets in them (I12). */
export function reasonOf(error: Error | undefined): string {
  if (!(error instanceof TrueupError)) return error?.name ?? "UNKNOWN";
  return `${codeOf(error)}: ${error.message}`.slice(0, MAX_REASON_LENGTH);
}

function codeOf(error: Error | undefined): string | undefined {
  return error instanceof TrueupError ? (error as TrueupError).code : undefined;
}

export class Custody {
  readonly message: QueueMessage;
  readonly #connection: QueueConnection;
  readonly #environment: SourceEnvironment;
  readonly #leaseMs: number;
  #ownUntil: number;
  #lost: Error | undefined;
  #cancelExtension = (): void => {};
  #ended = false;

  constructor(message: QueueMessage, connection: QueueConnection, environment: SourceEnvironment) {
    this.message = message;
    this.#connection = connection;
    this.#environment = environment;
    this.#leaseMs = connection.leaseMs ?? Infinity;
    this.#ownUntil = message.takenAt + this.#leaseMs * (1 - LEASE_MARGIN);
  }

  /** Whether the broker may have given the message to somebody else. */
  get isLost(): boolean {
    return this.#lost !== undefined || this.#environment.clock.monotonic() >= this.#ownUntil;
  }

  /** Keeps the lease alive until {@link end}, where the broker allows it. */
  keep(): void {
    if (this.#connection.extend === undefined || this.#leaseMs === Infinity) return;
    const takenAgoMs = this.#environment.clock.monotonic() - this.message.takenAt;
    this.#extendIn(Math.max(0, this.#leaseMs * EXTEND_AFTER - takenAgoMs));
  }

  #extendIn(delayMs: number): void {
    if (this.#ended) return;
    this.#cancelExtension = this.#environment.clock.setTimer(() => void this.#extend(), delayMs);
  }

  async #extend(): Promise<void> {
    const askedAt = this.#environment.clock.monotonic();
    try {
      await this.#connection.extend?.(this.message);
      this.#ownUntil = askedAt + this.#leaseMs * (1 - LEASE_MARGIN);
      this.#extendIn(this.#leaseMs * EXTEND_AFTER);
    } catch (thrown) {
      const error = asError(thrown);
      if (codeOf(error) === "LEASE_LOST") this.#lost = error;
      // Any other failure leaves the lease as it is, and there is some of it left to try again in.
      else if (!this.isLost) this.#extendIn(this.#leaseMs * LEASE_MARGIN);
    }
  }

  /** Stops keeping the lease. */
  end(): void {
    this.#ended = true;
    this.#cancelExtension();
  }

  /**
   * Tells the broker. A failure is tried again while the message is ours; whatever fails, local work stands (I8).
   * @param stop ends waiting: what was to be held for a while goes back at once, and what failed is tried again at once
   * @returns why the broker was not told, if it was not
   */
  async settle(settling: Settling, stop: AbortSignal): Promise<Unsettled | undefined> {
    const { clock, random } = this.#environment;
    if (settling.kind === "nack" && !this.#connection.delays) await this.#hold(settling.delayMs, stop);
    // An extension that overtakes a nack would keep the message from everybody.
    this.end();
    for (let attempt = 1; ; attempt += 1) {
      // A late ack could count for the delivery that another holds by now.
      if (this.isLost) return { reason: "lease-lost", error: this.#lost };
      try {
        await this.#tell(settling);
        return undefined;
      } catch (thrown) {
        const error = asError(thrown);
        if (codeOf(error) === "LEASE_LOST") return { reason: "lease-lost", error };
        if (attempt === RETRY.attempts) return { reason: "failed", error };
      }
      await sleep(clock, backoff(attempt, RETRY, random), stop).catch(() => {});
    }
  }

  async #tell(settling: Settling): Promise<void> {
    switch (settling.kind) {
      case "ack":
        return this.#connection.ack(this.message);
      case "nack":
        return this.#connection.nack(this.message, settling);
      case "reject":
        return this.#connection.reject(this.message, settling.reason);
    }
  }

  /** Waits in place of a broker that cannot, and never so long that the message is lost meanwhile. */
  async #hold(delayMs: number, stop: AbortSignal): Promise<void> {
    const { clock } = this.#environment;
    const kept = this.#connection.extend !== undefined;
    const leftMs = kept ? MAX_HOLD_MS : HELD_PART * (this.#ownUntil - clock.monotonic());
    const holdMs = Math.min(delayMs, MAX_HOLD_MS, leftMs);
    if (holdMs > 0) await sleep(clock, holdMs, stop).catch(() => {});
  }
}
