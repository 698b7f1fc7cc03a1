import type { Delivery } from "./traffic.ts";

/** GitHub gives a receiver ten seconds, and never tries again. */
const TIMEOUT_MS = 10_000;

/** What became of the requests, as the sender saw it: no crash at the other end can falsify these numbers. */
export interface CourierLedger {
  sent: number;
  /** Nobody answered, or not with success. Nobody will send it again. */
  lost: number;
  /** Events that the receiver took for repetitions. */
  duplicates: number;
  /** Deliveries about things that the receiver does not keep. */
  ignored: number;
}

/** Brings deliveries to a receiver, a few at a time. */
export class Courier {
  readonly ledger: CourierLedger = { sent: 0, lost: 0, duplicates: 0, ignored: 0 };
  readonly #underWay = new Set<Promise<void>>();
  readonly #concurrency: number;

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  /** Resolves when there is room for the next one. */
  async send(url: string, delivery: Delivery): Promise<void> {
    this.ledger.sent += 1;
    const way = this.#send(url, delivery).finally(() => this.#underWay.delete(way));
    this.#underWay.add(way);
    if (this.#underWay.size >= this.#concurrency) await Promise.race(this.#underWay);
  }

  async finish(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #send(url: string, { headers, body }: Delivery): Promise<void> {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(url, { method: "POST", headers, body, signal });
      const answer = (await response.json()) as { status: string; duplicates: number };
      if (!response.ok) throw new Error(`answered ${response.status}`);
      this.ledger.duplicates += answer.duplicates;
      if (answer.status === "ignored") this.ledger.ignored += 1;
    } catch {
      this.ledger.lost += 1;
    }
  }
}
